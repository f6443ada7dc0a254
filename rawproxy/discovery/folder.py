"""A folder whose `*.toml` files are fragments; inotify tells of changes.

A file that is being written has half of its lines, and half a file may be good TOML. So a file is
read when its writer has closed it or has renamed it into the folder, never between. Where that
cannot be told (a symbolic link that moves elsewhere, as Kubernetes does, or a system without
inotify, where the folder is looked at each half second), a file is read once it has looked the same
twice.

It never writes. Invariant: what is reported of a file is what its writer left in it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Iterator

from rawproxy.discovery.source import (
    LARGEST,
    MOST,
    Fragment,
    FragmentReport,
    Fragments,
    FragmentSource,
    SourceError,
)
from rawproxy.telemetry.error_log import log

SUFFIX = ".toml"
LOOK = 0.5  # seconds between two looks at a folder that cannot be watched
AGAIN = 5.0  # and at one that is not there; seconds
# inotify(7): a writer closed it; it was renamed into the folder, or out of it; it was removed; the
# folder itself went.
_CLOSED, _FROM, _TO, _DELETED, _SELF_GONE, _SELF_MOVED = 0x8, 0x40, 0x80, 0x200, 0x400, 0x800
_EVENTS = _CLOSED | _FROM | _TO | _DELETED | _SELF_GONE | _SELF_MOVED
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_HEAD = struct.Struct("iIII")

Mark = tuple[int, int, int]


class FolderSource(FragmentSource):
    """One folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = f"folder {path}"
        self._known: dict[str, tuple[Mark | None, Fragment]] = {}
        self._seen: dict[str, Mark] = {}  # marks of files that look as if they were being written

    def now(self) -> Fragments:
        """All fragments as they are now. Raises `SourceError`."""
        marks = self._marks()
        self._known = {name: one for name, one in self._known.items() if name in marks}
        return self._read(set(marks))

    async def run(self, report: FragmentReport) -> None:
        """FragmentReport at the beginning and at every change."""
        while True:
            watch = _Inotify.of(self.path)
            try:
                report(self.now())
                if watch is None:
                    await self._poll(report)
                else:
                    await self._follow(watch, report)
                log.warning("%s has gone; its fragments stay in force", self.name)
            except SourceError as error:
                log.warning("%s; what is known stays in force", error)
            finally:
                if watch is not None:
                    watch.close()
            while not os.path.isdir(self.path):
                await asyncio.sleep(AGAIN / 10)

    async def _follow(self, watch: _Inotify, report: FragmentReport) -> None:
        """As inotify tells it, until the folder has gone."""
        pending: set[str] = set()  # looked different without being told of
        while True:
            try:
                async with asyncio.timeout(LOOK if pending else None):
                    names = await watch.changed()
            except TimeoutError:
                names = set()
            if names is None:
                return
            told = {name for name in names if name.endswith(SUFFIX)}
            whole = len(told) < len(names) or bool(pending)
            before = dict(self._known)
            pending = self._look(told, whole)
            if self._known != before:
                report(self._fragments())

    async def _poll(self, report: FragmentReport) -> None:
        while os.path.isdir(self.path):
            await asyncio.sleep(LOOK)
            before = dict(self._known)
            self._look(set(), True)
            if self._known != before:
                report(self._fragments())

    def _look(self, told: set[str], whole: bool) -> set[str]:
        """Read the files that are `told`, of a `whole` look all that look the same twice.

        What looked different for the first time is returned: it is to be looked at again.
        """
        marks = self._marks()
        fresh = told & marks.keys()
        pending: set[str] = set()
        if whole:
            for name, mark in marks.items():
                known = self._known.get(name)
                if name in fresh or (known is not None and known[0] == mark):
                    self._seen.pop(name, None)
                elif self._seen.get(name) == mark:
                    del self._seen[name]
                    fresh.add(name)
                else:
                    self._seen[name] = mark
                    pending.add(name)
        self._known = {name: one for name, one in self._known.items() if name in marks}
        self._read(fresh)
        return pending

    def _marks(self) -> dict[str, Mark]:
        """What changes if a file does, by name. Raises `SourceError`."""
        found: dict[str, Mark] = {}
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                        try:
                            stat = entry.stat()
                        except OSError:
                            continue  # it has gone since, or its link leads nowhere
                        found[entry.name] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError as error:
            raise SourceError(
                f"[discovery] folder {self.path}: {error.strerror}; make it, or name another"
            ) from None
        if len(found) > MOST:
            raise SourceError(
                f"[discovery] folder {self.path}: {len(found)} files; at most {MOST} are read"
            )
        return found

    def _read(self, names: set[str]) -> Fragments:
        for name in names:
            path = os.path.join(self.path, name)
            try:
                with open(path, "rb") as file:
                    stat = os.fstat(file.fileno())
                    data = file.read(LARGEST + 1)
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    self._known.pop(name, None)
                else:
                    self._put(name, None, "", f": cannot be read: {error.strerror}")
                continue
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            self._put(name, mark, *_text(data))
        return self._fragments()

    def _put(self, name: str, mark: Mark | None, text: str, wrong: str) -> None:
        one = Fragment(os.path.join(self.path, name), text, self.path, wrong)
        self._known[name] = (mark, one)

    def _fragments(self) -> Fragments:
        return {name: one for name, (_, one) in sorted(self._known.items())}


def _text(data: bytes) -> tuple[str, str]:
    """The text of a file, or why it has none."""
    if len(data) > LARGEST:
        return "", f": larger than {LARGEST >> 20} MiB: make several files of it"
    try:
        return data.decode(), ""
    except UnicodeDecodeError:
        return "", ": not UTF-8; save it as UTF-8, as TOML wants"


class _Inotify:
    """One watch. It never says what a file has become."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._names: asyncio.Queue[set[str] | None] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(fd, self._read)

    @classmethod
    def of(cls, path: str) -> _Inotify | None:
        """A watch over `path`; None where the system has none to give."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        except (OSError, AttributeError):
            return None
        if fd < 0:
            return None
        if libc.inotify_add_watch(fd, os.fsencode(path), _EVENTS) < 0:
            os.close(fd)
            return None
        return cls(fd)

    async def changed(self) -> set[str] | None:
        """The names that something happened to; an empty one: anything. None: the folder went."""
        found = await self._names.get()
        while found is not None and not self._names.empty():
            more = self._names.get_nowait()
            found = None if more is None else found | more
        return found

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        names: set[str] | None = set()
        for mask, name in _events(data):
            if mask & (_SELF_GONE | _SELF_MOVED):
                names = None
                break
            assert names is not None
            names.add(name)
        self._names.put_nowait(names)

    def close(self) -> None:
        """Hear no more."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


def _events(data: bytes) -> Iterator[tuple[int, str]]:
    """The events in what inotify gave: mask and name, which is empty if events were lost."""
    at = 0
    while at < len(data):
        _, mask, _, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))
        at += size
