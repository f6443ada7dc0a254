"""systemd's side of a service: readiness, the watchdog, sockets that it listens on for us.

The messages (sd_notify(3)) and what the environment says (sd_listen_fds(3), sd_watchdog_enabled(3))
are plain functions of their arguments; only `Notifier` has a socket. Started by anything else, all
of it does nothing. It never reads the clock. Invariant: a message that cannot be delivered is
dropped, as the service matters more than the news of it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

from rawproxy.net.listening import Passed

FIRST_FD = 3  # SD_LISTEN_FDS_START
VARIABLES = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
)  # fmt: skip


def ready(status: str) -> bytes:
    """It serves, or serves again after a reload."""
    return _message("READY=1", f"STATUS={status}")


def reloading(now: float) -> bytes:
    """It begins to reload; `now` is CLOCK_MONOTONIC in seconds. `ready` says that it is over."""
    return _message("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}", "STATUS=reloading")


def status(text: str) -> bytes:
    """News for `systemctl status`."""
    return _message(f"STATUS={text}")


def stopping(text: str) -> bytes:
    """It drains."""
    return _message("STOPPING=1", f"STATUS={text}")


def alive() -> bytes:
    """The watchdog may sleep on."""
    return _message("WATCHDOG=1")


def _message(*lines: str) -> bytes:
    return "\n".join(line.replace("\n", " ") for line in lines).encode()


def watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which `alive` is due again; None where no watchdog waits for us."""
    usec = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit() and int(usec)) or meant not in ("", str(pid)):
        return None
    return int(usec) / 1e6


def passed(environment: Mapping[str, str], pid: int) -> tuple[Passed, ...]:
    """The sockets handed to the process `pid`; none where they are meant for another one."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit()):
        return ()
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return tuple(Passed(FIRST_FD + i, names[i]) for i in range(int(count)))


class Notifier:
    """Where the messages go: the datagram socket that NOTIFY_SOCKET names, or nowhere."""

    def __init__(self, address: str) -> None:
        # A leading @ stands for the NUL of Linux's abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._sock is not None:
            self._sock.setblocking(False)

    def send(self, message: bytes) -> None:
        """Deliver it, if that is possible at once."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.sendto(message, self._address)

    def close(self) -> None:
        """No more messages."""
        if self._sock is not None:
            self._sock.close()
