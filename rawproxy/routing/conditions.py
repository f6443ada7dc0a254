"""Which of several routes serves a request, where that depends on more than its path.

    early      routes with `first = true`: asked in the order of the file, before all paths
    variants   routes of one path, of which some have a `when`: the first whose tests hold, else
               the one without a `when`

It never sees a connection. Invariant: a request goes to a route with a `when` only if all of its
tests hold. Raises `ClientError` 404 where no variant of a path holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rawproxy.config.conditions import parse_test
from rawproxy.config.path_regex import PathRegex
from rawproxy.protocol.http.variable_values import Asked, Value


class _Condition:
    """A value, and what it has to be."""

    __slots__ = ("negated", "regex", "text", "value")

    def __init__(self, value: str, test: str) -> None:
        parsed = parse_test(test)
        self.value = Value(value)
        self.text = parsed.text.encode()
        self.regex: PathRegex | None = parsed.regex
        self.negated = parsed.negated

    def captures(self, asked: Asked) -> tuple[bytes, ...] | None:
        """None: it does not hold; else what `$1` and so on are from now on."""
        found = self.value.text_of(asked)
        regex = self.regex
        if regex is None:
            return asked.captures if (found == self.text) != self.negated else None
        groups = regex.captures(found)
        if self.negated:
            return asked.captures if groups is None else None
        return groups or asked.captures if groups is not None else None


class Conditions:
    """The `when` of one route."""

    __slots__ = ("_conditions",)

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._conditions: Final = [_Condition(value, test) for value, test in pairs]

    def captures(self, asked: Asked) -> tuple[bytes, ...] | None:
        """None: the request is not like that; else what the route's `$1` and so on are."""
        for condition in self._conditions:
            captures = condition.captures(asked)
            if captures is None:
                return None
            asked = asked.matched(captures)
        return asked.captures
