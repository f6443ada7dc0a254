"""An nginx configuration as a tree of directives, each with its file and line.

A file may be whole or a fragment: bare `server { … }` or `location { … }` blocks, as in
sites-available or SWAG's proxy-confs. An `include` is replaced by what its files say, in the order
of their names; it begins at the folder of the first file, as nginx's does. It never looks at what a
directive means. Invariant: every directive of every file that is read is in the tree. Raises
`ConfigError` that begins with FILE:LINE.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rawproxy.errors import ConfigError
from rawproxy.nginx.lexing import Statement, statements

DEPTH: Final = 16  # blocks within blocks, and files within files; nginx's own contexts need five
COUNT: Final = 500_000  # directives: 3,000 servers have some 60,000; more is a file without an end
BYTES: Final = 64 * 1024 * 1024  # of all files together, for the same reason


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
    reader = _Reader(os.path.dirname(path))
    tree = reader.file(path, "", 0)
    if reader.problems:
        raise ConfigError(*reader.problems)
    return _unwrapped(tree)


class _Reader:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.problems: list[str] = []  # files that are not there: all of them are told at once
        self.count = 0
        self.bytes = 0

    def file(self, path: str, place: str, depth: int) -> list[Directive]:
        """What one file says; `place` is that of the include that names it."""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(BYTES + 1)
        except OSError as error:
            begin = f"{place}: {path}" if place else path
            self.problems.append(f"{begin}: {error.strerror or error}")
            return []
        self.bytes += len(text)
        if self.bytes > BYTES:
            raise ConfigError(f"{path}: more than {BYTES >> 20} MB of configuration")
        return self._block(statements(text, path), path, depth, None)

    def _block(
        self, said: Iterator[Statement], path: str, depth: int, opened: Statement | None
    ) -> list[Directive]:
        """The directives up to the end of the block that `opened`, or of the file."""
        found: list[Directive] = []
        for one in said:
            if one.end == "}":
                if opened is None:
                    raise ConfigError(f'{path}:{one.line}: unexpected "}}"')
                return found
            self.count += 1
            if self.count > COUNT or depth > DEPTH:
                limits = f"more than {COUNT} directives, or {DEPTH} blocks or files deep"
                raise ConfigError(f"{path}:{one.line}: {limits}")
            if one.words[0] == "include":
                found += self._included(one, path, depth)
            else:
                found.append(self._directive(one, said, path, depth))
        if opened is not None:
            name = opened.words[0]
            raise ConfigError(f"{path}:{opened.line}: {name} {{ has no }} at its end")
        return found

    def _directive(
        self, one: Statement, said: Iterator[Statement], path: str, depth: int
    ) -> Directive:
        name, *args = one.words
        if name == "if":
            args = _condition(args, f"{path}:{one.line}")
        if one.end == ";":
            return Directive(name, tuple(args), path, one.line)
        if name.endswith("_by_lua_block"):
            raise ConfigError(f"{path}:{one.line}: {name}: no Lua is run here")
        inner = self._block(said, path, depth + 1, one)
        return Directive(name, tuple(args), path, one.line, tuple(inner))

    def _included(self, one: Statement, path: str, depth: int) -> list[Directive]:
        place = f"{path}:{one.line}"
        if len(one.words) != 2 or one.end != ";":
            raise ConfigError(f"{place}: include takes one name, or one pattern, and a ;")
        pattern = os.path.join(self.folder, one.words[1])
        names = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        return [inner for name in names for inner in self.file(name, place, depth + 1)]


def _condition(args: list[str], place: str) -> list[str]:
    """What stands in the brackets of an `if`."""
    if not args or not args[0].startswith("(") or not args[-1].endswith(")") or args[-1] == "(":
        raise ConfigError(f"{place}: if takes a condition in ( )")
    inner = [args[0][1:], *args[1:]] if args[0] != "(" else args[1:]
    return [*inner[:-1], inner[-1][:-1]] if inner[-1] != ")" else inner[:-1]


def _unwrapped(tree: list[Directive]) -> tuple[Directive, ...]:
    """What stands within `http`, beside what stands around it."""
    flat: list[Directive] = []
    for one in tree:
        if one.name == "http" and one.block is not None:
            flat += one.block
        else:
            flat.append(one)
    return tuple(flat)
