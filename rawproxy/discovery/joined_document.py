"""The file and its fragments as one document, in which every mistake has its own file and line.

Sites stand behind those of the file, in the order of the fragments; groups and other named tables
stand beside them. It never reads a file. Invariant: a key of the whole and the key of the fragment
that it comes from lead to the same line.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from rawproxy.config.model import Key
from rawproxy.config.options import TOP
from rawproxy.config.toml_file import Document, Mistake
from rawproxy.discovery.source import Fragment
from rawproxy.errors import ConfigError

# What many may add to: arrays of tables, and tables by name. All else belongs to one place.
ARRAYS = tuple(name for name, told in TOP.items() if "tables" in told)
NAMED = tuple(name for name, told in TOP.items() if "each" in told)
# Where neither the file nor a fragment has a site: nobody is served, and nothing is forwarded.
NOBODY = """
[[site]]
[[site.route]]
respond = { status = 421, body = "No site is served here yet.\\n" }
"""


class FragmentDocument(Document):
    """One fragment by itself. Raises `ConfigError` for one that has no text, or is no TOML."""

    def __init__(self, fragment: Fragment) -> None:
        if fragment.wrong:
            raise ConfigError(fragment.where + fragment.wrong)
        super().__init__(fragment.where, fragment.text)
        self.folder = fragment.folder
        for name in [one for one in self.data if one not in (*ARRAYS, *NAMED)]:
            self.mistake((name,), ": not in a fragment; it belongs in the file of --config")
            del self.data[name]


class JoinedDocument(Document):
    """A document made of several. The first one is the file; it may have anything."""

    def __init__(self, first: Document, others: Sequence[FragmentDocument]) -> None:
        """Nothing is read, so nothing is raised."""
        self.path = first.path
        self.first = first
        tables = ("site", "group", "upstream")
        if not any(each.data.get(one) for each in (first, *others) for one in tables):
            others = [*others, FragmentDocument(Fragment("no site", NOBODY))]
        self.data = dict(first.data)
        self.mistakes = [one for each in (first, *others) for one in each.mistakes]
        self._others = others
        self._owners: dict[Key, tuple[FragmentDocument, Key]] = {}  # of (site, 7), (group, NAME)
        for other in others:
            for name in ARRAYS:
                self._append(name, other)
            for name in NAMED:
                self._put(name, other)

    @functools.cached_property
    def lines(self) -> dict[Key, int]:
        """The line of each key, in the file that it stands in."""
        found = dict(self.first.lines)
        back = {(id(one), mine): whole for whole, (one, mine) in self._owners.items()}
        for other in self._others:
            for key, line in other.lines.items():
                whole = back.get((id(other), key[:2]))
                if whole is not None:
                    found[(*whole, *key[2:])] = line
        return found

    def place(self, key: Key) -> Mistake:
        """The line of `key`, and how a message about it begins."""
        other, mine = self._owner(key)
        return self.first.place(key) if other is None else other.place(mine)

    def path_of(self, key: Key) -> str:
        """The file that `key` stands in: relative paths begin at its folder."""
        other, _ = self._owner(key)
        if other is None or other.folder is None:
            return self.path
        return os.path.join(other.folder, os.path.basename(other.path))

    def _owner(self, key: Key) -> tuple[FragmentDocument | None, Key]:
        found = self._owners.get(key[:2])
        return (None, key) if found is None else (found[0], (*found[1], *key[2:]))

    def _append(self, name: str, other: FragmentDocument) -> None:
        tables = other.data.get(name)
        if not tables:
            return
        here = list(self.data.get(name, ()))
        for at in range(len(tables)):
            self._owners[name, len(here) + at] = other, (name, at)
        self.data[name] = here + tables

    def _put(self, name: str, other: FragmentDocument) -> None:
        tables = other.data.get(name)
        if not tables:
            return
        here = dict(self.data.get(name, {}))
        for one, table in tables.items():
            if one in here:
                owner, _ = self._owner((name, one))
                where = (owner or self.first).path
                line, place = other.place((name, one))
                text = f"{place}: {where} has a {name} of this name too; type another one"
                self.mistakes.append((line, text))
            else:
                here[one] = table
                self._owners[name, one] = other, (name, one)
        self.data[name] = here
