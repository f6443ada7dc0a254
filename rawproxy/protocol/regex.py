r"""The regular-expression engine behind the recognisers of message heads.

`pcre` (PCRE2 with its just-in-time compiler, from the optional extra `rawproxy[fast]`) where it is
installed, else the standard library's `re`, which takes three times as long for the same answer.
`RAWPROXY_REGEX=re` chooses the latter, for comparison. The same property tests hold either of them
against h11.

It never sees traffic itself. Invariants: `re` and `pcre` are given patterns that mean the same to
both, and none that needs backtracking across lines; a recogniser looks at one place and at no
other: time and memory are linear in what is matched, and do not depend on what lies behind it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
from collections.abc import Callable
from typing import Any, Protocol


class Found(Protocol):
    """What a match tells; both engines' objects do."""

    def groups(self) -> tuple[Any, ...]: ...
    def span(self, group: int = 0, /) -> tuple[int, int]: ...
    def end(self, group: int = 0, /) -> int: ...


Match = Callable[[bytes, int], Found | None]  # the bytes, and where in them to look

pcre: Any = None
if os.environ.get("RAWPROXY_REGEX") != "re":
    with contextlib.suppress(ImportError):
        pcre = importlib.import_module("pcre")

ENGINE = "re" if pcre is None else "pcre"


def compiled(pattern: bytes) -> Match:
    """What matches `pattern` at one place of the bytes it is given, and there alone."""
    match: Match = _compile(HERE + b"(?:" + pattern + b")").match
    return match


def all_of(pattern: bytes) -> Callable[[bytes], list[tuple[bytes, ...]]]:
    """What finds the groups of `pattern`, of which it has several, wherever it matches."""
    find: Callable[[bytes], list[tuple[bytes, ...]]] = _compile(pattern).findall
    return find


def _compile(pattern: bytes) -> Any:
    found = (re if pcre is None else pcre).compile(pattern)
    # That package's own methods are Python around these, and a seventh of the time of a match.
    return getattr(found, "_pattern", found)


# In front of a pattern: the place where the match begins. `match` of `re` looks nowhere else, but
# that of PCRE2 goes on to search the rest: 64 KB of lines that all but begin a head took seconds.
# (Its option ANCHORED does the same, and costs an eighth of the time of a match.)
HERE = b"" if pcre is None else rb"\G"
# The quantifier for any number of lines, without a way back. `re` gets a plain one: before Python
# 3.11.5 its possessive groups fail to match what they should (gh-106052). There is but one way to
# match a line, so nothing is lost by that.
MANY = b"*" if pcre is None else b"*+"
