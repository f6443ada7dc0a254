"""Who works on a name, where several processes, of several machines perhaps, share the folder.

    leases/NAME.7    the seventh lease of that name: who holds it, and a number that beats

A lease is taken by making the file of the next number, which only one can (O_EXCL). It is held as
long as its number beats, and free once its holder says so, has not beaten for `SILENCE` seconds by
the watch of whoever looks (clocks of machines are not compared), or is a process of this machine
that has ended.

It never waits. Invariant: of those who look at the same files, only one takes the next lease. A
holder that was stopped for longer than `SILENCE` hears by `Lease.held` that it has lost it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from rawproxy.acme.archive import make_folder, read, remove, write
from rawproxy.acme.settings import file_name

BEAT: Final = 4.0  # seconds between two beats
SILENCE: Final = (
    25.0  # seconds without a beat after which a lease is free: others go on in a minute
)


def here() -> str:
    """What tells this machine's processes from those of others: its boot, and who numbers them."""
    boot = read("/proc/sys/kernel/random/boot_id") or b""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return f"{socket.gethostname()} {boot.decode().strip()} {numbers}"


class Lease:
    """The right to work on a name."""

    def __init__(self, leases: Leases, name: str, path: str, number: int) -> None:
        self.name = name
        self.path = path
        self.number = number
        self._leases = leases
        self.beats = 0

    def held(self) -> bool:
        """Whether nobody else has taken it meanwhile."""
        return self._leases.newest(self.name)[0] == self.number

    def sure(self) -> None:
        """Called as an order is to begin. Raises `IssueError` where that is not ours to do."""

    def release(self) -> None:
        """Let others work on it."""
        self._leases.release(self)


class Leases:
    """Those of one process. `watch` counts seconds, as `time.monotonic` does."""

    def __init__(
        self, folder: str, where: str | None = None, watch: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = os.path.join(folder, "leases")
        self._watch = watch
        self._who = {
            "where": here() if where is None else where, "process": os.getpid(),
            "nonce": secrets.token_hex(8),
        }  # fmt: skip
        self._held: set[Lease] = set()
        self._seen: dict[str, tuple[bytes, float]] = {}  # by file: what it said, and since when
        self._lock = threading.Lock()

    def take(self, name: str) -> Lease | None:
        """The lease of `name`; None while another holds it. Raises `OSError`."""
        make_folder(self._folder)
        number, path = self.newest(name)
        if path and not self._is_free(path):
            return None
        lease = Lease(self, name, self._path(name, number + 1), number + 1)
        if not write(lease.path, self._words(lease), first=True):
            return None
        with self._lock:
            self._held.add(lease)
            self._seen.pop(path, None)
        if path:
            remove(path)
        return lease

    def beat(self) -> None:
        """Called every `BEAT` seconds. What cannot be written now may be a moment later."""
        with self._lock:
            for lease in self._held:
                lease.beats += 1
                if lease.held():
                    with contextlib.suppress(OSError):
                        write(lease.path, self._words(lease))

    def release(self, lease: Lease) -> None:
        """Give it up, if it is still ours."""
        with self._lock:
            self._held.discard(lease)
            if lease.held():
                with contextlib.suppress(OSError):
                    write(lease.path, b"{}")

    def newest(self, name: str) -> tuple[int, str]:
        """The number and the file of the last lease; 0 and nothing where there was none."""
        begin = file_name(name) + "."
        try:
            found = os.listdir(self._folder)
        except OSError:
            return 0, ""
        numbers = [
            int(one[len(begin) :])
            for one in found
            if one.startswith(begin) and one[len(begin) :].isdigit()
        ]
        return (max(numbers), self._path(name, max(numbers))) if numbers else (0, "")

    def _path(self, name: str, number: int) -> str:
        return os.path.join(self._folder, f"{file_name(name)}.{number}")

    def _words(self, lease: Lease) -> bytes:
        return json.dumps(self._who | {"beat": lease.beats}).encode()

    def _is_free(self, path: str) -> bool:
        """Whether the holder has given it up, has ended, or says nothing any more."""
        said = read(path)
        if said is None:
            return False  # it has just gone: somebody has taken the next one
        try:
            holder: Any = json.loads(said)
        except ValueError:
            holder = None
        if not isinstance(holder, dict):
            holder = {"where": "?"}  # only its silence tells
        if not holder.get("where") or self._has_ended(holder):
            return True
        if holder.get("nonce") == self._who["nonce"]:
            # Ours; perhaps of a moment in which the disk was too full to say that it was over.
            with self._lock:
                return not any(one.path == path for one in self._held)
        now = self._watch()
        with self._lock:
            before = self._seen.get(path)
            if before is None or before[0] != said:
                self._seen[path] = said, now
                return False
        return now - before[1] > SILENCE

    def _has_ended(self, holder: dict[str, Any]) -> bool:
        if holder["where"] != self._who["where"] or holder.get("nonce") == self._who["nonce"]:
            return False
        process = holder.get("process")
        if not isinstance(process, int) or process <= 0:
            return False
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False
