"""What the access log shows of a request head: User-Agent, Referer and Authorization.

The recogniser of requests finds them while it reads. `told` finds them in a head that was read
otherwise. This module never judges. Invariant: both find the same values, the first of each name.
"""

from __future__ import annotations

from rawproxy.protocol import regex

NAMES = rb"[uU](?i:ser-agent)|[rR](?i:eferer)|[aA](?i:uthorization)"

LogFields = tuple[
    bytes | None, bytes | None, bytes | None
]  # what a log tells; None: it is not there
_LOGGED = regex.all_of(rb"\n(%b): ([^\r]*+)" % NAMES)


def told(block: bytes) -> LogFields:
    """User-Agent, Referer and Authorization of a head, as `LOGGED_REQUEST` finds them."""
    agent: bytes | None = None
    referer: bytes | None = None
    authorization: bytes | None = None
    for name, value in _LOGGED(b"\n" + block):
        size = len(name)  # no two names have the same
        if size == len(b"user-agent"):
            agent = value if agent is None else agent
        elif size == len(b"referer"):
            referer = value if referer is None else referer
        elif authorization is None:
            authorization = value
    return agent, referer, authorization
