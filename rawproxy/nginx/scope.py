"""What holds in a block: its own directives, and by nginx's rule those of the blocks around it.

nginx inherits a directive as a whole or not at all: where a location has one `add_header`, it has
none of its server's. It never looks at what a directive means. Invariants: what a block says itself
is never mixed with what is said around it. A block is gone through once, however many blocks stand
in it and whatever they ask: an `http` block has thousands of servers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rawproxy.nginx.reading import Directive

_NONE: Final[Sequence[Directive]] = ()


class Blocks:
    """A block within blocks."""

    __slots__ = ("_around", "_said", "_texts", "block")

    def __init__(self, block: tuple[Directive, ...], around: Blocks | None = None) -> None:
        self.block = block
        self._around = around
        self._texts: list[str] | None = None
        self._said: dict[str, list[Directive]] = {}  # the block's own directives by their names
        for one in block:
            self._said.setdefault(one.name, []).append(one)

    def within(self, block: tuple[Directive, ...]) -> Blocks:
        """A block that stands in this one."""
        return Blocks(block, self)

    def beside(self, block: tuple[Directive, ...]) -> Blocks:
        """A block that stands where this one does."""
        return Blocks(block, self._around)

    def texts(self, but: tuple[str, ...]) -> list[str]:
        """The arguments of every directive without a block, here and around; not of those in `but`.

        They are remembered, so it is always asked with the same names.
        """
        if self._texts is None:
            lines = [one for one in self.block if one.block is None and one.name not in but]
            self._texts = [text for one in lines for text in one.args]
        around = () if self._around is None else self._around.texts(but)
        return [*self._texts, *around]

    def own(self, *names: str) -> Iterator[Directive]:
        """The directives of these names that the block says itself, in its order."""
        if len(names) == 1:
            return iter(self._said.get(names[0], _NONE))
        return (one for one in self.block if one.name in names)

    def visible(self) -> Iterator[Directive]:
        """What the block says, and what is said around it and not in another block of these."""
        yield from self.block
        if self._around is not None:
            for one in self._around.visible():
                if one.block is None and one.name not in ("set", "return", "rewrite"):
                    yield one

    def all(self, name: str) -> Sequence[Directive]:
        """Every directive of that name, of the innermost block that has one."""
        blocks: Blocks | None = self
        while blocks is not None:
            found = blocks._said.get(name)
            if found is not None:
                return found
            blocks = blocks._around
        return _NONE

    def innermost(self, *names: str) -> list[Directive]:
        """Those of these names in the innermost block that has one of any of them, in its order."""
        blocks: Blocks | None = self
        while blocks is not None:
            if not blocks._said.keys().isdisjoint(names):
                return list(blocks.own(*names))
            blocks = blocks._around
        return []

    def last(self, name: str) -> Directive | None:
        """The one that holds, of those that can stand only once."""
        found = self.all(name)
        return found[-1] if found else None

    def first_of(self, name: str, default: str) -> str:
        """Its first argument, or the default."""
        one = self.last(name)
        return one.args[0] if one is not None and one.args else default

    def is_on(self, name: str, default: str = "off") -> bool:
        """Whether a switch is on."""
        return self.first_of(name, default) == "on"
