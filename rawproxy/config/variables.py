"""Values with variables: text, and variables that each request fills in.

    $host, ${host}   one of `NAMES`
    $http_NAME       a field of the request, with `_` for `-`; so are $cookie_NAME and $arg_NAME
    $1 … $9          what a group of the route's `path-regex` has matched
    $$               a dollar

Headers to set or add and the target of a redirect are such values. `variable_values` says what each
variable stands for. Invariant: a value that `parse` has accepted has only these variables. An
unknown name is an error and is never taken for text, or a typing mistake would be sent upstream.
"""

from __future__ import annotations

import difflib
import functools
import re
from typing import NamedTuple

from rawproxy.errors import ConfigError

NAMES = (
    "host", "http_host", "request_uri", "uri", "path", "query", "args", "is_args", "scheme",
    "method", "remote_addr", "remote_port", "server_name", "server_port", "request_id",
    "client_verify",
)  # fmt: skip
FAMILIES = ("http_", "cookie_", "arg_")
CAPTURE = "capture"  # the name of a piece whose argument is the number of a group
# A digit is a variable by itself, as in nginx: $1st is $1 and "st".
_DOLLAR = re.compile(r"\$(?:(\$)|([0-9]|[A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z0-9_]+)\})?")


class Piece(NamedTuple):
    """A text if `name` is empty.

    Else a variable; `argument` is the NAME behind $http_, $cookie_ or $arg_.
    """

    text: str
    name: str = ""
    argument: str = ""


def parse(value: str, groups: int = 0) -> tuple[Piece, ...]:
    """The pieces of a value. The route's `path-regex` has `groups` groups.

    Raises `ConfigError`, whose text names no option.
    """
    return _pieces(value, groups) if "$" in value else (Piece(value),)


@functools.lru_cache(1024)  # thousands of routes say mostly the same few: `$host`, `$remote_addr`
def _pieces(value: str, groups: int) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    text, at = "", 0
    for match in _DOLLAR.finditer(value):
        text += value[at : match.start()]
        at = match.end()
        if match[1]:
            text += "$"
            continue
        if text:
            pieces.append(Piece(text))
        text = ""
        pieces.append(_variable(match[2] or match[3] or "", groups))
    text += value[at:]
    return (*pieces, Piece(text)) if text or not pieces else tuple(pieces)


def _variable(name: str, groups: int) -> Piece:
    if name in NAMES:
        return Piece("", name)
    for family in FAMILIES:
        if name.startswith(family) and len(name) > len(family):
            return Piece("", family, name.removeprefix(family))
    if name[:1].isdigit():
        if len(name) == 1 and 1 <= int(name) <= groups:
            return Piece("", CAPTURE, name)
        has = f"has {groups} groups" if groups else "is missing, or has no group"
        raise ConfigError(
            f"${name} is what the path-regex of a route has matched, and here it {has};"
            f" for a dollar itself type $$, as in $${name}"
        )
    if not name:
        raise ConfigError("a $ that names nothing; for a dollar itself type $$")
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f"did you mean ${near[0]}? " if near else ""
    known = ", ".join(f"${one}" for one in (*NAMES, *(f"{family}NAME" for family in FAMILIES)))
    dollar = f"for a dollar itself type $$, as in $${name}"
    raise ConfigError(f"${name} is not known; {hint}{dollar}; known are {known}")


def check(place: str, value: str, groups: int = 0) -> None:
    """Raise the `ConfigError` of `parse` with `place` before it, unless the value is accepted."""
    try:
        parse(value, groups)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def named(value: str, name: str) -> bool:
    """Whether a value that `parse` accepts has this variable."""
    return name in value and any(piece.name == name for piece in parse(value, 9))
