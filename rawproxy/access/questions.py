"""From a request to the question that a guard is asked about it.

    GET /app?a=b HTTP/1.1         GET /outpost.goauthentik.io/auth/caddy HTTP/1.1
    Host: app.domain.tld     →    Host: app.domain.tld
    Cookie: …                     Cookie: …
                                  X-Forwarded-For, -Proto, -Host, -Method, -Uri

Every field of the client's goes along that tells who it is and what it wants: guards look at
cookies, at Authorization, at keys of their own. Left out is what would make the question another
one: what belongs to a body or a connection, conditions, ranges, and whatever the client says of
forwarding or of its own identity, in every spelling. The address is the client's own, behind
trusted proxies the one that they speak for, and no chain: whoever reads one from its wrong end
would believe a stranger.

The whole head is also what an answer may depend on, so it is the key of whoever remembers answers.
It never sends anything. Invariant: the target that is asked about is byte for byte the one that is
routed and forwarded; no field that frames or upgrades is in a question.
"""

from __future__ import annotations

from typing import Final

from rawproxy.access.rules import OAUTH2_PROXY, AuthRule
from rawproxy.config.field_names import plain
from rawproxy.protocol.http import forwarding, rewrite
from rawproxy.protocol.http.head import FORWARDED_FOR, TWIN, RequestHead
from rawproxy.protocol.http.rewrite import ClientContext, HeadEdits
from rawproxy.protocol.http.variable_values import Asked, Value

# Fields of the request that are none of the question (plain names), and families of them.
_CUT: Final = frozenset(
    b"content-length content-type content-encoding content-language content-location content-md5 "
    b"digest content-digest range if-match if-none-match if-modified-since if-unmodified-since "
    b"if-range max-forwards x-rewrite-url x-auth-request-redirect x-http-method-override".split()
)
_FAMILIES: Final = (b"sec-websocket-", b"x-original-", b"x-authelia-")
_SCHEMES: Final = (b"http", b"https")
# What a question says of the request itself; of a GET, as most are, in one piece.
_METHOD: Final = b"X-Forwarded-Method: "
_URI: Final = b"\r\nX-Forwarded-Uri: "
_OF_GET: Final = b"X-Forwarded-Method: GET\r\nX-Forwarded-Uri: "
CLIENTS: Final = 1024  # of which the beginning of a question is remembered: 500 bytes each


class QuestionForm:
    """How one guard is asked."""

    __slots__ = (
        "_clients", "_edits", "_finds", "_followed", "_headers", "_path", "_real_ip", "_start",
        "method",
    )  # fmt: skip

    def __init__(self, rule: AuthRule, identity: tuple[str, ...]) -> None:
        """`identity`: fields of which the client's own must not be believed."""
        names, families = named(identity)
        headers = [(name.encode(), Value(value)) for name, value in rule.headers]
        # A guard may ask for the client's Authorization, although it also answers by one.
        told = {plain(name.lower()) for name, _ in headers}
        cut = _CUT | told | (names - {b"authorization"})
        families = (*_FAMILIES, *families)
        finds = rewrite.finder(cut, families)
        self._edits = HeadEdits(cut, b"", frozenset(), b"", families=families, finds=finds)
        # None: what is cut may be of ours, so it does not do to look at what the client has sent.
        self._finds = None if rewrite.cuts_ours(told) else finds
        self._clients: dict[bytes, ClientContext] = {}
        # What was last made of a context, behind it, and whether both make the same lines: most
        # requests come from who has just asked.
        self._followed: tuple[ClientContext, ClientContext, bool] | None = None
        self._headers = headers
        self._path = Value(rule.path)
        self._real_ip = rule.kind == OAUTH2_PROXY
        self.method = rule.method.encode()
        path = self._path.fixed
        # Empty: each question has its own.
        self._start = b"" if path is None else b"%b %b HTTP/1.1\r\n" % (self.method, path)

    def head(self, head: RequestHead, asked: Asked) -> RequestHead:
        """The question's own head: an exchange goes by it, and `opening` is what is sent."""
        path = self._path.fixed
        target = self._path.url_of(asked) if path is None else path
        return RequestHead(
            self.method, target, head.minor, head.block, head.notes, 0, False, b"", False,
            head.host, head.nominated, head.size, head.told, b"", False,
        )  # fmt: skip

    def clean(self, head: RequestHead) -> bool:
        """Whether nothing of a request's head has to be cut."""
        return self._finds is not None and self._finds(head.block) is None

    def covers(self, edits: HeadEdits | None) -> bool:
        """Whether of a head that is `clean` these edits cut nothing either."""
        if edits is None:
            return True
        ours = self._edits
        both = edits.request_cut <= ours.request_cut and set(edits.families) <= set(ours.families)
        return both and not rewrite.cuts_ours((*edits.request_cut, *edits.families))

    def shares(self, head: RequestHead, context: ClientContext) -> bool:
        """Whether the question about a clean head has the very lines that it goes on with."""
        if head.framing or head.upgrade or head.expect or not head.host:
            return False
        _, _, alike = self._follow(head, context)
        if not alike or not context.append:
            return alike
        told = False
        for kind, _, _ in head.notes:
            told = told or FORWARDED_FOR <= kind < TWIN
        return not told

    def fits(self, head: RequestHead) -> bool:
        """Whether an exchange that asks may go by the request's own head, if the lines are shared.

        It sees the same in both but the target, which it does not look at.
        """
        return head.method == self.method and not head.personal

    def opening(
        self,
        question: RequestHead,
        asked: Asked,
        clean: bool = False,
        own: bytes = b"",
    ) -> bytes:
        """The bytes that are sent.

        `clean`: the request's head is known to be. `own`: the lines that it goes on with, if it
        `shares` them. Only without them `question` has to be what `head` makes.
        """
        head = asked.head
        about = _OF_GET if head.method == b"GET" else b"%b%b%b" % (_METHOD, head.method, _URI)
        more = self._more(asked) if self._real_ip or self._headers else b""
        if own:
            start = self._start or self._start_of(asked)
            if not more:  # as of most, so they are joined once
                return b"".join((start, own, about, uri(head), b"\r\n\r\n"))
            return b"".join((start, own, about, uri(head), rewrite.CRLF, more, rewrite.CRLF))
        _, ours, _ = self._follow(head, asked.context)
        lines = b"".join((about, uri(head), rewrite.CRLF, more))
        return rewrite.request(question, ours, asked.server_name, lines, clean)

    def _more(self, asked: Asked) -> bytes:
        """The lines that not every guard is sent."""
        lines = []
        if self._real_ip:
            lines += [b"X-Real-IP: ", rewrite.client_of(asked.head, asked.context), rewrite.CRLF]
        for name, value in self._headers:
            given = value.of(asked) if value.fixed is None else value.fixed
            if given:  # as everywhere, an empty value is no line
                lines += [name, b": ", given, rewrite.CRLF]
        return b"".join(lines)

    def _start_of(self, asked: Asked) -> bytes:
        """The start line, where the path has variables."""
        return b"%b %b HTTP/1.1\r\n" % (self.method, self._path.url_of(asked))

    def _follow(
        self, head: RequestHead, context: ClientContext
    ) -> tuple[ClientContext, ClientContext, bool]:
        """What is known of this request's client, what a question says of it, if that is alike."""
        followed = self._followed
        if followed is not None and followed[0] is context:
            return followed
        ours = self._client(rewrite.client_of(head, context), scheme_of(head, context))
        followed = (context, ours, _alike(context, ours))
        if not context.trusted:  # else each request may be another client's
            self._followed = followed
        return followed

    def _client(self, client: bytes, scheme: bytes) -> ClientContext:
        """What a question about a request of this client says of it."""
        key = scheme + client
        known = self._clients.get(key)
        if known is None:
            if len(self._clients) >= CLIENTS:
                self._clients.clear()
            made = rewrite.context(client, scheme, False, False, None)
            known = self._clients[key] = made._replace(edits=self._edits)
        return known


def _alike(context: ClientContext, ours: ClientContext) -> bool:
    """Whether these two make the same lines of a head that nothing is cut of."""
    edits = context.edits
    return (
        context.lines == ours.lines
        and not (context.trusted or context.forwarded or context.via or context.underscores)
        and context.identity is None
        and (edits is None or not (edits.request_lines or edits.target or edits.cookies))
    )


def named(texts: tuple[str, ...]) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
    """Names (lower case), and what families of them begin with: `X-authentik-*` is one."""
    lower = [text.lower().encode() for text in texts]
    families = tuple(one.removesuffix(b"*") for one in lower if one.endswith(b"*"))
    return frozenset(one for one in lower if not one.endswith(b"*")), families


def uri(head: RequestHead) -> bytes:
    """Path and query as they came; `OPTIONS *` asks about the server, as in routing."""
    return b"/" if head.target == b"*" else head.target


def scheme_of(head: RequestHead, context: rewrite.ClientContext) -> bytes:
    """How the client came: to us, or to the trusted proxy before us. Never ws or wss."""
    if not context.trusted:
        return context.scheme
    told = forwarding.said(head, True, context.networks).proto
    told = told.lower().replace(b"ws", b"http")
    return told if told in _SCHEMES else context.scheme


def url(head: RequestHead, context: rewrite.ClientContext, server_name: bytes) -> bytes:
    """The URL that was asked for."""
    return b"%b://%b%b" % (scheme_of(head, context), head.host or server_name, uri(head))
