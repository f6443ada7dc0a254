"""Finds where a message head ends, and checks its limits before anything is parsed.

This module never reads a field. Invariants: whatever comes, nobody waits for more of a head than
its limit allows. What can no longer become a head is refused at once.
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
    """Where the request head in `data` ends that begins at `at`; 0 while it is not whole.

    The limits are checked here, before anything is parsed. Raises `ClientError` 400, 414 or 431.
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
    """Where the response head in `data` ends that begins at `at`; 0 while it is not whole.

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
    """Whether a head is still neither whole nor wrong. Its first `seen` bytes were neither.

     Only the new bytes are looked at. If a head comes byte by byte, it would be read from its
    beginning for each byte otherwise, and 60 KB of it would cost minutes. If this says no, the
    parser says why. `most` and `longest` are the limits of the head and of its first line.
    """
    size = len(data)
    if size > most or data.find(b"\r\n\r\n", max(seen - 3, 0)) >= 0:
        return False
    if size > longest and data.find(b"\r\n", 0, longest + 2) < 0:
        return False
    return clean_so_far(data, seen - data.endswith(b"\r", 0, seen)) is not None
