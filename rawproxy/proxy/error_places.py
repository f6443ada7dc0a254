"""An error leads to another place than to a page of ours: what an exchange does then.

    intercepted      an answer of the upstream that is such an error
    led              whatever is shown: a page of ours, or what stands in its place
    bodiless         the request for a page of the site: GET, without the body of the first one
    PageExchange     that request, and the status that the client sees

`routing.error_places` says where an error leads. This module never chooses a route. Invariant: the
body of a request goes to one upstream.
"""

from __future__ import annotations

from rawproxy.errors import ProxyError
from rawproxy.protocol.http import error_pages, rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead, has_no_body
from rawproxy.proxy.client_side import ClientSide
from rawproxy.routing.error_places import Place


class InterceptedError(ProxyError):
    """An error of the upstream, in whose place something else is shown."""

    def __init__(self, status: int, place: Place, lines: bytes) -> None:
        super().__init__("", status)
        self.place = place
        self.lines = lines


def intercepted(client: ClientSide, head: ResponseHead, whole: bool) -> InterceptedError | None:
    """The error that an upstream's answer is, if it leads to another place."""
    pages = client.route_target.pages
    if pages is None or not pages.intercepts:
        return None
    place = client.error_place(head.status, whole)
    if place is None:
        return None
    # As nginx does: without it, a browser could not sign in (RFC 9110 11.6.1).
    lines = head.block.split(rewrite.CRLF) if head.status == 401 else []
    kept = [one + rewrite.CRLF for one in lines if one.lower().startswith(b"www-authenticate:")]
    return InterceptedError(head.status, place, b"".join(kept))


def led(client: ClientSide, head: RequestHead, error: ProxyError, whole: bool) -> bool:
    """Show an error. True if another exchange goes on with the request, for a page of the site."""
    place: Place | None = None
    if isinstance(error, InterceptedError):
        place = error.place
    elif client.route_target.pages is not None:
        place = client.error_place(error.status, whole)
    if place is None:
        client.send_error(error)
        return False
    return client.show_place(place, error)


def bodiless(head: RequestHead, method: bytes) -> bytes:
    """A head for the same client and host, without a body and without a wish to upgrade."""
    cut = (b"content-length", b"transfer-encoding", b"content-type", b"expect", b"upgrade")
    block = rewrite.without(head.block, (*cut, b"connection", b"sec-websocket-key"))
    return b"%b / HTTP/1.%d\r\n%b\r\n" % (method, min(head.minor, 1), block)


def with_status(head: ResponseHead, status: int, lines: bytes) -> ResponseHead:
    """The head of a page, as the client sees it. `status` 0: its own."""
    if status:
        if has_no_body(head.status):  # as this status may have one, the client would wait for it
            lines += b"Content-Length: 0\r\n"
        line = b"HTTP/1.1 %d %b\r\n" % (status, error_pages.REASONS.get(status, b""))
        head = head._replace(status=status, line=line)
    return head._replace(block=head.block + lines) if lines else head
