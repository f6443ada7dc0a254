"""`map` blocks: a variable whose value depends on another one.

nginx looks for the exact text first, whatever its case; with `hostnames` for the longest wildcard
before the label, then the longest behind; then for regular expressions in their order; then for the
default. `choices` has them in that order.

It never sees a request. Invariant: the last choice is the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from rawproxy.nginx.reading import Directive

_LETTERS = re.compile(r"[A-Za-z]").search


class WhenTest(NamedTuple):
    """One test of a value, as `when` has it."""

    value: str  # with our variables
    text: str

    def negated(self) -> WhenTest:
        """What holds where this does not."""
        if self.text.startswith("!"):
            rest = self.text[1:]
            return WhenTest(self.value, rest if rest.startswith("~") else _plain(rest))
        if self.text.startswith("~"):
            return WhenTest(self.value, f"!{self.text}")
        return not_equals(self.value, self.text.removeprefix("="))


def _plain(text: str) -> str:
    return f"={text}" if text.startswith(("~", "!", "=")) else text


def equals(value: str, text: str, *, exact: bool = False) -> WhenTest:
    """The value is this text; unless `exact`, in any case."""
    if exact or not _LETTERS(text):
        return WhenTest(value, _plain(text))
    return WhenTest(value, f"~*^{re.escape(text)}$")


def not_equals(value: str, text: str) -> WhenTest:
    """The value is another text."""
    if text.startswith("~"):
        return WhenTest(value, f"!~^{re.escape(text)}$")
    return WhenTest(value, f"!{text}")


def matches(value: str, pattern: str, any_case: bool) -> WhenTest:
    """A regular expression is found in the value."""
    return WhenTest(value, f"~{'*' if any_case else ''}{pattern}")


class Choice(NamedTuple):
    """One line of a map."""

    key: str
    text: str  # what the variable is then
    pattern: str | None = None
    any_case: bool = False
    is_default: bool = False

    def fits(self, found: str) -> bool:
        """Whether it is for a value that is the same for all requests."""
        if self.is_default:
            return True
        if self.pattern is not None:
            return re.search(self.pattern, found, re.I if self.any_case else 0) is not None
        return self.key.lower() == found.lower()


class Map(NamedTuple):
    """One map."""

    name: str  # of the variable that it makes, without its dollar
    source: str
    choices: tuple[Choice, ...]
    place: str


# What nginx itself makes of other variables.
BUILT_IN: Final = {
    "https": Map("https", "$scheme", (Choice("https", "on"), Choice("", "", is_default=True)), ""),
}


def maps_of(tree: Iterable[Directive]) -> dict[str, Map]:
    """The maps of a file, by their variables."""
    found = dict(BUILT_IN)
    for one in tree:
        if one.name == "map" and len(one.args) == 2:
            made = _map(one)
            found[made.name] = made
    return found


def _map(one: Directive) -> Map:
    source, name = one.args[0], one.args[1].removeprefix("$")
    exact, before, behind, patterns = [], [], [], []
    default, hostnames = Choice("", "", is_default=True), False
    for line in one.block or ():
        if line.name in ("hostnames", "volatile") and not line.args:
            hostnames = hostnames or line.name == "hostnames"
        elif line.name == "default":
            default = Choice("", line.args[0], is_default=True)
        elif line.name.startswith("~"):
            any_case = line.name.startswith("~*")
            pattern = line.name[2 if any_case else 1 :]
            patterns.append(Choice("", line.args[0], pattern, any_case))
        elif hostnames and line.name.startswith((".", "*.")):
            end = line.name.removeprefix("*").removeprefix(".")
            head = "(?:.+[.])?" if line.name.startswith(".") else ".+[.]"
            before.append((end, Choice("", line.args[0], f"^{head}{re.escape(end)}$", True)))
        elif hostnames and line.name.endswith(".*"):
            begin = line.name[:-2]
            behind.append((begin, Choice("", line.args[0], f"^{re.escape(begin)}[.].+$", True)))
        else:
            exact.append(Choice(line.name.removeprefix("\\"), line.args[0]))
    wildcards = [
        choice
        for found in (before, behind)
        for _, choice in sorted(found, key=lambda pair: len(pair[0]), reverse=True)
    ]
    return Map(name, source, (*exact, *wildcards, *patterns, default), one.place)
