"""Where a child of the master begins. Its first message says what it is: a worker, say.

    worker    {"order": …}      serves until the master says that it is enough (`worker`)
    keeper    {"order": …, "keep": ROOM}    does what a capability does in a process of its own
    loader    {"do": "load"}    reads the configuration with the code as it is now (`loader`)

A child ignores the signals that a terminal sends to all processes at once: the master alone acts on
them. Invariant: if a child cannot do its work, the master is told why, in lines for the log. That
holds even for code that cannot be imported.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import socket
import sys
from collections.abc import Callable

from rawproxy.config.collector import paused
from rawproxy.config.reading import Reading
from rawproxy.errors import failure
from rawproxy.process.channel import Message, encode, first_message
from rawproxy.process.children import GROUP_SIGNALS
from rawproxy.telemetry import error_log

Read = Callable[[list[str]], Reading]


def main(fd: int, read: Read) -> int:
    """Do what the first message says, and return the exit code.

    `read` reads what the command's arguments and its file say.
    """
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    error_log.set_up()
    sock = socket.socket(fileno=fd)
    try:
        message = first_message(sock)
    except EOFError:
        return 0
    serve = loader = None
    try:
        if "keep" in message:
            serve = keep
        elif "order" in message:
            # Imported here, as it may be new code that cannot be imported: the master hears of it.
            from rawproxy.process.worker import serve_master

            serve = serve_master
        else:
            from rawproxy.process.loader import Loader

            with paused():
                loader = Loader(read(sys.argv[1:]), message)
                answer = loader.offer()
    except Exception as error:  # noqa: BLE001, and may fail in any way
        reasons, code = failure(error)
        answer = {"failed": reasons, "code": code}
    if serve is not None:
        return serve(sock, message)  # from here on the socket is a transport's, and it says all
    sock.sendall(encode(answer))
    if loader is not None and loader.stays():
        asyncio.run(loader.watch(sock))
    return 0


def keep(sock: socket.socket, message: Message) -> int:
    """The life of a keeper; the exit code."""
    from rawproxy.process.order import OrderError, unpack_config, unpacked

    room, memory = message["keep"], message["memory"]
    try:
        told = dict(unpack_config(unpacked(message["order"])).keepers)[room]
        code: int = importlib.import_module(f"rawproxy.{room}.keeper").serve(sock, told, memory)
    except Exception as error:  # noqa: BLE001, it is the master that says why
        code = error.code if isinstance(error, OrderError) else 1
        sock.sendall(encode({"failed": failure(error)[0], "code": code}))
    return code
