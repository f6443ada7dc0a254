"""The child processes of a master, and the signals that the master receives.

A child is the same command once more: the same interpreter, flags and arguments, so that it finds
the code where the first process found it. An environment variable tells it that it is a child. It
inherits the listening sockets, and hears of everything else through its socketpair.

This module decides nothing: `master` does. Invariant: a child that was killed here has been waited
for, so no zombie is left.
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
from typing import Any, Self

from rawproxy.errors import ignore
from rawproxy.process.channel import ChildChannel, Message
from rawproxy.process.systemd import VARIABLES

VARIABLE = "RAWPROXY_CHILD"  # the descriptor of the child's end of the socketpair
PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a successor starts; clients wait no longer
HEALTHY = 10.0  # seconds of life after which a death is a new fault, not the last one again
# glibc gives a freed 256 KiB (one read of a large body) back to the kernel, page by page, and asks
# for it anew. That is a fifth of the cost of a large response. With these it keeps 4 MiB at most.
# The admin's own settings win, and other C libraries ignore these.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 20)}
# A terminal sends these to the whole process group. The master tells its workers what they mean.
GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Child:
    """One child process and the master's end of its socketpair."""

    def __init__(self, slot: int, fds: Iterable[int]) -> None:
        ours, theirs = socket.socketpair()
        inherited = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        environment = ALLOCATOR | inherited
        environment[VARIABLE] = str(theirs.fileno())
        # The child unblocks them once it ignores them. Till then they would end it.
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
        self.channel = ChildChannel(ours)
        self.born = self.heard = time.monotonic()
        self.open = True  # whether the socketpair is
        self.ready = False
        self.order: Any = None  # the `Order` of a worker
        self.failed: tuple[list[str], int] | None = None  # why it cannot start, and an exit code

    def __repr__(self) -> str:
        return f"<Child {self.slot} {self.pid} {'ready' if self.ready else 'starting'}>"

    def say(self, message: Message) -> None:
        """Send a message, if the socketpair is still open."""
        if self.open:
            self.channel.send(message)

    def hang_up(self) -> None:
        """Close the socketpair."""
        self.open = False
        self.channel.sock.close()

    def kill(self) -> None:
        """End the process now, and wait for its end."""
        self.process.kill()
        self.process.wait()


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """The end of a process in words, for the log."""
    code = process.returncode
    if code >= 0:
        return f"exited with {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


class Backoff:
    """How long to wait before the next try. It grows as long as each try ends soon."""

    __slots__ = ("_pause",)

    def __init__(self) -> None:
        self._pause = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait after a process that lived for `lived` seconds: none at first."""
        if lived >= HEALTHY:
            self._pause = 0.0
        pause, self._pause = self._pause, min(max(2 * self._pause, PAUSE), LONGEST_PAUSE)
        return pause


class SignalPipe:
    """Makes signals readable: each is a byte of a socket that `select` can wait for."""

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
        """The numbers of the signals that have come since the last call."""
        try:
            return self.sock.recv(4096)
        except BlockingIOError:
            return b""
