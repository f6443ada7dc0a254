r"""The regular-expression engine that the recognisers of message heads use.

The compiled build has PCRE2 with its just-in-time compiler (`_pcre2.c`). The plain build has `re`
of the standard library, which takes three times as long for the same answer. `RAWPROXY_REGEX=re`
chooses `re`, for comparison. The same property tests compare both engines with h11.

This module never sees traffic itself. Invariants: each pattern means the same to both engines, and
none needs backtracking across lines. A recogniser looks at one place only: its time and memory are
linear in what it matches, and do not depend on what lies behind it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Found(Protocol):
    """What a match tells. The objects of both engines have this."""

    def groups(self) -> tuple[Any, ...]: ...
    def span(self, group: int = 0, /) -> tuple[int, int]: ...
    def end(self, group: int = 0, /) -> int: ...


Match = Callable[[bytes, int], Found | None]  # the bytes, and where in them to look

pcre2: Any = None
if os.environ.get("RAWPROXY_REGEX") != "re":
    with contextlib.suppress(ImportError):
        pcre2 = importlib.import_module("rawproxy.protocol._pcre2")

ENGINE = "re" if pcre2 is None else f"PCRE2 {pcre2.VERSION}"


def compiled(pattern: bytes) -> Match:
    """A function that matches `pattern` at one place of some bytes, and only there."""
    match: Match = _compile(HERE + b"(?:" + pattern + b")").match
    return match


def all_of(pattern: bytes) -> Callable[[bytes], list[tuple[bytes, ...]]]:
    """A function that finds the groups of `pattern`, which has several, wherever it matches."""
    find: Callable[[bytes], list[tuple[bytes, ...]]] = _compile(pattern).findall
    return find


def first_of(pattern: bytes) -> Match:
    """A function that finds the first match of `pattern` from one place of some bytes on."""
    found = _compile(pattern)
    search: Match = found.search if pcre2 is None else found.match  # that of PCRE2 searches
    return search


def beginnings(names: Iterable[bytes]) -> bytes:
    """A pattern of what begins with one of `names`.

    Names that begin alike share their beginning. So no byte of a line is looked at twice, and most
    lines are rejected by their first one.
    """
    by_first: dict[bytes, list[bytes]] = {}  # empty: nothing begins so
    for name in sorted(names):
        if not name:
            return b""
        by_first.setdefault(name[:1], []).append(name)
    branches = []
    for alike in by_first.values():
        first, last, at = alike[0], alike[-1], 1  # between these two the others are
        while at < len(first) and first[at] == last[at]:
            at += 1
        branches.append(re.escape(first[:at]) + beginnings([name[at:] for name in alike]))
    return b"(?:%b)" % b"|".join(branches) if branches else b"(?!)"


def _compile(pattern: bytes) -> Any:
    return (re if pcre2 is None else pcre2).compile(pattern)


# This stands in front of a pattern: the match has to begin at the given place. `match` of `re`
# looks nowhere else, but that of PCRE2 would search the rest: 64 KB of lines that almost begin a
# head took seconds. (Its option ANCHORED does the same, but costs an eighth of the time of a
# match.)
HERE = b"" if pcre2 is None else rb"\G"
# The quantifier for any number of lines, without backtracking. `re` gets a plain one: before Python
# 3.11.5 its possessive groups did not match what they should (gh-106052). Nothing is lost by that,
# because there is only one way to match a line.
MANY = b"*" if pcre2 is None else b"*+"
