"""A process with an event loop: a worker of a master, or a server without a master.

    run             without a master (the demo): binds, serves, drains on SIGINT or SIGTERM
    serve_master    under a master: obeys its orders and serves on its sockets
    probe           serves nothing: `rawproxy check` reaches each upstream with it

This module never handles a request itself. Invariants: when one of these functions returns, nothing
that it started is left: no socket, task, thread or child. A worker whose master has gone drains and
ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from rawproxy.config.collector import lasting
from rawproxy.config.model import Address, Config, Group, Upstream
from rawproxy.errors import ConfigError, ProxyError, failure
from rawproxy.net.openssl.at_start import found_out
from rawproxy.process.adoption import Adoption
from rawproxy.process.channel import MasterChannel, Message, encode
from rawproxy.process.order import OrderError, unpack_config, unpacked
from rawproxy.process.server import WorkerServer, open_server
from rawproxy.proxy.tunnel_close import DrainReason
from rawproxy.telemetry import error_log
from rawproxy.telemetry.error_log import log
from rawproxy.tls.sessions import Sessions
from rawproxy.upstream.members import reach


class Closer(Protocol):
    """What starting a companion returns: something that can be closed."""

    async def close(self) -> None: ...


Companion = Callable[[], Awaitable[Closer]]


def run(config: Config, *, companion: Companion | None = None) -> int:
    """Serve without a master until a signal comes. The exit code is 0, or 1 if it cannot start.

    `companion` is what must run beside the proxy, as the upstream of the demo. It is started before
    the listeners and closed after them. Raises `ConfigError` for certificates that cannot be used.
    """
    error_log.set_up()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, companion))


def probe(config: Config) -> list[tuple[Group, Upstream, list[str] | ProxyError | ConfigError]]:
    """Reach each upstream once, for `rawproxy check`: a line for each address, or the error."""
    error_log.set_up(serving=False)
    for text in found_out():
        log.warning("%s", text)

    async def look(group: Group, upstream: Upstream) -> list[str] | ProxyError | ConfigError:
        try:
            return await reach(config, group, upstream)
        except (ProxyError, ConfigError) as error:
            return error

    pairs = [(group, upstream) for group in config.groups for upstream in group.upstreams]
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return [(*pair, runner.run(look(*pair))) for pair in pairs]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # asyncio's own loop serves, slower
    # Where mypy finds no uvloop, it is `Any`.
    return uvloop.new_event_loop  # type: ignore[no-any-return,unused-ignore]


async def _serve(config: Config, companion: Companion | None) -> int:
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        try:
            if companion is not None:
                closer = await companion()
                stack.push_async_callback(closer.close)
            server = open_server(config, stack)
            server.install_capabilities(stack, None)
            server.listen()
            await server.serve_admin(server.own_sums, stack)
        except OSError as error:
            reasons, code = failure(error)
            error_log.cannot(reasons)
            return code
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, server.reopen)
        server.start()
        error_log.say("\n".join([*server.lines(), "rawproxy ready"]))
        await stop.wait()
        stop.clear()
        await server.drain(stop, DrainReason.STOPPED)
    return 0


def serve_master(sock: socket.socket, message: Message) -> int:
    """Serve as the work order in `message` says, until the master ends it; the exit code."""
    error_log.set_up()
    try:
        with lasting():
            config = unpack_config(unpacked(message["order"]))
    except OrderError as error:
        sock.sendall(encode({"failed": [str(error)], "code": error.code}))
        return error.code
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_obey(sock, config, message))


async def _obey(sock: socket.socket, config: Config, message: Message) -> int:
    """The life of a worker under a master: ready, serving, draining."""
    loop = asyncio.get_running_loop()
    master = MasterChannel()
    orders = Orders(master)
    loop.add_signal_handler(signal.SIGTERM, orders.leave, DrainReason.RETIRED)
    await loop.create_unix_connection(lambda: master, sock=sock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(master.close)
        try:
            first = message["slot"] == 0  # this worker does what only one of them may do
            sessions = Sessions(_keys(message))
            pem = message["throwaway"]
            server = open_server(config, stack, pem and pem.encode(), sessions, quiet=not first)
            # A master of older code has neither of these.
            server.contents = dict(message["order"].get("contents", ()))
            server.install_capabilities(stack, message.get("memory"))
            inherited = [(Address(*where), fds) for where, fds in message["sockets"]]
            server.listen(lambda _, address: _take(inherited, address))
            if first:
                await server.serve_admin(master.sums, stack)
        except (ConfigError, OSError) as error:
            reasons, code = failure(error)
            master.say({"failed": reasons, "code": code})
            return code
        service = server.service
        master.snapshot, master.pins, master.learn = service.snapshot, service.pins, service.learn
        master.renew, master.reseed = sessions.renew, service.reseed
        # At once: a worker that starts within the second would trust whoever it sees first.
        service.tell_pins(master.report)
        master.orders["reopen"] = server.reopen
        adoption = Adoption(server, master.say, sessions)
        master.change = adoption.hear
        stack.callback(adoption.drop)
        master.say({"is": "ready", "lines": server.lines()})
        await orders.until(orders.serve)
        if not orders.stop.is_set():
            server.start()
            await orders.stop.wait()
            master.say({"is": "draining"})
            orders.server = server
            await server.drain(orders.cut, orders.leaving)
        master.report()
    return 0


class Orders:
    """The orders of the master that a worker has received so far."""

    def __init__(self, master: MasterChannel) -> None:
        self.stop, self.cut, self.serve = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.leaving = DrainReason.RETIRED
        self.server: WorkerServer | None = None  # once it drains
        master.orders |= {
            "serve": self.serve.set,
            "retire": lambda: self.leave(DrainReason.RETIRED),
            "drain": lambda: self.leave(DrainReason.STOPPED),
            "cut": self.cut.set,
        }
        master.gone = lambda: self.leave(DrainReason.STOPPED)

    def leave(self, how: DrainReason) -> None:
        """Begin to drain. A worker that drains already hears that there is less time now."""
        self.leaving = how
        self.stop.set()
        if self.server is not None:
            self.server.service.drain(how)

    async def until(self, event: asyncio.Event) -> None:
        """Wait for `event`, or for the order to leave."""
        waiting = [asyncio.ensure_future(one.wait()) for one in (event, self.stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


def _keys(message: Message) -> bytes | None:
    """The keys of TLS tickets; None from a master whose older code has none."""
    found = message.get("tickets")
    return bytes.fromhex(found) if found else None


def _take(inherited: list[tuple[Address, list[int]]], address: Address) -> list[socket.socket]:
    """The sockets that the master has passed for `address`. Each can be taken once."""
    found = next(pair for pair in inherited if pair[0] == address)
    inherited.remove(found)
    return [socket.socket(fileno=fd) for fd in found[1]]
