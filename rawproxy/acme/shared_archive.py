"""An archive of which other machines have the same, by the store of `--store`.

    here is changed             what was written is put into the store before the next step
    the store is changed        what another machine has put there is written here
    the store has forgotten     whoever comes first puts back what it knows

Workers read the folder as ever, so whatever one machine orders, all of them serve, and whichever is
asked answers a challenge. While the store is away the folder alone is written, and brought into
agreement later: the newer version wins, as `shared_values` says.

It never decides what to order and never waits for a store that is away. Invariant: what is not
sound here is not told to others, and what is not sound there is not written here. Raises
`StoreError` from `agree` and `fence`, and else what an `Archive` does.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, Protocol

from rawproxy.acme import shared_values
from rawproxy.acme.advice import IssueError
from rawproxy.acme.archive import ACCOUNT, LIMITS, Archive, read, remove, write
from rawproxy.acme.on_demand import is_name
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.shared_values import ANSWERS, FILES, NAMES, Entry, Seal, SealError
from rawproxy.acme.timing import Trouble
from rawproxy.errors import StoreError, ignore
from rawproxy.telemetry.error_log import log

TRIES: Final = 8  # more than that many machines in a row were faster: something else is wrong
SPREAD: Final = 2.0  # seconds in which other machines have an answer: a folder over NFS is slow
MARK: Final = "shared.json"  # in an entry's folder: which version it has, and what that was
Rewrite = Callable[[bytes | None], bytes | None]  # what a value is to be; None: as it is


class SharedValues(Protocol):
    """What is asked of a store, in the words of `store/verbs`."""

    shown: str

    def get(self, name: str) -> bytes | None:
        """The value of that name."""

    def put(
        self, name: str, value: bytes | None, instead_of: Any = ..., keep: float | None = None
    ) -> bool:
        """Put it there; only in the place of another one, if that is told."""

    def watch(self) -> Any:
        """Begin to hear of changes."""

    def lock(self, name: str, seconds: float) -> Any:
        """A lease, or None."""

    def close(self) -> None:
        """Let connections go."""


class TakenOverError(IssueError):
    """Another machine has gone on with a name meanwhile."""

    def __init__(self, name: str) -> None:
        words = f"{name}: another machine has taken it over"
        super().__init__(Trouble.OURS, words)


class SharedArchive(Archive):
    """The folder of this machine, and the store."""

    spread = SPREAD

    def __init__(self, settings: AcmeSettings, store: SharedValues, seal: Seal) -> None:
        super().__init__(settings.folder(), settings.authorities)
        self.store = store
        self.there = False  # whether the store is, as far as is known
        self.why = ""  # it is not
        self.changed: Callable[[str], object] = ignore  # told a name of which there is news
        self.names = set(settings.names)
        self._seal = seal
        self._on_demand = settings.ask is not None
        self._who = secrets.token_hex(8)
        self._turn = threading.RLock()  # one entry after another
        self._own: dict[str, tuple[float, str]] = {}  # answers of orders of this process
        self._over: set[str] = set()  # those that are over, as the store does not know yet
        self._theirs: set[str] = set()  # answers that were written here for others
        self._added: set[str] = set()  # names on demand, as the store does not know yet
        self._dropped: set[str] = set()

    def lose(self, error: StoreError) -> None:
        """The store is away, as somebody has found."""
        self.there, self.why = False, str(error)

    # ── entries ─────────────────────────────────────────────────────────────────────────────────

    def put(
        self, authority: Authority, name: str, file: str, data: bytes | None, *, first: bool = False
    ) -> bool:
        """As an archive does, and into the store.

        Raises `TakenOverError` where another machine has another version of it by now.
        """
        with self._turn:
            if (
                self.there
                and not name.startswith("_")
                and self._holder(authority, name) != self._who
            ):
                raise TakenOverError(name)  # what the other one has put there is here already
            if first:
                self._try(lambda: self.agree(authority, name))
            if not super().put(authority, name, file, data, first=first):
                return False
            ours = self._try(lambda: self.agree(authority, name))
        if ours is not False:
            return True
        if name.startswith("_"):
            return False
        raise TakenOverError(name)

    def _try(self, call: Callable[[], bool]) -> bool | None:
        """What `call` says; None where the store is away."""
        if not self.there:
            return None
        try:
            return call()
        except StoreError as error:
            self.lose(error)
            return None

    def entries(self) -> Iterator[tuple[Authority, str]]:
        """All that may be there; the accounts come first."""
        for name in (ACCOUNT, LIMITS, *sorted(self.names)):
            for authority in self.authorities:
                yield authority, name

    def agree(self, authority: Authority, name: str) -> bool:
        """Bring an entry into agreement. False: what was changed here had to give way."""
        key = shared_values.entry_name(authority, name)
        for _ in range(TRIES):
            with self._turn:
                raw = self.store.get(key)
                theirs = shared_values.unpacked(self._opened(key, raw))
                ours, dirty = self._ours(authority, name)
                wanted = merged(ours, theirs, dirty=dirty, account=name.startswith("_"))
                if wanted is not None and wanted.version > max(ours.version, theirs.version):
                    wanted = replace(wanted, holder=self._who)
                if wanted is theirs:
                    self._take(authority, name, ours, theirs)
                    return not dirty or ours.files == theirs.files
                if wanted is None or self._told(key, wanted, raw):
                    self._take(authority, name, ours, ours if wanted is None else wanted)
                    return True
        raise StoreError(f"others change {name} all the time")

    def fence(self, authority: Authority, name: str) -> None:
        """Whoever has worked on a name until now, and still thinks so, has lost it."""
        key = shared_values.entry_name(authority, name)
        for _ in range(TRIES):
            with self._turn:
                self.agree(authority, name)
                raw = self.store.get(key)
                theirs = shared_values.unpacked(self._opened(key, raw))
                wanted = Entry(theirs.version + 1, self._who, theirs.files)
                if self._told(key, wanted, raw):
                    self._note(authority, name, wanted)
                    return
        raise StoreError(f"others change {name} all the time")

    def _told(self, key: str, wanted: Entry, raw: bytes | None) -> bool:
        data = self._seal.closed(key, shared_values.packed(wanted))
        return self.store.put(key, data, instead_of=raw)

    def holds(self, authority: Authority, name: str) -> bool:
        """Whether nobody has worked on a name since `fence`. Raises `StoreError`."""
        with self._turn:
            self.agree(authority, name)
            key = shared_values.entry_name(authority, name)
            found = shared_values.unpacked(self._opened(key, self.store.get(key)))
            return found.holder == self._who

    def _opened(self, key: str, raw: bytes | None) -> bytes | None:
        if raw is None:
            return None
        try:
            return self._seal.opened(key, raw)
        except SealError as error:
            raise StoreError(str(error)) from None

    def _ours(self, authority: Authority, name: str) -> tuple[Entry, bool]:
        """What is here, and whether it was changed since it was in agreement."""
        files: dict[str, str] = {}
        damaged = False
        for file in FILES:
            data = read(self.of(authority, name, file))
            if data is None:
                continue
            text = data.decode("utf-8", "replace")
            if shared_values.sound(file, text):
                files[file] = text
            else:
                damaged = True
        mark = self.json(self.of(authority, name, MARK))
        version = mark.get("version")
        if damaged or not isinstance(version, int):
            return Entry(0, "", files), bool(files)
        found = Entry(version, str(mark.get("holder", "")), files)
        return found, found.digest() != mark.get("digest")

    def _holder(self, authority: Authority, name: str) -> str:
        """Who has made the version that is here."""
        return str(self.json(self.of(authority, name, MARK)).get("holder", ""))

    def _note(self, authority: Authority, name: str, entry: Entry) -> None:
        """Write down which version is here."""
        told = {"version": entry.version, "holder": entry.holder, "digest": entry.digest()}
        if entry.version and self.json(self.of(authority, name, MARK)) != told:
            write(self.of(authority, name, MARK), json.dumps(told).encode())

    def _take(self, authority: Authority, name: str, ours: Entry, theirs: Entry) -> None:
        """Write what another machine has put there."""
        for file in FILES if theirs.files != ours.files else ():
            text = theirs.files.get(file)
            if text is None:
                remove(self.of(authority, name, file))
            elif text != ours.files.get(file):
                write(self.of(authority, name, file), text.encode())
        self._note(authority, name, theirs)
        if theirs.files == ours.files:
            return
        if theirs.files.get("certificate.pem") != ours.files.get("certificate.pem"):
            at = self.linked(name)
            if at is not None and self.authorities[at] == authority:
                self.link(authority, name)  # so that workers look at it
        if not name.startswith("_"):
            self.changed(name)

    # ── answers ─────────────────────────────────────────────────────────────────────────────────

    def answered(self, path: str) -> None:
        """Have other machines answer a challenge as well."""
        file = os.path.basename(path)
        text = (read(path) or b"").decode("latin-1")
        self._own[file] = time.time() + shared_values.KEPT, text
        self._try(self.agree_answers)

    def unanswered(self, path: str) -> None:
        """That challenge is over."""
        file = os.path.basename(path)
        self._own.pop(file, None)
        self._over.add(file)
        self._try(self.agree_answers)

    def agree_answers(self) -> bool:
        """Tell of our answers, and write those of others. Raises `StoreError`."""
        over = set(self._over)

        def change(found: bytes | None) -> bytes | None:
            before = shared_values.answers_of(found, time.time())
            after = {file: told for file, told in before.items() if file not in over} | self._own
            return None if after == before else json.dumps(after).encode()

        found = self._settle(ANSWERS, change)
        self._over -= over
        there = shared_values.answers_of(found, time.time())
        folder = os.path.join(self.folder, "answers")
        with self._turn:
            for file, (_, text) in there.items():
                path, data = os.path.join(folder, file), text.encode("latin-1", "replace")
                if file not in self._own and read(path) != data:
                    write(path, data)
                    self._theirs.add(file)
            for file in self._theirs - there.keys():
                remove(os.path.join(folder, file))
            self._theirs &= there.keys()
        return True

    def begin_anew(self) -> None:
        """The store may have forgotten everything: what is here is told as if it were new."""
        self._theirs.clear()  # answers that others will tell again; what is left of them is swept
        self._added |= set(self.take_names("demanded", remove_them=False)) - self._dropped

    # ── names on demand ─────────────────────────────────────────────────────────────────────────

    def demand(self, name: str) -> None:
        """A name on demand was let in, for all machines."""
        self._added.add(name)  # first: else it is taken for one that others have dropped
        self._dropped.discard(name)
        super().demand(name)
        self.names.add(name)
        self._try(self.agree_names)

    def undemand(self, name: str) -> None:
        """It is allowed no more."""
        self._dropped.add(name)
        self._added.discard(name)
        super().undemand(name)
        self._try(self.agree_names)

    def agree_names(self) -> bool:
        """Tell of names that were let in here, and take over others. Raises `StoreError`."""
        if not self._on_demand:
            return True
        added, dropped = set(self._added), set(self._dropped)
        here = set(self.take_names("demanded", remove_them=False))

        def change(found: bytes | None) -> bytes | None:
            before = shared_values.names_of(found, is_name)
            after = ((before if found is not None else here) | added) - dropped
            if len(after) > shared_values.MOST_NAMES:
                log.warning("names on demand: more than %d are not shared", len(after))
            names = sorted(after)[: shared_values.MOST_NAMES]
            return None if after == before else json.dumps({"names": names}).encode()

        there = shared_values.names_of(self._settle(NAMES, change), is_name)
        self._added -= added
        self._dropped -= dropped
        for name in there - here:
            super().demand(name)
        for name in here - there - self._added:
            super().undemand(name)
        for name in there - self.names:
            self.names.add(name)
            for authority in self.authorities:
                self.agree(authority, name)
            self.changed(name)
        return True

    def _settle(self, name: str, change: Rewrite) -> bytes | None:
        """The value of `name`, once it is as `change` wants it."""
        for _ in range(TRIES):
            raw = self.store.get(name)
            found = self._opened(name, raw)
            wanted = change(found)
            if wanted is None:
                return found
            if self.store.put(name, self._seal.closed(name, wanted), instead_of=raw):
                return wanted
        raise StoreError(f"others change {name} all the time")


def merged(ours: Entry, theirs: Entry, *, dirty: bool, account: bool) -> Entry | None:
    """What an entry is to be: `theirs` itself, another one, or None: it is as it should be.

    `dirty`: ours was changed since its version. `account`: nobody has a lease on it.
    """
    if theirs.version > ours.version:
        kept = dict(theirs.files)
        if dirty and account and _same_key(ours, theirs):
            kept |= ours.files  # two processes that know the same account have written it
        elif not ours.version and "certificate.pem" not in theirs.files:
            # A machine that has had a certificate before it had the store.
            kept |= {one: text for one, text in ours.files.items() if one == "certificate.pem"}
        return theirs if kept == theirs.files else Entry(theirs.version + 1, "", kept)
    if theirs.version == ours.version and not dirty:
        # Two machines may have made the same version while the store had forgotten it.
        return None if ours.files == theirs.files else theirs
    if not theirs.version and not ours.version and not ours.files:
        return None
    return Entry(max(ours.version, theirs.version) + dirty, ours.holder, ours.files)


def _same_key(ours: Entry, theirs: Entry) -> bool:
    one, other = (
        shared_values.json_of(entry.files.get("account.json", "").encode()).get("key")
        for entry in (ours, theirs)
    )
    return one == other
