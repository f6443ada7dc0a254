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
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

# What reads a head: it gets some bytes and where in them to look. None: there is no match. Else
# where it ends, and then of each group what its kind says:
#     b  its bytes; None: it is not set     s  where it starts; -1: it is not set
#     n  the number that its digits are;    e  where it ends; the same
#        -1: it is not set
Reader = Callable[[bytes, int], tuple[Any, ...] | None]
ByRe = Callable[[Callable[[bytes, int], re.Match[bytes] | None]], Reader]

pcre2: Any = None
if os.environ.get("RAWPROXY_REGEX") != "re":
    with contextlib.suppress(ImportError):
        pcre2 = importlib.import_module("rawproxy.protocol._pcre2")

ENGINE = "re" if pcre2 is None else f"PCRE2 {pcre2.VERSION}"


def reader(pattern: bytes, kinds: bytes, by_re: ByRe) -> Reader:
    """A function that matches `pattern` at one place of some bytes, and only there.

    `kinds` has a letter for each group. `by_re` makes the same of a function that matches by `re`:
    one that goes by any kinds would take longer than its match.
    """
    whole = HERE + b"(?:" + pattern + b")"
    read: Reader = (
        by_re(re.compile(whole).match) if pcre2 is None else pcre2.compile(whole, kinds).facts
    )
    return read


def all_of(pattern: bytes) -> Callable[[bytes], list[tuple[bytes, ...]]]:
    """A function that finds the groups of `pattern`, which has several, wherever it matches."""
    find: Callable[[bytes], list[tuple[bytes, ...]]] = _compile(pattern).findall
    return find


def in_lines(pattern: bytes) -> Callable[[bytes], object]:
    """A function that tells whether a line of a block begins with `pattern`; None: none does.

    Letters are alike in both cases. The pattern has no groups: nothing else is asked.
    """
    found = _compile(rb"(?i)" + LINE + pattern)
    by_re = functools.partial(_in_lines, found)
    find: Callable[[bytes], object] = by_re if pcre2 is None else found.facts
    return find


def _in_lines(found: re.Pattern[bytes], block: bytes) -> re.Match[bytes] | None:
    return found.search(IN_FRONT + block)


def first_of(pattern: bytes) -> Reader:
    """A function that finds the first match from one place on, and where each group starts."""
    found = re.compile(pattern)
    by_re = functools.partial(_first, found.search, range(1, found.groups + 1))
    read: Reader = by_re if pcre2 is None else pcre2.compile(pattern, b"s" * found.groups).facts
    return read


def _first(
    search: Callable[[bytes, int], re.Match[bytes] | None], groups: range, data: bytes, at: int
) -> tuple[Any, ...] | None:
    found = search(data, at)
    return None if found is None else (found.end(), *map(found.start, groups))


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
# With what a pattern begins that is searched for where lines begin, and what has to stand in front
# of the first line for that. PCRE2 finds the place as quickly as the sign in front of it, so it
# needs no copy with one sign more; to `re` the place is no help.
LINE, IN_FRONT = (rb"\n", b"\n") if pcre2 is None else (rb"(?m)^", b"")
# The quantifier for any number of lines, without backtracking: with it `re` takes a sixth less for
# a head. Before Python 3.11.5 its possessive groups did not match what they should (gh-106052).
# Nothing is lost by a plain one, because there is only one way to match a line.
MANY = b"*" if pcre2 is None and sys.version_info < (3, 11, 5) else b"*+"
