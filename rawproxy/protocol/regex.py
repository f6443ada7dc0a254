r"""The regular-expression engine behind the recognisers of message heads.

The compiled build brings PCRE2 with its just-in-time compiler (`_pcre2.c`). The plain build has the
standard library's `re`, which takes three times as long for the same answer. `RAWPROXY_REGEX=re`
chooses the latter, for comparison. The same property tests hold either of them against h11.

It never sees traffic itself. Invariants: both engines are given patterns that mean the same to
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

pcre2: Any = None
if os.environ.get("RAWPROXY_REGEX") != "re":
    with contextlib.suppress(ImportError):
        pcre2 = importlib.import_module("rawproxy.protocol._pcre2")

ENGINE = "re" if pcre2 is None else f"PCRE2 {pcre2.VERSION}"


def compiled(pattern: bytes) -> Match:
    """What matches `pattern` at one place of the bytes it is given, and there alone."""
    match: Match = _compile(HERE + b"(?:" + pattern + b")").match
    return match


def all_of(pattern: bytes) -> Callable[[bytes], list[tuple[bytes, ...]]]:
    """What finds the groups of `pattern`, of which it has several, wherever it matches."""
    find: Callable[[bytes], list[tuple[bytes, ...]]] = _compile(pattern).findall
    return find


def _compile(pattern: bytes) -> Any:
    return (re if pcre2 is None else pcre2).compile(pattern)


# In front of a pattern: the place where the match begins. `match` of `re` looks nowhere else, but
# that of PCRE2 goes on to search the rest: 64 KB of lines that all but begin a head took seconds.
# (Its option ANCHORED does the same, and costs an eighth of the time of a match.)
HERE = b"" if pcre2 is None else rb"\G"
# The quantifier for any number of lines, without a way back. `re` gets a plain one: before Python
# 3.11.5 its possessive groups fail to match what they should (gh-106052). There is but one way to
# match a line, so nothing is lost by that.
MANY = b"*" if pcre2 is None else b"*+"
