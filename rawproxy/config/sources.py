"""Which value of a setting wins: the command line's, the file's, the environment's or the default.

The command line wins over the file, the file over the environment, and the environment over the
default (`Rank`). A value at the top of the file, or on the command line, holds for all groups and
sites that have no value of their own in their table.

This module never serves, and never opens what a path names. Invariant: every mistake is collected,
and none hides another. A message names file, line and key, or the option.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from rawproxy.config import option_values
from rawproxy.config.model import Certificate, Key
from rawproxy.config.problems import option_of
from rawproxy.config.toml_file import Document, Mistake
from rawproxy.errors import ConfigError

T = TypeVar("T")
ByName = Callable[[Sequence[str], T], T]
_OPTION = re.compile(r"^--[a-z0-9-]+")


class Rank(enum.IntEnum):
    """Where a value comes from. Of two values of a setting, the one with the higher rank wins."""

    DEFAULT = 0
    ENVIRONMENT = 1
    FILE = 2
    COMMANDLINE = 3


def read(path: str) -> Document:
    """The document that `--config` names. Raises `ConfigError`."""
    try:
        with open(path, encoding="utf-8") as file:
            return Document(path, file.read())
    except OSError as error:
        raise ConfigError(
            f"--config {path}: {error.strerror}; type the path of a TOML file"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path}: not UTF-8; save it as UTF-8, as TOML wants") from None


class Scope:
    """The table of a group or a site.

    A key that the table does not have is looked up in the settings.
    """

    def __init__(self, settings: Settings, path: Key, table: Mapping[str, Any]) -> None:
        self.settings = settings
        self.path = path
        self.table = table

    def key(self, name: str) -> Key:
        """The place that the value of `name` comes from: this table, or the top of the file."""
        return (*self.path, name) if name in self.table else (name,)

    def value(self, name: str) -> Any:
        """The value of `name`. The table's own value wins."""
        return self.table[name] if name in self.table else self.settings.values[name]

    def rank(self, name: str) -> int:
        """The rank of the value of `name`.

        A value of the table itself ranks above the command line.
        """
        return Rank.COMMANDLINE + 1 if name in self.table else self.settings.ranks[name]

    def take(self, name: str, parse: Callable[[str], T], instead: T) -> T:
        """The value of `name`, parsed. If it is wrong, that is noted and `instead` is returned."""
        return self.settings.take(self.key(name), parse, self.value(name), instead)

    def several(self, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """All values of `name`, parsed. Wrong ones are noted and left out."""
        found = []
        for at, text in enumerate(self.value(name)):
            one = self.settings.take((*self.key(name), at), parse, text, None)
            if one is not None:
                found.append(one)
        return tuple(found)

    def file(self, name: str, words: Sequence[str] = ()) -> Any:
        """A path, or one of `words`.

        A relative path in the file begins at the folder of the file.
        """
        value = self.value(name)
        if value is None:
            return None
        hint = "".join(f"{word}, " for word in words)[:-2] + " or " if words else ""
        several = isinstance(value, list | tuple)
        found = []
        for at, one in enumerate(value if several else [value]):
            key = (*self.key(name), at) if several else self.key(name)
            text = self.settings.take(
                key, lambda text: option_values.parse_file(f"--{name}", text, hint), one, "?"
            )
            found.append(text if text in words else self.settings.absolute(key, text))
        return found if several else found[0]


class Settings:
    """The values of all options with their ranks, the file, and the mistakes found so far.

    `values` and `ranks` have the names of options without dashes.
    """

    def __init__(
        self, values: Mapping[str, Any], ranks: Mapping[str, Rank], document: Document | None = None
    ) -> None:
        self.document = document
        self.values = dict(values)
        self.ranks = dict(ranks)
        self.data: dict[str, Any] = document.data if document else {}
        self._named: dict[tuple[Any, ...], Any] = {}  # tables of limits and timeouts, as read
        self.mistakes: list[Mistake] = list(document.mistakes) if document else []
        self.keys: dict[object, Key] = {}  # where certificates and upstreams were named
        for name, value in self.data.items():
            if name in self.values and self.ranks[name] < Rank.FILE:
                self.values[name], self.ranks[name] = value, Rank.FILE
        self.top = Scope(self, (), {})

    # ── where, and what is wrong ────────────────────────────────────────────────────────────────

    def place(self, key: Key) -> Mistake:
        """The line of a key and its name in a message.

        If the file does not have the key, the line is 0 and the name is that of the option.
        """
        document = self.document
        known: Mapping[Key, int] = document.lines if document else {}
        if isinstance(key[-1], int) and key not in known:
            key = key[:-1]  # its list has no other value
        top: Key = (key[-1],)
        rank = self.ranks.get(str(key[-1]))
        if document is not None:
            if key in known:
                return document.place(key)
            if rank == Rank.FILE and top in known:
                return document.place(top)
            if rank in (None, Rank.DEFAULT) and key[:2] in known:
                return document.place(key)  # it is missing in that table
        return 0, option_of(key)

    def has(self, key: Key) -> bool:
        """Whether the file has that key, with whatever value."""
        return self.document is not None and key in self.document.lines

    def mistake(self, key: Key, reason: str) -> None:
        """Note that something is wrong with `key`.

        `reason` stands behind its name in the message.
        """
        name = next(part for part in reversed(key) if isinstance(part, str))
        self.mistakes.append(self.say(key, f"--{name}{reason}"))

    def refuse(self, key: Key, error: ConfigError) -> None:
        """Note the error of a parser.

        Its messages begin with the option, and `say` puts the place there.
        """
        for message in error.messages:
            self.mistakes.append(self.say(key, message))

    def say(self, key: Key, message: str) -> Mistake:
        """A message of a parser, with the file, line and key in the place of the option."""
        line, place = self.place(key)
        if place.startswith("--"):
            return 0, message
        # What stands behind the option's name: ` value: why`, or `: why`.
        rest = _OPTION.sub("", message, count=1)
        return line, place + rest.replace(" --", " ")

    def take(self, key: Key, parse: Callable[[str], T], text: str, instead: T) -> T:
        """The value that `parse` makes of `text`.

        If it is wrong, that is noted and `instead` is returned.
        """
        try:
            return parse(text)
        except ConfigError as error:
            self.refuse(key, error)
            return instead

    def absolute(self, key: Key, path: str) -> str:
        """The absolute path; a relative path in the file begins at the folder of the file."""
        if self.document is None:
            return path
        names = [part for part in key if isinstance(part, str)]
        if len(names) == 1 and self.ranks.get(names[0], Rank.FILE) != Rank.FILE:
            return path  # at the top, from the command line or the environment
        file = self.document.path_of(key)
        return os.path.join(os.path.dirname(os.path.abspath(file)), path)

    def named(
        self, table: Key, told: Mapping[str, Any], given: Sequence[str], parse: ByName[T], base: T
    ) -> T:
        """All values of `[limits]` and `--limit`, or of `[timeouts]` and `--timeout`, over `base`.

        `told` is the table and `given` are the options. `parse` reads one text NAME=VALUE.
        """
        known = (table[-1], base, *told.items())
        if not given and known in self._named:  # thousands of routes say mostly the same
            return cast(T, self._named[known])
        mistakes = len(self.mistakes)
        option = "limit" if table[-1] == "limits" else "timeout"
        texts: list[tuple[Key, str]] = [
            ((*table, name), f"{name}={value}") for name, value in told.items()
        ]
        more: list[tuple[Key, str]] = [((option, at), text) for at, text in enumerate(given)]
        # The last value of each name counts.
        texts = more + texts if self.ranks[option] == Rank.ENVIRONMENT else texts + more
        for key, text in texts:
            try:
                base = parse([text], base)
            except ConfigError as error:
                # In a table the key has said the name already.
                name = text.partition("=")[0] + "=" if key[: len(table)] == table else ""
                for message in error.messages:
                    rest = message.removeprefix(f"--{option} {name}")
                    self.mistakes.append(self.say(key, f"--{option} {rest}"))
        if not given and len(self.mistakes) == mistakes:
            self._named[known] = base
        return base

    def pairs(self, scope: Scope, cert: str, key: str) -> tuple[Certificate, ...]:
        """The certificates with their keys: the first `cert` goes with the first `key`, and so on.

        A different number of both is noted as a mistake.
        """
        certs, keys = _list(scope.file(cert)), _list(scope.file(key))
        if len(certs) != len(keys):
            missing, other = (key, cert) if len(certs) > len(keys) else (cert, key)
            text = f" is missing: each --{other} FILE goes with a --{missing} FILE"
            here = (*scope.path, missing) if other in scope.table else (missing,)
            self.mistake(here, text)
        pairs = tuple(Certificate(*pair) for pair in zip(certs, keys, strict=False))
        for at, pair in enumerate(pairs):
            self.keys.setdefault((cert, pair), (*scope.key(cert), at))
        return pairs


def _list(value: Any) -> list[str]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
