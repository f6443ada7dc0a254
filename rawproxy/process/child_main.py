"""What a child of the master is, told by its first message: a worker, or a loader.

The terminal's signals mean nothing to it: the master alone judges them. Invariant: whatever keeps
it from its work, be it code that cannot even be imported, the master is told in lines.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable

from rawproxy.config.model import Config
from rawproxy.errors import failure
from rawproxy.process.channel import Message, encode, first
from rawproxy.process.children import GROUP_SIGNALS
from rawproxy.telemetry import error_log

Read = Callable[[list[str]], Config]


def main(fd: int, read: Read) -> int:
    """Do what the master wants; the exit code. `read`: how arguments become a configuration."""
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    error_log.set_up()
    sock = socket.socket(fileno=fd)
    try:
        message = first(sock)
    except EOFError:
        return 0
    try:
        if "order" in message:
            from rawproxy.process.worker import (
                serve_master,  # code that is new since the master started
            )

            return serve_master(sock, message)
        answer = load(read, sys.argv[1:])
    except Exception as error:  # noqa: BLE001, and may fail in any way
        reasons, code = failure(error)
        answer = {"failed": reasons, "code": code}
    sock.sendall(encode(answer))
    return 0


def load(read: Read, arguments: list[str]) -> Message:
    """Read the configuration anew, with the code as it is now, and see whether it can be used."""
    from rawproxy.process.order import order
    from rawproxy.tls.server import server_context

    config = read(arguments)
    if config.https:
        server_context(config)
    return {"order": order(config).packed()}
