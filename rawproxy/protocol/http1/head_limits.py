"""Where a message head stops; its limits, checked before anything is parsed.

They never read a field. Invariant: whatever comes, no more than a limit's worth of a head is ever
waited for, and what can no longer become a head is refused at once.
"""

from __future__ import annotations

import re
from typing import Final

from rawproxy.config.model import Limits
from rawproxy.errors import ClientError, UpstreamError, escaped

# No line end that is not CRLF, no control character: RFC 9112 2.2, 9110 5.5. The last byte may be a
# carriage return whose line feed is still to come. To match what is good takes a hundredth of the
# time of a search for what is not.
clean_so_far: Final = re.compile(rb"(?:[\t -~\x80-\xff]++|\r\n)*\r?").fullmatch


def find_request(data: bytes, limits: Limits, at: int = 0) -> int:
    """Where the request head that begins at `at` in `data` stops, or 0 while it is not whole.

    Limits are checked here, before anything is parsed. Raises `ClientError` 400, 414 or 431.
    """
    stop = data.find(b"\r\n\r\n", at) + 4
    if stop == 3:
        if not clean_so_far(data, at):
            raise ClientError("a control character or a bare line end in the head")
        size, stop = len(data) - at, 0
    else:
        size = stop - at
        if data.count(b"\n", at, stop) - 2 > limits.fields:
            raise ClientError(f"more than {limits.fields} header fields", 431)
    if size > limits.start_line:
        line = data.find(b"\r\n", at, at + limits.start_line + 2)
        if line < 0:
            raise ClientError(f"the request line is over {limits.start_line} bytes", 414)
    if size > limits.head:
        raise ClientError(f"the request head is over {limits.head} bytes", 431)
    return stop


def find_response(data: bytes, limits: Limits, at: int = 0) -> int:
    """Where the response head that begins at `at` in `data` stops, or 0 while it is not whole.

    Raises `UpstreamError` (502).
    """
    stop = data.find(b"\r\n\r\n", at) + 4
    if stop > 3:
        if stop - at > limits.response_head:
            raise UpstreamError(f"the response head is over {limits.response_head} bytes")
        return stop
    if not b"HTTP/1.".startswith(data[at : at + 7]):
        begin = escaped(data[at : at + 16])
        raise UpstreamError(f"that is not HTTP/1.1: the response begins {begin}")
    if not clean_so_far(data, at):
        raise UpstreamError("a control character or a bare line end in the response head")
    if len(data) - at > limits.response_head:
        raise UpstreamError(f"the response head is over {limits.response_head} bytes")
    return 0


def waits(data: bytes, seen: int, most: int, longest: int) -> bool:
    """Whether a head whose first `seen` bytes were neither whole nor wrong still is neither.

    Only what is new is looked at: else a head that comes byte by byte would be read from its
    beginning for each of them, and 60 KB of it would cost minutes. Where this says no, the parser
    says why. `most` and `longest`: the limits of the head and its first line.
    """
    size = len(data)
    if size > most or data.find(b"\r\n\r\n", max(seen - 3, 0)) >= 0:
        return False
    if size > longest and data.find(b"\r\n", 0, longest + 2) < 0:
        return False
    return clean_so_far(data, seen - data.endswith(b"\r", 0, seen)) is not None
