"""An nginx configuration as a tree of directives, each with its file and line.

The lexer and the includes with their globs are nginx-crossplane's. A file may be whole or a
fragment: bare `server { … }` or `location { … }` blocks, as in sites-available or SWAG's
proxy-confs. It never looks at what a directive means. Invariant: every directive of every file
that is read is in the tree. Raises `ConfigError` that begins with FILE:LINE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from rawproxy.errors import ConfigError

try:
    import crossplane
except ImportError:  # pragma: no cover  # the extra "nginx" brings it; others need it not
    crossplane = None

DEPTH: Final = 16  # blocks within blocks; nginx's own contexts need five
_ESCAPED: Final = re.compile(r"\\([\"'\\trn])").sub  # nginx's ngx_conf_read_token
_ERRNO: Final = re.compile(r"\[Errno [0-9]+\] ([^:]+)").match
COUNT: Final = 200_000  # directives: 3,000 servers have some 60,000; more is a file that has no end


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive."""

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def place(self) -> str:
        """FILE:LINE, as messages have it."""
        return f"{self.file}:{self.line}"

    def text(self) -> str:
        """The directive as somebody would type it."""
        return " ".join((self.name, *self.args))


def read(path: str) -> tuple[Directive, ...]:
    """The directives of the file and of all that it includes."""
    if crossplane is None:
        raise ConfigError(
            f"{path}: reading nginx's files needs nginx-crossplane, which is not installed;"
            " type pip install 'rawproxy[nginx]'"
        )
    try:
        found: dict[str, Any] = crossplane.parse(
            path, combine=True, check_ctx=False, check_args=False
        )
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    problems = [_problem(path, one) for one in found["errors"]]
    if problems:
        raise ConfigError(*problems)
    budget = [COUNT]
    tree = tuple(_directive(one, path, budget, 0) for one in found["config"][0]["parsed"])
    return _unwrapped(tree)


def _problem(path: str, found: dict[str, Any]) -> str:
    """The place and the cause, once each."""
    error, place = str(found["error"]), str(found.get("file", path))
    missing = _ERRNO(error)
    if missing:
        return f"{place}: {missing[1]}"
    return f"{place}:{found.get('line') or 1}: {error.rpartition(' in ')[0] or error}"


def _directive(raw: dict[str, Any], path: str, budget: list[int], depth: int) -> Directive:
    file, line = raw.get("file", path), raw["line"]
    budget[0] -= 1
    if budget[0] < 0 or depth > DEPTH:
        raise ConfigError(f"{file}:{line}: more than {COUNT} directives, or {DEPTH} blocks deep")
    block = raw.get("block")
    name, args = raw["directive"], [_ESCAPED(_character, text) for text in raw["args"]]
    if name == "if":
        args = _condition(args)
    inner = None
    if block is not None:
        inner = tuple(_directive(one, path, budget, depth + 1) for one in block)
    return Directive(name, tuple(args), file, line, inner)


def _character(match: re.Match[str]) -> str:
    return {"t": "\t", "r": "\r", "n": "\n"}.get(match[1], match[1])


def _condition(args: list[str]) -> list[str]:
    """What stands in the brackets of an `if`, whether or not the lexer has taken them off."""
    text = list(args)
    if text and text[0].startswith("("):
        text[0] = text[0][1:]
    if text and text[-1].endswith(")") and "(" not in text[-1]:
        text[-1] = text[-1][:-1]
    return [one for one in text if one]


def _unwrapped(tree: tuple[Directive, ...]) -> tuple[Directive, ...]:
    """What stands within `http`, beside what stands around it."""
    flat: list[Directive] = []
    for one in tree:
        if one.name == "http" and one.block is not None:
            flat += one.block
        else:
            flat.append(one)
    return tuple(flat)
