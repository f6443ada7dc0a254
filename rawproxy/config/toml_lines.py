"""On which line of a TOML file each key stands.

`tomllib` reads a file and forgets the lines. This module finds them and reads no values. Its text
must be one that `tomllib` has accepted. So it checks nothing: it follows headers, keys, strings,
arrays and inline tables only well enough to count lines.

Invariant: for every path into the result of `tomllib` it knows a line: that of the key, or of the
element of an array.
"""

from __future__ import annotations

import bisect
import re
import tomllib

from rawproxy.config.model import Key

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*").match
_PART = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*(\.?)""").match
# Up to two quotes may stand in front of the three that end a multi-line string.
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
).match
_SCALAR = re.compile(r"[^,\]}#\n]*").match


def lines(text: str) -> dict[Key, int]:
    """The line of every table, key and array element of a valid TOML document."""
    scan = _Scan(text)
    scan.document()
    return scan.found


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Key, int] = {}
        self.tables: dict[Key, int] = {}  # arrays of tables: how many there are so far
        self.ends = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> None:
        here: Key = ()
        self._blanks()
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                here = self._header()
            else:
                self._pair(here)
            self._blanks()

    def _note(self, path: Key) -> None:
        self.found.setdefault(path, bisect.bisect_left(self.ends, self.at) + 1)

    def _blanks(self) -> None:
        match = _BLANK(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def _header(self) -> Key:
        """`[a.b]` or `[[a.b]]`. If a name on the way is an array, its last table is meant."""
        several = self.text.startswith("[[", self.at)
        parts, stop = self._name(self.at + 1 + several)
        path: Key = ()
        for index, part in enumerate(parts):
            path = (*path, part)
            self._note(path)
            if several and index == len(parts) - 1:
                self.tables[path] = self.tables.get(path, 0) + 1
            if path in self.tables:
                path = (*path, self.tables[path] - 1)
                self._note(path)
        self.at = stop + 1 + several
        return path

    def _name(self, at: int) -> tuple[list[str], int]:
        """A key, with its dots if it has any, and the position behind it."""
        parts = []
        more = "."
        while more:
            match = _PART(self.text, at)
            assert match is not None
            raw, more = match.groups()
            quoted = raw[0] in "\"'"
            parts.append(next(iter(tomllib.loads(f"{raw}=0"))) if quoted else raw)
            at = match.end()
        return parts, at

    def _pair(self, here: Key) -> None:
        parts, stop = self._name(self.at)
        for part in parts:
            here = (*here, part)
            self._note(here)
        self.at = stop + 1  # behind the equals sign
        self._value(here)

    def _value(self, path: Key) -> None:
        self._blanks()
        start = self.text[self.at]
        if start == "[":
            self._array(path)
        elif start == "{":
            self._inline(path)
        else:
            match = _STRING(self.text, self.at) or _SCALAR(self.text, self.at)
            assert match is not None
            self.at = match.end()

    def _array(self, path: Key) -> None:
        self.at += 1
        index = 0
        while not self._closed("]"):
            self._note((*path, index))
            self._value((*path, index))
            index += 1

    def _inline(self, path: Key) -> None:
        self.at += 1
        while not self._closed("}"):
            self._pair(path)

    def _closed(self, bracket: str) -> bool:
        """Whether the array or inline table ends here. A comma before that is skipped."""
        self._blanks()
        if self.text[self.at] == ",":
            self.at += 1
            self._blanks()
        over = self.text[self.at] == bracket
        self.at += over
        return over
