"""The path that an upstream sees, if it is not the one that the client asked for.

    strip-prefix, replace-prefix    /app/x → /x, or /v1/x: what follows the prefix stays
    rewrite                         a new path, made of variables and of what a regex has matched

A query goes on as it came. If the rewrite has a query of its own, the client's follows it with an
`&`, as in nginx. `OPTIONS *` has no path and stays.

This module never decides which route a request takes. It reads a path in one way only, since
routing has refused what another server could read otherwise. Invariants: the new path begins with
one slash and not with two, so that no upstream can take it for the name of a host (RFC 3986 4.2).
Nothing raises.
"""

from __future__ import annotations

import re
from typing import Final

from rawproxy.protocol.http.rewrite import ClientContext
from rawproxy.protocol.http.variable_values import Asked, Value

# What an X-Forwarded-Prefix of a trusted peer may contain: applications print it in their pages.
_PREFIX: Final = re.compile(rb"/[A-Za-z0-9._~/-]*").fullmatch
_SAID: Final = re.compile(rb"(?:^|\r\n)x-forwarded-prefix:[ \t]*([^\r\n]*)", re.I).search


class PathChange:
    """How the path of one route changes: by a prefix, or by a rewrite."""

    __slots__ = ("instead", "prefix", "rewrite", "strips")

    def __init__(self, prefix: str, instead: str, rewrite: str | None = None) -> None:
        self.prefix = prefix.rstrip("/").encode()
        self.instead = instead.rstrip("/").encode()
        self.rewrite = None if rewrite is None else Value(rewrite)
        self.strips = self.rewrite is None and bool(self.prefix) and not self.instead

    def target(self, asked: Asked) -> bytes:
        """The target of the request to the upstream."""
        target = asked.head.target
        if target == b"*":
            return target
        if self.rewrite is None:
            changed = self.instead + target[len(self.prefix) :]
        else:
            changed = self.rewrite.url_of(asked)
            query = target.partition(b"?")[2]
            if query:
                changed += (b"&" if b"?" in changed else b"?") + query
        return b"/" + changed.lstrip(b"/\\")

    def prefix_line(self, asked: Asked) -> bytes:
        """X-Forwarded-Prefix: the prefix of the client's path, after that of a trusted peer."""
        return b"X-Forwarded-Prefix: %b%b\r\n" % (_outer(asked), self.prefix)


def _outer(asked: Asked) -> bytes:
    context: ClientContext = asked.context
    said = _SAID(asked.head.block) if context.trusted else None
    outer = said[1].strip().rstrip(b"/") if said else b""
    return outer if _PREFIX(outer) else b""
