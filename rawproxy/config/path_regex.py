"""Regular expressions over paths, for the routes that have a `path-regex`.

The engine is RE2. Its time grows only linearly with the path, whatever the pattern is. Clients
choose the path, and a backtracking engine could spend minutes on one of 16 kB. What RE2 cannot do
(lookahead, lookbehind, backreferences) is refused when the configuration is read.

This module never sees a request. Invariant: a pattern that `path_regex` has returned can search any
bytes. Raises `ConfigError` for a pattern that RE2 does not accept, and if RE2 is not installed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

from rawproxy.errors import ConfigError

try:
    import re2
except ImportError:  # pragma: no cover  # the extra "regex" brings it; others need it not
    re2 = None

MEMORY: Final = (
    8 * 1024 * 1024
)  # bytes that one pattern may take, RE2's own default; beyond it fails
GROUPS: Final = 9  # $1 to $9, as in nginx
# Patterns that are kept compiled, of this configuration and of the one before. Thousands of sites
# have mostly the same few; each costs some 10 kB and 100 µs.
KEPT: Final = 8192


class PathRegex:
    """One pattern."""

    __slots__ = ("_search", "groups", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        compiled: Any = re2.compile(pattern.encode(), _options())
        self._search = compiled.search
        self.groups: int = compiled.groups

    def captures(self, path: bytes) -> tuple[bytes, ...] | None:
        """What the groups have matched in `path`, from $1 on; None if the pattern does not match.

        A group that took no part is empty, as in nginx.
        """
        match = self._search(path)
        if match is None:
            return None
        return tuple([one or b"" for one in match.groups()])


class PathRegexes:
    """Several patterns that are searched in one pass.

    One alone is searched in this way too: it costs half of what a match with its groups does.
    """

    __slots__ = ("_match",)

    def __init__(self, patterns: Sequence[PathRegex]) -> None:
        self._match: Any = _together(tuple(one.pattern for one in patterns))

    def first(self, path: bytes) -> int:
        """The number of the first pattern that matches, or -1."""
        found = self._match(path)
        return min(found) if found else -1


@functools.lru_cache(KEPT)
def _together(patterns: tuple[str, ...]) -> Any:
    """The search for all of them."""
    together = re2.Set.SearchSet(_options())
    for one in patterns:
        together.Add(one.encode())
    together.Compile()
    return together.Match


def path_regex(pattern: str) -> PathRegex:
    """The pattern, compiled. Raises `ConfigError`, whose text names no option."""
    if re2 is None:
        raise ConfigError("needs RE2, which is not installed; type pip install 'rawproxy[regex]'")
    return _compiled(pattern)


@functools.lru_cache(KEPT)
def _compiled(pattern: str) -> PathRegex:
    try:
        made = PathRegex(pattern)
    except re2.error as error:
        text = error.args[0] if error.args else b""
        why = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        hint = ""
        if why.startswith(("invalid perl operator", "invalid escape sequence")):
            hint = "; looking ahead or behind and references back would let a visitor stall it"
        raise ConfigError(f"{why}{hint} (the syntax is RE2's)") from None
    if made.groups > GROUPS:
        raise ConfigError(
            f"{made.groups} groups, and only $1 to $9 can be used; write (?:…) for those"
            " that nothing names"
        )
    return made


def _options() -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # paths are bytes
    options.log_errors = False  # they are raised, and nothing writes to stderr beside the log
    options.max_mem = MEMORY
    return options
