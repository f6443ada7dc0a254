"""What holds in a block: its own directives, and by nginx's rule those of the blocks around it.

nginx inherits a directive as a whole or not at all: where a location has one `add_header`, it has
none of its server's. It never looks at what a directive means. Invariant: what a block says itself
is never mixed with what is said around it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rawproxy.nginx.reading import Directive


class Blocks:
    """A block within blocks, the innermost first."""

    __slots__ = ("chain",)

    def __init__(self, *chain: tuple[Directive, ...]) -> None:
        self.chain = chain

    def within(self, block: tuple[Directive, ...]) -> Blocks:
        """A block that stands in this one."""
        return Blocks(block, *self.chain)

    def own(self, *names: str) -> Iterator[Directive]:
        """The directives of these names that the innermost block says itself."""
        return (one for one in self.chain[0] if one.name in names)

    def all(self, name: str) -> list[Directive]:
        """Every directive of that name, of the innermost block that has one."""
        for block in self.chain:
            found = [one for one in block if one.name == name]
            if found:
                return found
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
