r"""What the variables in a value stand for in one request.

    $host           as asked for, lower case, no port; the site's name if there is none
    $http_host      with its port, as asked for
    $request_uri    path and query as they came; $path and $query (or $args) are the two, and
                    $is_args the ? between them, or nothing
    $uri            the path as nginx reads it: see `normalised`
    $scheme, $method, $server_name (the first of the site), $server_port
    $remote_addr    the client: behind trusted proxies the one for which they speak
    $remote_port    of the connection; empty for a socket file
    $request_id     as in the log and on error pages
    $client_verify  SUCCESS or NONE
    $1 … $9         the groups of the route's path-regex, as the path came
    $http_NAME      every value of that field, with commas between; $cookie_NAME, $arg_NAME: the
                    first of that name, as it came

This module never looks at a connection, and raises nothing for a request. Invariant: a value is
part of one line, whatever a client sends: control characters become %XX. In the target of a
redirect, blanks and all that is not ASCII do so too. So a value can end neither a line nor a URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from rawproxy.config.path_regex import GROUPS
from rawproxy.config.variables import CAPTURE, parse
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.rewrite import ClientContext, client_of
from rawproxy.protocol.http.target import split_host

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").sub
_NOT_OF_URLS: Final = re.compile(rb"[^!-~]").sub
_ESCAPED: Final = re.compile(rb"%([0-9A-Fa-f]{2})").sub
_SLASHES: Final = re.compile(rb"//+").sub
# What `normalised` leaves escaped: decoded, these would say something else in an URL.
_KEPT: Final = b'%?#\\"'


class Asked:
    """One request, and what its connection and its route know about it. It never changes."""

    __slots__ = ("captures", "context", "head", "remote_port", "server_name", "server_port")

    def __init__(
        self,
        head: RequestHead,
        context: ClientContext,
        server_name: bytes,
        server_port: int,
        remote_port: int,
        captures: tuple[bytes, ...] = (),
    ) -> None:
        self.head = head
        self.context = context
        self.server_name = server_name  # empty: the site has none
        self.server_port = server_port  # 0: a socket file
        self.remote_port = remote_port
        self.captures = captures  # what the route's path-regex has matched

    def of(self, head: RequestHead) -> Asked:
        """The same, with this head."""
        return Asked(
            head, self.context, self.server_name, self.server_port, self.remote_port, self.captures
        )

    def within(self, context: ClientContext) -> Asked:
        """The same, with this context."""
        return Asked(
            self.head, context, self.server_name, self.server_port, self.remote_port, self.captures
        )

    def matched(self, captures: tuple[bytes, ...]) -> Asked:
        """The same, with these captures."""
        return Asked(
            self.head, self.context, self.server_name, self.server_port, self.remote_port, captures
        )


Getter = Callable[[Asked, bytes], bytes]


def current(asked: Asked) -> bytes:
    """Path and query as the route sees them: as they came, or as another route has made them."""
    target = asked.context.moved or asked.head.target
    return b"/" if target == b"*" else target  # OPTIONS * asks about the server


def _came(asked: Asked, _: bytes) -> bytes:
    target = asked.head.target
    return b"/" if target == b"*" else target


def _host(asked: Asked, _: bytes) -> bytes:
    host = split_host(asked.head.host)[0].lower().rstrip(b".")
    return host or asked.server_name


def _path(asked: Asked, _: bytes) -> bytes:
    return current(asked).partition(b"?")[0]


def _query(asked: Asked, _: bytes) -> bytes:
    return current(asked).partition(b"?")[2]


def _port(number: int) -> bytes:
    return b"%d" % number if number else b""


def _verify(asked: Asked, _: bytes) -> bytes:
    identity = asked.context.identity or b""
    return b"SUCCESS" if identity.startswith(b"SSL-Client-Verify: SUCCESS\r\n") else b"NONE"


def _field(asked: Asked, name: bytes) -> bytes:
    name = name.lower().replace(b"_", b"-")
    between = b"; " if name == b"cookie" else b", "
    return between.join(_values(asked.head.block, name))


def _cookie(asked: Asked, name: bytes) -> bytes:
    for value in _values(asked.head.block, b"cookie"):
        for pair in value.split(b";"):
            key, _, found = pair.strip().partition(b"=")
            if key == name:
                return found
    return b""


def _argument(asked: Asked, name: bytes) -> bytes:
    for pair in _query(asked, b"").split(b"&"):
        key, _, found = pair.partition(b"=")
        if key.lower() == name.lower():
            return found
    return b""


def _values(block: bytes, name: bytes) -> list[bytes]:
    found: list[bytes] = []
    for line in block.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            found.append(value.strip())
    return found


_GETTERS: Final[dict[str, Getter]] = {
    "host": _host,
    "http_host": lambda asked, _: asked.head.host,
    "request_uri": _came,
    "uri": lambda asked, _: normalised(_path(asked, _)),
    "path": _path,
    "query": _query,
    "args": _query,
    "is_args": lambda asked, _: b"?" if _query(asked, b"") else b"",
    "scheme": lambda asked, _: asked.context.scheme,
    "method": lambda asked, _: asked.head.method,
    "remote_addr": lambda asked, _: client_of(asked.head, asked.context),
    "remote_port": lambda asked, _: _port(asked.remote_port),
    "server_name": lambda asked, _: asked.server_name,
    "server_port": lambda asked, _: _port(asked.server_port),
    "request_id": lambda asked, _: asked.context.id,
    "client_verify": _verify,
    "http_": _field,
    "cookie_": _cookie,
    "arg_": _argument,
    CAPTURE: lambda asked, number: asked.captures[int(number) - 1],
}


class Value:
    """One value, ready for use. Raises `ConfigError`."""

    __slots__ = ("_parts", "fixed")

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[bytes, Getter | None, bytes]] = [
            (piece.text.encode(), _GETTERS.get(piece.name), piece.argument.encode())
            for piece in parse(text, GROUPS)
        ]
        text_alone = all(getter is None for _, getter, _ in self._parts)
        # What it is for every request; None: each has its own.
        self.fixed = b"".join([text for text, _, _ in self._parts]) if text_alone else None

    def of(self, asked: Asked) -> bytes:
        """The value in one request, as it may stand in a line."""
        return _CONTROL(_percent, self._made(asked)).strip(b" \t")

    def text_of(self, asked: Asked) -> bytes:
        """The value in one request, as it may stand in a body, line ends included."""
        return self._made(asked)

    def url_of(self, asked: Asked) -> bytes:
        """The value in one request, as it may stand in a URL."""
        return _NOT_OF_URLS(_percent, self._made(asked))

    def _made(self, asked: Asked) -> bytes:
        made: list[bytes] = []
        for text, getter, argument in self._parts:
            made.append(text if getter is None else getter(asked, argument))
        return b"".join(made)


def normalised(path: bytes) -> bytes:
    """The path as nginx reads it, as far as that is safe.

     Escaped visible characters are decoded, unless they would mean something else then. Slashes are
    merged, and dot segments are taken out. Blanks, control characters and what is not ASCII stay
    escaped. With nginx's own $uri, such a character can end the line of a careless configuration.
    """
    segments: list[bytes] = []
    parts = _SLASHES(b"/", _ESCAPED(_decoded, path)).split(b"/")[1:]
    for part in parts:
        if part == b"..":
            del segments[-1:]
        elif part != b".":
            segments.append(part)
    if parts and parts[-1] in (b".", b".."):
        segments.append(b"")
    return b"/" + b"/".join(segments)


def _decoded(match: re.Match[bytes]) -> bytes:
    byte = int(match[1], 16)
    return bytes((byte,)) if 0x21 <= byte < 0x7F and byte not in _KEPT else b"%%%02X" % byte


def _percent(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
