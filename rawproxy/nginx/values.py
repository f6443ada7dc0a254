"""Values of an nginx configuration as values of ours: variables, units, and `set`.

It never looks at a request. Invariant: a variable that means something else here, or nothing, is
refused; a dollar that is none is written so that it stays one. Raises `Refusal`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([1-9])|([A-Za-z_][A-Za-z0-9_]*))")
# By what they are called there.
_SAME: Final = {
    "host": "host", "http_host": "http_host", "request_uri": "request_uri", "uri": "uri",
    "document_uri": "uri", "args": "args", "query_string": "args", "is_args": "is_args",
    "scheme": "scheme", "request_method": "method", "remote_addr": "remote_addr",
    "remote_port": "remote_port", "server_name": "server_name", "server_port": "server_port",
    "request_id": "request_id", "ssl_client_verify": "client_verify",
}  # fmt: skip
_BARE: Final = re.compile(r"\$(?:\$|[1-9]|[A-Za-z_][A-Za-z0-9_]*)").sub
_FAMILIES: Final = ("http_", "cookie_", "arg_")
_SIZE: Final = re.compile(r"([0-9]+)([kKmMgG]?)").fullmatch
_TIME: Final = re.compile(r"([0-9]+)(ms|s|m|h|d|w)?").finditer
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Varying(str):
    """The value of a variable, in our notation: it has variables of ours in it."""

    __slots__ = ()


class Refusal(Exception):  # noqa: N818  # it is no error of ours: what is said cannot be done here
    """What is said cannot mean the same here; the text says why, and what to do."""


def value(text: str, known: Mapping[str, str], groups: int = 0) -> str:
    """`text` with our variables in it. `known` are those whose value is fixed, by `set` or so."""
    made, at = "", 0
    for match in _VARIABLE.finditer(text):
        made += text[at : match.start()].replace("$", "$$")
        at = match.end()
        name = match[1] or match[2] or match[3]
        if name in known:
            text_of = known[name]
            varies = isinstance(text_of, Varying)
            made += _braced(text_of) if varies else text_of.replace("$", "$$")
        elif name.isdigit() and len(name) == 1 and int(name) <= groups:
            made += f"${{{name}}}"
        elif name in _SAME:
            made += f"${{{_SAME[name]}}}"
        elif name.startswith(_FAMILIES):
            made += f"${{{name}}}"
        else:
            raise Refusal(f"${name} is not known here")
    return _shortened(made + text[at:].replace("$", "$$"))


def fixed(text: str, known: Mapping[str, str]) -> str:
    """`text` where all of its variables are fixed."""

    def instead(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        if name not in known or isinstance(known[name], Varying):
            raise Refusal(f"${name} differs from request to request; type what it stands for")
        return known[name]

    return _VARIABLE.sub(instead, text)


def named_groups(pattern: str) -> tuple[str, dict[str, int]]:
    """A pattern without names for its groups, and which name was the number of which."""
    names: dict[str, int] = {}
    number, at, made = 0, 0, ""
    for match in re.finditer(
        r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P?<([A-Za-z_]\w*)>|\((?!\?)", pattern
    ):
        if match[1]:
            number += 1
            names[match[1]] = number
            made += pattern[at : match.start()] + "("
            at = match.end()
        elif match[0] == "(":
            number += 1
    return made + pattern[at:], names


def size(text: str) -> int:
    """Bytes: 1m, 64k."""
    match = _SIZE(text)
    if match is None:
        raise Refusal(f"{text} is no size")
    return int(match[1]) * {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}[match[2].lower()]


def seconds(text: str) -> float:
    """Seconds: 60, 1m30s."""
    parts = list(_TIME(text.replace(" ", "")))
    if not parts or "".join(one[0] for one in parts) != text.replace(" ", ""):
        raise Refusal(f"{text} is no time")
    return sum(int(one[1]) * _UNITS[one[2] or "s"] for one in parts)


def _braced(text: str) -> str:
    """$name as ${name}: what follows may be a letter."""
    return _BARE(lambda match: match[0] if match[0] == "$$" else f"${{{match[0][1:]}}}", text)


def _shortened(text: str) -> str:
    """${name} as $name where nothing follows that could belong to it."""
    return re.sub(r"\$\{([A-Za-z0-9_]+)\}(?![A-Za-z0-9_])", r"$\1", text)
