r"""The statements of an nginx configuration, as nginx's own `ngx_conf_read_token` reads words.

    name word "a word" 'a word' ${variable}word ;     ends with ; or {, or is a } alone

A `#` begins a comment where a word could begin. A backslash keeps the next character in its word;
before quotes, backslashes and t, r, n it is taken out. A word in quotes ends with them, and a
blank, `;`, `{` or `)` has to follow.

It never opens a file, and never looks at what a name means. nginx-crossplane reads the same, and a
test compares both; for a file of thousands of servers it takes as long as the rest of the start.
Invariant: whatever is no blank and no comment is in a statement. Raises `ConfigError` that begins
with FILE:LINE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from rawproxy.errors import ConfigError

_TOKEN: Final = re.compile(
    r"""(?:[ \t\r\n]+|\#[^\n]*)*+
    (?: ([;{}])
      | "((?:[^"\\]|\\.)*+)" (?=[ \t\r\n;{)]|\Z)
      | '((?:[^'\\]|\\.)*+)' (?=[ \t\r\n;{)]|\Z)
      | ((?!["'])(?:\\.|\$\{|[^ \t\r\n;{\\])++)
    )?""",
    re.VERBOSE | re.DOTALL,
).match
_ESCAPED: Final = re.compile(r"\\([\"'\\trn])").sub


class Statement(NamedTuple):
    """A name and its arguments, and what ends them; without any words for a `}`."""

    words: tuple[str, ...]
    end: str  # ; { or }
    line: int  # of the name


def statements(text: str, path: str) -> Iterator[Statement]:
    """What a file says, one statement after another."""
    words: list[str] = []
    at, counted, line, first = 0, 0, 1, 1
    while True:
        match = _TOKEN(text, at)
        assert match is not None  # it may be empty
        found = match.lastindex
        if found is None:
            _at_end(text, match.end(), path, bool(words))
            return
        begin, at = match.start(found), match.end()
        if found == 1:
            mark = match[1]
            if not words or mark == "}":
                line += text.count("\n", counted, begin)
                counted, first = begin, line
                if mark != "}" or words:
                    raise ConfigError(f'{path}:{line}: unexpected "{mark}"')
            yield Statement(tuple(words), mark, first)
            words = []
            continue
        if not words:
            line += text.count("\n", counted, begin)
            counted, first = begin, line
        word = match[found]
        words.append(_ESCAPED(_character, word) if "\\" in word else word)


def _at_end(text: str, at: int, path: str, unfinished: bool) -> None:
    line = text.count("\n", 0, at) + 1
    if at < len(text):
        quote = text[at]
        raise ConfigError(
            f"{path}:{line}: a word in {quote} that does not end, or has no blank or ; behind it"
        )
    if unfinished:
        raise ConfigError(f'{path}:{line}: unexpected end of file, expecting ";" or "}}"')


def _character(match: re.Match[str]) -> str:
    return {"t": "\t", "r": "\r", "n": "\n"}.get(match[1], match[1])
