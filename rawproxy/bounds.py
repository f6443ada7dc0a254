"""Where a message head stops; its limits, checked before anything is parsed.

They never read a field. Invariant: whatever comes, no more than a limit's worth of a head is ever
waited for, and what can no longer become a head is refused at once.
"""

from __future__ import annotations

import re

from .config import Limits
from .errors import ClientError, UpstreamError

# A line end that is not CRLF, a control character: RFC 9112 2.2, 9110 5.5. The last byte may be a
# carriage return whose line feed is still to come.
_STRAY_SO_FAR = re.compile(rb"\r[^\n]|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search


def find_request(data: bytes, limits: Limits) -> int:
    """Where the request head in `data` stops, or 0 while it is not whole.

    Limits are checked here, before anything is parsed. Raises `ClientError` 400, 414 or 431.
    """
    stop = data.find(b"\r\n\r\n") + 4
    if stop == 3:
        if _STRAY_SO_FAR(data):
            raise ClientError("a control character or a bare line end in the head")
        size, stop = len(data), 0
    else:
        size = stop
        if data.count(b"\n", 0, stop) - 2 > limits.fields:
            raise ClientError(f"more than {limits.fields} header fields", 431)
    if size > limits.start_line:
        line = data.find(b"\r\n", 0, limits.start_line + 2)
        if line < 0:
            raise ClientError(f"the request line is over {limits.start_line} bytes", 414)
    if size > limits.head:
        raise ClientError(f"the request head is over {limits.head} bytes", 431)
    return stop


def find_response(data: bytes, limits: Limits) -> int:
    """Where the response head in `data` stops, or 0 while it is not whole.

    Raises `UpstreamError` (502).
    """
    stop = data.find(b"\r\n\r\n") + 4
    if stop > 3:
        if stop > limits.response_head:
            raise UpstreamError(f"the response head is over {limits.response_head} bytes")
        return stop
    if not b"HTTP/1.".startswith(data[:7]):
        raise UpstreamError(f"that is not HTTP/1.1: the response begins {data[:16]!r}")
    if _STRAY_SO_FAR(data):
        raise UpstreamError("a control character or a bare line end in the response head")
    if len(data) > limits.response_head:
        raise UpstreamError(f"the response head is over {limits.response_head} bytes")
    return 0
