"""The path that an upstream sees, if it is not the one that the client asked for.

    strip-prefix, replace-prefix    /app/x → /x, or /v1/x: what follows the prefix stays
    rewrite                         a new path, made of variables and of what a regex has matched

A query goes on as it came. If the rewrite has a query of its own, the client's follows it with an
`&`, as in nginx; behind a `?` at the end of a rewrite nothing follows. `OPTIONS *` has no path and
stays. With `as-nginx` the path is read, changed to the letter, and escaped anew, as nginx does it
behind a `proxy_pass` with a URI.

This module never decides which route a request takes. It reads a path in one way only, since
routing has refused what another server could read otherwise. Invariants: the new path begins with
one slash and not with two, so that no upstream can take it for the name of a host (RFC 3986 4.2).
Nothing raises.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from rawproxy.protocol.http.rewrite import ClientContext, HeadEdits
from rawproxy.protocol.http.variable_values import Asked, Value

# What an X-Forwarded-Prefix of a trusted peer may contain: applications print it in their pages.
_PREFIX: Final = re.compile(rb"/[A-Za-z0-9._~/-]*").fullmatch
_SAID: Final = re.compile(rb"(?:^|\r\n)x-forwarded-prefix:[ \t]*([^\r\n]*)", re.I).search
_SLASHES: Final = re.compile(rb"//+").sub
# What nginx escapes in a URI that it has made itself, from 1.21.1 on.
_UNSAFE: Final = re.compile(rb"[^!$&-;=@-\[\]_a-z~]").sub
_BARE: Final = re.compile(rb"[\"<>\\^`{|}]").sub  # the same of what is escaped already


class PathChange:
    """How the path of one route changes: by a prefix, or by a rewrite."""

    __slots__ = (
        "_begin", "_drops", "_length", "as_nginx", "instead", "prefix", "rewrite", "strips",
    )  # fmt: skip

    def __init__(
        self, prefix: str, instead: str, rewrite: str | None = None, as_nginx: bool = False
    ) -> None:
        self.as_nginx = as_nginx
        self.prefix = prefix.rstrip("/").encode()
        self.instead = instead.rstrip("/").encode()
        # What is cut off, and what stands there instead. To the letter, /app/ with /v1 in its place
        # makes /v1x of /app/x.
        self._length = len(prefix) if as_nginx else len(self.prefix)
        self._begin = instead.encode() if as_nginx else self.instead
        self._drops = rewrite is not None and rewrite.endswith("?")
        self.rewrite = None if rewrite is None else Value(rewrite.removesuffix("?"))
        self.strips = self.rewrite is None and bool(self.prefix) and not self.instead

    def target(self, asked: Asked) -> bytes:
        """The target of the request to the upstream."""
        target = asked.context.moved or asked.head.target
        if target == b"*":
            return target
        if self.rewrite is None:
            if self.as_nginx:
                target = escaped_anew(target)
            changed = self._begin + target[self._length :]
        else:
            changed = self._rewritten(self.rewrite, asked)
            query = target.partition(b"?")[2]
            if query and not self._drops:
                changed += (b"&" if b"?" in changed else b"?") + query
        return b"/" + changed.lstrip(b"/\\")

    def _rewritten(self, rewrite: Value, asked: Asked) -> bytes:
        changed = rewrite.url_of(asked)
        if not self.as_nginx:
            return changed
        path, mark, query = changed.partition(b"?")
        return _BARE(_percent, path) + mark + query

    def prefix_line(self, asked: Asked) -> bytes:
        """X-Forwarded-Prefix: the prefix of the client's path, after that of a trusted peer."""
        return b"X-Forwarded-Prefix: %b%b\r\n" % (_outer(asked), self.prefix)


def leading_to(edits: HeadEdits | None, target: bytes) -> HeadEdits:
    """The same changes, where the upstream sees this target unless they say another one."""
    if edits is None:
        return HeadEdits(frozenset(), b"", frozenset(), b"", target=target)
    return edits if edits.target else edits._replace(target=target, bare=False)


def escaped_anew(target: bytes) -> bytes:
    """The same target; its path as nginx reads it, and as nginx escapes what it has read.

    Escapes are decoded, slashes merged. Dot segments were refused.
    """
    path, mark, query = target.partition(b"?")
    if b"%" in path:
        path = _SLASHES(b"/", _UNSAFE(_percent, unquote_to_bytes(path)))
    elif b"//" in path:
        path = _SLASHES(b"/", path)  # what has come bare goes on bare
    return path + mark + query if query else path  # a bare ? is lost there


def _percent(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]


def _outer(asked: Asked) -> bytes:
    context: ClientContext = asked.context
    said = _SAID(asked.head.block) if context.trusted else None
    outer = said[1].strip().rstrip(b"/") if said else b""
    return outer if _PREFIX(outer) else b""
