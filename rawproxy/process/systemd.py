"""What systemd wants to know and gives: readiness, the watchdog, and sockets that it listens on.

The messages (sd_notify(3)) and the reading of the environment (sd_listen_fds(3) and
sd_watchdog_enabled(3)) are plain functions. Only `Notifier` has a socket. If something other than
systemd starts rawproxy, all of this does nothing.

This module never reads the clock. Invariant: it never waits for systemd. A message that cannot be
sent at once is dropped, as the service matters more than the news of it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

from rawproxy.net.listening import PassedSocket

FIRST_FD = 3  # SD_LISTEN_FDS_START
VARIABLES = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
)  # fmt: skip


def ready(status: str) -> bytes:
    """The message that the service is ready, at the start or after a reload."""
    return _message("READY=1", f"STATUS={status}")


def reloading(now: float) -> bytes:
    """The message that a reload begins. `now` is CLOCK_MONOTONIC in seconds; `ready` ends it."""
    return _message("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}", "STATUS=reloading")


def status(text: str) -> bytes:
    """The message with a text for `systemctl status`."""
    return _message(f"STATUS={text}")


def stopping(text: str) -> bytes:
    """The message that the service drains and will stop."""
    return _message("STOPPING=1", f"STATUS={text}")


def alive() -> bytes:
    """The message that keeps the watchdog from restarting the service."""
    return _message("WATCHDOG=1")


def _message(*lines: str) -> bytes:
    return "\n".join(line.replace("\n", " ") for line in lines).encode()


def watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which `alive` must be sent again; None if no watchdog waits for it."""
    usec = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit() and int(usec)) or meant not in ("", str(pid)):
        return None
    return int(usec) / 1e6


def passed(environment: Mapping[str, str], pid: int) -> tuple[PassedSocket, ...]:
    """The sockets that systemd passed to the process `pid`, if it passed any."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit()):
        return ()
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return tuple(PassedSocket(FIRST_FD + i, names[i]) for i in range(int(count)))


class Notifier:
    """Sends messages to the datagram socket that NOTIFY_SOCKET names; without one, nowhere."""

    def __init__(self, address: str) -> None:
        # A leading @ stands for the NUL of Linux's abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._sock is not None:
            self._sock.setblocking(False)

    def send(self, message: bytes) -> None:
        """Send the message if that is possible at once."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.sendto(message, self._address)

    def close(self) -> None:
        """Send no more messages."""
        if self._sock is not None:
            self._sock.close()
