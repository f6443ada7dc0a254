"""What is said about each directive: its word, its place, and what to know.

It never decides what a directive means. Invariant: each directive of a file is said once, and a
refusal is never lost.
"""

from __future__ import annotations

from typing import NamedTuple

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.words import DIFFERENT, EXACT, REFUSED, Word, word


class Remark(NamedTuple):
    """What became of one directive."""

    place: str  # FILE:LINE
    word: str
    text: str  # the directive
    note: str

    def line(self) -> str:
        """As it is printed."""
        note = f": {self.note}" if self.note else ""
        return f"{self.place}: {self.word}: {self.text}{note}"


class Report:
    """The remarks about one configuration."""

    def __init__(self) -> None:
        self._said: dict[int, Remark] = {}
        self._kept: list[Directive] = []  # so that no identity is given twice

    def say(self, one: Directive, as_word: Word | None = None) -> None:
        """The word of a directive; a refusal stays whatever is said later."""
        known = self._said.get(id(one))
        if known is not None and known.word == REFUSED:
            return
        said = as_word or word(one.name)
        self._kept.append(one)
        self._said[id(one)] = Remark(one.place, said.word, one.text(), said.note)

    def refuse(self, one: Directive, why: str) -> None:
        """It cannot be done here."""
        self.say(one, Word(REFUSED, why))

    def differs(self, one: Directive, how: str) -> None:
        """It is done in another way, on purpose."""
        self.say(one, Word(DIFFERENT, how))

    def exact(self, one: Directive) -> None:
        """It is done, although the table's usual case is another."""
        self._said[id(one)] = Remark(one.place, EXACT, one.text(), "")

    def remarks(self) -> list[Remark]:
        """All of them, in the order in which directives were looked at."""
        return list(self._said.values())

    def refused(self) -> list[Remark]:
        """Those that stand in the way."""
        return [one for one in self._said.values() if one.word == REFUSED]
