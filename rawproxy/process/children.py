"""A master's child processes, and the signals it hears.

A child is this very command once more (the same interpreter, flags and arguments, so that whatever
found the code the first time finds it again), told by one variable that it is a child. It gets the
sockets by inheritance and everything else through its socketpair.

Nothing here decides. Invariant: a child that was killed has been waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Self

from rawproxy.errors import ignore
from rawproxy.process.channel import Channel, Message
from rawproxy.process.systemd import VARIABLES

VARIABLE = "RAWPROXY_CHILD"  # the descriptor of the child's end of the socketpair
PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a successor starts; longer, and its clients go
HEALTHY = 10.0  # seconds a worker has to live for its death not to look like the last one's
# glibc gives a freed 256 KiB (one read of a large body) back to the kernel, page by page, and asks
# for it anew: a fifth of the cost of a large response. Kept are at most 4 MiB. What the admin has
# set stays; other C libraries do not care.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 20)}
# A terminal sends these to the whole group; what they mean for a worker is the master's to say.
GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Child:
    """One child process."""

    def __init__(self, slot: int, fds: Iterable[int]) -> None:
        ours, theirs = socket.socketpair()
        inherited = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        environment = ALLOCATOR | inherited
        environment[VARIABLE] = str(theirs.fileno())
        # Blocked until the child has said what it does about them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
        try:
            self.process = subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]],
                env=environment,
                pass_fds=(theirs.fileno(), *fds),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.slot = slot
        self.pid = self.process.pid
        self.channel = Channel(ours)
        self.born = self.heard = time.monotonic()
        self.open = True  # the socketpair
        self.ready = False
        self.failed: tuple[list[str], int] | None = None  # why it could not start, and exit code

    def __repr__(self) -> str:
        return f"<Child {self.slot} {self.pid} {'ready' if self.ready else 'starting'}>"

    def say(self, message: Message) -> None:
        """Tell it, if it still listens."""
        if self.open:
            self.channel.send(message)

    def hang_up(self) -> None:
        """Hear it no more."""
        self.open = False
        self.channel.sock.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """For the log."""
    code = process.returncode
    if code >= 0:
        return f"exited with {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


class Backoff:
    """How long to wait before the next try; the last try's life says whether to wait longer."""

    __slots__ = ("_pause",)

    def __init__(self) -> None:
        self._pause = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait after one that lived so long: none at first, then ever longer."""
        if lived >= HEALTHY:
            self._pause = 0.0
        pause, self._pause = self._pause, min(max(2 * self._pause, PAUSE), LONGEST_PAUSE)
        return pause


class SignalPipe:
    """Signals as bytes of a socket that `select` can wait for."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.sock, self._wake = socket.socketpair()
        self.sock.setblocking(False)
        self._wake.setblocking(False)
        self._numbers = tuple(numbers)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._before = {n: signal.signal(n, ignore) for n in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.sock.close()
        self._wake.close()

    def read(self) -> bytes:
        """The numbers of the signals that came."""
        try:
            return self.sock.recv(4096)
        except BlockingIOError:
            return b""
