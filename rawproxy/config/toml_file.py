"""The TOML file, checked key by key against `options`.

A message about a mistake names file, line and key. If a key is unknown, the message names the one
that was probably meant. This module never looks at what a value means.

Invariant: the tree that it gives has only known keys, each with a value of its type. A key that may
have several values has a list. All mistakes are found, not only the first.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Callable
from typing import Any

import click

from rawproxy.config.model import Key
from rawproxy.config.options import GROUP, ROUTE, SITE, TOP, Attributes, Keys, Workers
from rawproxy.config.toml_lines import lines
from rawproxy.errors import ConfigError

_AT_LINE = re.compile(r"(.*) \(at line ([0-9]+), column [0-9]+\)").fullmatch
_TABLES = {
    "at the top": TOP,
    "in [[site]]": SITE,
    "in [[site.route]]": ROUTE,
    "in [group.NAME]": GROUP,
}
Mistake = tuple[int, str]  # line and message


class Document:
    """One file: the checked tree in `data`, and its mistakes."""

    def __init__(
        self, path: str, text: str | Callable[[], str], raw: dict[str, Any] | None = None
    ) -> None:
        """Raises `ConfigError` for a text that is not TOML.

        `raw` is what `tomllib` would read in the text, where somebody has it already. Then the text
        is made only if something is wrong, to find its line.
        """
        self.path = path
        self.mistakes: list[Mistake] = []
        self._text = text
        raw = _tables(path, self.text()) if raw is None else raw
        self.data = self._table((), raw, TOP)

    def text(self) -> str:
        """The text of the file."""
        return self._text if isinstance(self._text, str) else self._text()

    @functools.cached_property
    def lines(self) -> dict[Key, int]:
        """The line of each key. To find them takes longer than to read the file."""
        return lines(self.text())

    def path_of(self, key: Key) -> str:
        """The file that `key` stands in: relative paths begin at its folder."""
        del key  # there is but one
        return self.path

    def place(self, key: Key) -> Mistake:
        """The line of `key`, and how a message about it begins.

        If the key is missing, the line is that of its table.
        """
        stop = len(key)
        while stop and key[:stop] not in self.lines:
            stop -= 1
        line = self.lines.get(key[:stop], 1)
        return line, f"{self.path}:{line}: {label(key)}"

    def mistake(self, key: Key, reason: str) -> None:
        """Note that something is wrong with `key`.

        `reason` stands behind its name in the message.
        """
        line, place = self.place(key)
        self.mistakes.append((line, place + reason))

    def _table(self, path: Key, raw: Any, keys: Keys) -> dict[str, Any]:
        if not isinstance(raw, dict):
            self.mistake(path, ": type a table")
            return {}
        found = {}
        for name, value in raw.items():
            here = (*path, name)
            if name not in keys:
                self.mistake(here, unknown(name, keys))
                continue
            try:
                found[name] = self._value(here, value, keys[name])
            except ConfigError as error:
                self.mistake(here, str(error))
        return found

    def _value(self, path: Key, value: Any, attributes: Attributes) -> Any:
        if "table" in attributes:
            return self._table(path, value, attributes["table"])
        if "tables" in attributes:
            if not isinstance(value, list):
                raise ConfigError(f": type [[{path[-1]}]]")
            several = enumerate(value)
            return [self._table((*path, at), one, attributes["tables"]) for at, one in several]
        if "each" in attributes:
            if not isinstance(value, dict):
                raise ConfigError(f": type [{path[-1]}.NAME]")
            return {
                name: self._table((*path, name), one, attributes["each"])
                for name, one in value.items()
            }
        if "names" in attributes:
            return self._names(path, value)
        if not attributes.get("multiple"):
            return self._one(path, value, attributes)
        several = enumerate(value if isinstance(value, list) else [value])
        return [self._one((*path, at), one, attributes) for at, one in several]

    def _names(self, path: Key, value: Any) -> list[tuple[str, str]]:
        if not isinstance(value, dict):
            raise ConfigError(': type a table, as { X-Name = "value" }')
        pairs = []
        for name, inner in value.items():
            for one in inner if isinstance(inner, list) else [inner]:
                if isinstance(one, str):
                    pairs.append((name, one))
                else:
                    self.mistake((*path, name), f" {one!r}: type text in quotes")
        return pairs

    def _one(self, path: Key, value: Any, attributes: Attributes) -> Any:
        kind = attributes.get("type")
        if kind is None and type(value) is str and not attributes.get("is_flag"):
            return value  # as most are
        if "or" in attributes and isinstance(value, dict):
            return self._table(path, value, attributes["or"])
        if "false" in attributes and value is False:
            return value
        if attributes.get("is_flag"):
            if not isinstance(value, bool):
                raise ConfigError(f" {value!r}: type true or false, without quotes")
            return value
        if isinstance(kind, Workers) and value == "auto":
            return 0
        if isinstance(kind, click.IntRange | click.FloatRange):
            return _number(value, kind)
        number = isinstance(value, int) and not isinstance(value, bool)
        if number and (kind in ("size", "status") or _all_digits(kind)):
            value = str(value)
        if not isinstance(value, str):
            raise ConfigError(f" {value!r}: type text in quotes")
        if isinstance(kind, click.Choice) and value not in kind.choices:
            raise ConfigError(f" {value}: {_nearest(value, list(kind.choices))}")
        return value


def _tables(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _AT_LINE(str(error))
        reason, line = match.groups() if match else (str(error), str(text.count("\n") + 1))
        raise ConfigError(f"{path}:{line}: not TOML: {reason}") from None


def label(key: Key) -> str:
    """What a message calls `key`: its table in brackets, and its name."""
    if isinstance(key[-1], int):
        key = key[:-1]  # an element of a list is called as the list
    names = [str(part) for part in key if isinstance(part, str)]
    if len(names) < 2:
        return names[0]
    doubled = isinstance(key[-2], int)
    table = ".".join(names[:-1])
    return f"[[{table}]] {names[-1]}" if doubled else f"[{table}] {names[-1]}"


def unknown(name: str, keys: Keys) -> str:
    """Why a key is unknown, and which key was probably meant."""
    elsewhere = [where for where, others in _TABLES.items() if name in others]
    if elsewhere:
        return f": not known here; it belongs {' or '.join(elsewhere)}"
    near = difflib.get_close_matches(name, keys, 1)
    if near:
        return f": not known; did you mean {near[0]}?"
    return f": not known; known are {', '.join(keys)}"


def _nearest(value: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(value, choices, 1)
    return (f"did you mean {near[0]}? " if near else "") + f"known are {', '.join(choices)}"


def _all_digits(kind: Any) -> bool:
    return isinstance(kind, click.Choice) and all(choice.isdigit() for choice in kind.choices)


def _number(value: Any, kind: click.IntRange | click.FloatRange) -> int | float:
    whole = isinstance(kind, click.IntRange)
    types = (int,) if whole else (int, float)
    sort = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, types):
        raise ConfigError(f" {value!r}: type {sort}, without quotes")
    low = kind.min is not None and (value <= kind.min if kind.min_open else value < kind.min)
    if low or (kind.max is not None and value > kind.max) or value != value or value in _ENDLESS:
        least = f" {'above' if kind.min_open else 'from'} {kind.min}"
        most = "" if kind.max is None else f" up to {kind.max}"
        raise ConfigError(f" {value}: type {sort}{least}{most}")
    return value


_ENDLESS = (float("inf"), float("-inf"))
