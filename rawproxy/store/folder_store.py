"""The store in a folder that all machines share: on NFS, say, or on one machine for trials.

    values/NAME    a line with the seconds to keep it (0: for ever), and the value behind it
    locks/NAME     who holds a lock and for how long; renewed by the file's time
    counts/WHO     what a machine counted in the last two seconds
    guard          locked (flock) for as long as something is looked at and changed

A file is written under another name first, so nobody reads half of one. Changes are found by
looking, ten times a second: no notice of another machine's change comes over NFS. The times of
locks are the file server's, so machines whose clocks differ agree. Where a mount keeps what it
knows of files for longer (`actimeo`), news comes as much later, and limits are as much looser.

Invariants: only its owner can read what is written here; a file that somebody else put there is
never taken for a value it is not. Raises `StoreError`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar
from urllib.parse import quote, unquote

from rawproxy.errors import StoreError
from rawproxy.store.address import StoreAddress
from rawproxy.store.amounts import Amounts, packed, unpacked
from rawproxy.store.verbs import (
    ANY,
    VALUE,
    Event,
    Expected,
    SharedStore,
    StoreLease,
    StoreWatch,
    ValueChanged,
    checked,
)

T = TypeVar("T")
PATIENCE: Final = 1.0  # seconds to wait for the guard: whoever has it writes one small file
LOOK: Final = 0.1  # seconds between two looks for changes
LAST: Final = 20  # messages that a machine's file of counts has: two seconds, for late readers
GONE: Final = 60.0  # seconds after which the counts of a machine that is silent are removed
_HEADER: Final = b"rawproxy value "
Seen = dict[str, tuple[int, int, int]]  # by file: when it was changed, its number, its size


class FolderStore(SharedStore):
    """One folder. It is made if it does not exist."""

    def __init__(self, address: StoreAddress) -> None:
        self.shown = address.shown
        self._root = address.path
        self._messages: list[bytes] = []  # of ours, the last ones
        self._own = ""  # our file of counts

    def folder(self, kind: str) -> str:
        """The path of one of the folders, which is there when this returns. Raises `OSError`."""
        path = os.path.join(self._root, kind)
        os.makedirs(path, 0o700, exist_ok=True)
        return path

    def _file(self, kind: str, name: str) -> str:
        return os.path.join(self.folder(kind), quote(name, safe=""))

    def get(self, name: str) -> bytes | None:
        return tried(lambda: read_value(self._file("values", checked(name))))

    def put(
        self, name: str, value: bytes | None, instead_of: Expected = ANY, keep: float | None = None
    ) -> bool:
        checked(name, (value,))

        def change() -> bool:
            path = self._file("values", name)
            with self.guarded():
                if instead_of is not ANY and read_value(path) != instead_of:
                    return False
                if value is None:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
                else:
                    write(path, b"%b%d\n%b" % (_HEADER, round(keep or 0), value), safely=True)
                return True

        return tried(change)

    def watch(self) -> StoreWatch:
        return tried(lambda: FolderWatch(self.folder("values"), self.folder("counts")))

    def lock(self, name: str, seconds: float) -> StoreLease | None:
        checked(name)

        def take() -> StoreLease | None:
            path, token = self._file("locks", name), os.urandom(16).hex()
            with self.guarded() as now:
                if holder(path, now):
                    return None
                write(path, f"{token} {seconds}".encode())
            return FolderLease(self, path, token)

        return tried(take)

    def count(self, amounts: Amounts) -> None:
        def tell() -> None:
            folder = self.folder("counts")
            data = packed(amounts)
            self._messages = [*self._messages[1 - LAST :], len(data).to_bytes(4) + data]
            self._own = os.path.join(folder, f"{amounts.who:016x}")
            write(self._own, b"".join(self._messages))
            if amounts.number % 100 == 1:
                forget(folder)

        tried(tell)

    def close(self) -> None:
        if self._own:
            with contextlib.suppress(OSError):
                os.unlink(self._own)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[float]:
        """Be the only one who changes anything; the file server's time. Raises `OSError`."""
        os.makedirs(self._root, 0o700, exist_ok=True)
        path = os.path.join(self._root, "guard")
        guard = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise TimeoutError(f"{path} is locked by another one") from None
                    time.sleep(0.005)
            os.utime(path)
            yield os.stat(path).st_mtime
        finally:
            os.close(guard)  # which lets go of the lock


class FolderWatch(StoreWatch):
    """What has changed since it last looked."""

    def __init__(self, values: str, counts: str) -> None:
        self._values, self._counts = values, counts
        self._seen, self._counted = look(values), look(counts)
        # By file: the number of the last message that was heard.
        self._heard = {name: last_number(os.path.join(counts, name)) for name in self._counted}

    def wait(self, seconds: float) -> list[Event]:
        end = time.monotonic() + seconds
        while True:
            found = tried(self._changes)
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(LOOK, left))

    def _changes(self) -> list[Event]:
        found: list[Event] = []
        seen, counted = look(self._values), look(self._counts)
        for name in {*seen, *self._seen}:
            if seen.get(name) != self._seen.get(name):
                with contextlib.suppress(ValueError):  # a file that is no value of ours
                    found.append(ValueChanged(checked(unquote(name))))
        for name, how in counted.items():
            if self._counted.get(name) != how:
                messages = read_messages(os.path.join(self._counts, name))
                last = self._heard.get(name, 0)
                found += [one for one in messages if one.number > last]
                self._heard[name] = max([last, *(one.number for one in messages)])
        for name in [one for one in self._heard if one not in counted]:
            del self._heard[name]
        self._seen, self._counted = seen, counted
        return found

    def close(self) -> None:
        self._seen.clear()


class FolderLease(StoreLease):
    """A lock, as long as its file has our token and is not too old."""

    def __init__(self, store: FolderStore, path: str, token: str) -> None:
        self._store, self._path, self._token = store, path, token

    def renew(self) -> bool:
        def hold() -> bool:
            with self._store.guarded() as now:
                if holder(self._path, now) != self._token:
                    return False
                os.utime(self._path)
                return True

        return tried(hold)

    def release(self) -> None:
        def leave() -> None:
            with self._store.guarded() as now:
                if holder(self._path, now) == self._token:
                    os.unlink(self._path)

        tried(leave)


# ── files ───────────────────────────────────────────────────────────────────────────────────────


def tried(call: Callable[[], T]) -> T:
    """What `call` returns. Raises `StoreError` for what the system raises."""
    try:
        return call()
    except OSError as error:
        why = f"{error.strerror or error}"
        raise StoreError(f"{why}: {error.filename}" if error.filename else why) from None


def write(path: str, data: bytes, *, safely: bool = False) -> None:
    """Put a file there as a whole; `safely`: it is on the disk when this returns."""
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{os.getpid()}-{os.urandom(4).hex()}-{name[:64]}")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            if safely:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def read(path: str, most: int) -> bytes | None:
    """A file, or None where there is none. Raises `OSError`; `ValueError` if it is longer."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    if len(data) > most:
        raise ValueError(f"{path} is longer than {most} bytes")
    return data


def read_value(path: str) -> bytes | None:
    """A value, or None: there is none, its time is over, or the file is none of ours."""
    try:
        data = read(path, VALUE + 64)
        age = time.time() - os.stat(path).st_mtime if data else 0.0
    except (FileNotFoundError, ValueError):
        return None
    line, newline, value = (data or b"").partition(b"\n")
    keep = line.removeprefix(_HEADER)
    if not (newline and line.startswith(_HEADER) and keep.isdigit()):
        return None
    return value if keep == b"0" or age < int(keep) else None


def holder(path: str, now: float) -> str:
    """The token of who holds a lock; empty: nobody does any more."""
    try:
        data = read(path, 128)
        held = os.stat(path).st_mtime if data else 0.0
        token, _, seconds = (data or b"").decode().partition(" ")
        return token if token and now < held + float(seconds) else ""
    except (FileNotFoundError, ValueError):
        return ""


def read_messages(path: str) -> list[Amounts]:
    """The messages of a machine; none from a file that is none of ours. Raises `OSError`."""
    found: list[Amounts] = []
    try:
        rest = read(path, LAST << 17) or b""
        while rest:
            length = int.from_bytes(rest[:4])
            found.append(unpacked(rest[4 : 4 + length]))
            rest = rest[4 + length :]
    except ValueError:
        return found
    return found


def last_number(path: str) -> int:
    """The number of the last message in a file of counts; 0: there is none."""
    return max((one.number for one in read_messages(path)), default=0)


def look(folder: str) -> Seen:
    """What there is, and what tells whether it is the same. Raises `OSError`."""
    found: Seen = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat()
                    found[entry.name] = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
    return found


def forget(folder: str) -> None:
    """Remove the counts of machines that are silent, and what was left half done."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime > GONE:
                    os.unlink(entry.path)
