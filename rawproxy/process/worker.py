"""One event loop: a worker of a master, or all by itself.

    run             by itself (the demo): binds, serves, and drains on SIGINT or SIGTERM
    serve_master    under a master, by its orders and with its sockets
    probe           serves nothing: `rawproxy check` reaches each upstream

It never handles a request itself. Invariants: when any of these returns, nothing it started is
left: no socket, task, thread or child; a worker whose master has gone drains and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from rawproxy.config.model import Address, Config, Group, Upstream
from rawproxy.errors import ConfigError, ProxyError, failure
from rawproxy.net.openssl.at_start import found_out
from rawproxy.process.channel import Control, Message, encode
from rawproxy.process.order import OrderError, unpack_config, unpacked
from rawproxy.process.server import Doors, open_doors
from rawproxy.proxy.tunnel_close import DrainReason
from rawproxy.telemetry import error_log
from rawproxy.telemetry.error_log import log
from rawproxy.tls.sessions import Sessions
from rawproxy.upstream.members import reach


class Closer(Protocol):
    """What a companion gives: something to close at the end."""

    async def close(self) -> None: ...


Companion = Callable[[], Awaitable[Closer]]


def run(config: Config, *, companion: Companion | None = None) -> int:
    """Serve until a signal says stop. Exit code: 0 drained, 1 could not start.

    `companion` is started before the listeners and closed after them: the demo's upstream.
    Raises `ConfigError` for certificates that cannot be used.
    """
    error_log.set_up()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, companion))


def probe(config: Config) -> list[tuple[Group, Upstream, list[str] | ProxyError | ConfigError]]:
    """Reach each server once, for `rawproxy check`: a line for each address, or why not."""
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
    """Alone."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        try:
            if companion is not None:
                closer = await companion()
                stack.push_async_callback(closer.close)
            doors = open_doors(config, stack)
            doors.bring_in(stack, None)
            doors.listen()
            await doors.serve_admin(doors.alone, stack)
        except OSError as error:
            reasons, code = failure(error)
            error_log.cannot(reasons)
            return code
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, doors.reopen)
        doors.start()
        error_log.say("\n".join([*doors.lines(), "rawproxy ready"]))
        await stop.wait()
        stop.clear()
        await doors.drain(stop, DrainReason.STOPPED)
    return 0


def serve_master(sock: socket.socket, message: Message) -> int:
    """Serve what the master orders, until it says that it is enough. Exit code: 0 drained."""
    error_log.set_up()
    try:
        config = unpack_config(unpacked(message["order"]))
    except OrderError as error:
        sock.sendall(encode({"failed": [str(error)], "code": error.code}))
        return error.code
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_obey(sock, config, message))


async def _obey(sock: socket.socket, config: Config, message: Message) -> int:
    """Under a master: ready, serving, draining."""
    loop = asyncio.get_running_loop()
    control = Control()
    orders = Orders(control)
    loop.add_signal_handler(signal.SIGTERM, orders.leave, DrainReason.RETIRED)
    await loop.create_unix_connection(lambda: control, sock=sock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(control.close)
        try:
            first = message["slot"] == 0  # what is to be done once is done by this one
            sessions = Sessions(_keys(message))
            pem = message["throwaway"]
            doors = open_doors(config, stack, pem and pem.encode(), sessions, quiet=not first)
            doors.bring_in(stack, message.get("memory"))  # a master of older code has none
            inherited = [(Address(*where), fds) for where, fds in message["sockets"]]
            doors.listen(lambda _, address: _take(inherited, address))
            if first:
                await doors.serve_admin(control.sums, stack)
        except (ConfigError, OSError) as error:
            reasons, code = failure(error)
            control.say({"failed": reasons, "code": code})
            return code
        service = doors.service
        control.snapshot, control.pins, control.learn = (
            service.snapshot, service.pins, service.learn,
        )  # fmt: skip
        control.renew = sessions.renew
        # At once: a worker that starts within the second would trust whoever it sees first.
        service.tell_pins(control.report)
        control.orders["reopen"] = doors.reopen
        control.say({"is": "ready", "lines": doors.lines()})
        await orders.until(orders.serve)
        if not orders.stop.is_set():
            doors.start()
            await orders.stop.wait()
            control.say({"is": "draining"})
            orders.doors = doors
            await doors.drain(orders.cut, orders.leaving)
        control.report()
    return 0


class Orders:
    """What the master has told a worker to do so far."""

    def __init__(self, control: Control) -> None:
        self.stop, self.cut, self.serve = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.leaving = DrainReason.RETIRED
        self.doors: Doors | None = None  # once it drains
        control.orders |= {
            "serve": self.serve.set,
            "retire": lambda: self.leave(DrainReason.RETIRED),
            "drain": lambda: self.leave(DrainReason.STOPPED),
            "cut": self.cut.set,
        }
        control.gone = lambda: self.leave(DrainReason.STOPPED)

    def leave(self, how: DrainReason) -> None:
        """Drain; one that drains already may be told that there is less time now."""
        self.leaving = how
        self.stop.set()
        if self.doors is not None:
            self.doors.service.drain(how)

    async def until(self, event: asyncio.Event) -> None:
        """Wait for `event`, or for the order to leave."""
        waiting = [asyncio.ensure_future(one.wait()) for one in (event, self.stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


def _keys(message: Message) -> bytes | None:
    """The keys of TLS tickets; a master of older code has none."""
    found = message.get("tickets")
    return bytes.fromhex(found) if found else None


def _take(inherited: list[tuple[Address, list[int]]], address: Address) -> list[socket.socket]:
    """The sockets that the master has for `address`; each is taken once."""
    found = next(pair for pair in inherited if pair[0] == address)
    inherited.remove(found)
    return [socket.socket(fileno=fd) for fd in found[1]]
