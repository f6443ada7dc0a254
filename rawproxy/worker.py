"""One event loop: it binds, says what it does, serves, and drains on SIGINT or SIGTERM.

It never handles a request itself. Invariant: when `run` returns, nothing it started is left: no
socket, task, thread or child.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from .admin import Admin
from .config import Address, Config, Group, Upstream
from .errors import ConfigError, ProxyError
from .listener import Listener, bind
from .members import reach
from .meter import Tree
from .service import Service, log
from .sink import LogSink
from .tls import ServerContext, certificate_warnings, server_context

RESERVE = 64  # descriptors for listeners, logs, certificates and the loop itself
DESCRIPTORS = 1 << 20  # Linux's own default ceiling (fs.nr_open)
POLL = 0.05  # seconds between looks at what is still open while draining


class Closer(Protocol):
    """What a companion gives: something to close at the end."""

    async def close(self) -> None: ...


Companion = Callable[[], Awaitable[Closer]]


def run(config: Config, *, companion: Companion | None = None) -> int:
    """Serve until a signal says stop. Exit code: 0 drained, 1 could not start.

    `companion` is started before the listeners and closed after them: the demo's upstream.
    Raises `ConfigError` for certificates that cannot be used.
    """
    _set_up_logging()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, companion))


def probe(config: Config) -> list[tuple[Group, Upstream, list[str] | ProxyError | ConfigError]]:
    """Reach each server once, for `rawproxy check`: a line for each address, or why not."""
    _set_up_logging()

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
    return uvloop.new_event_loop  # type: ignore[no-any-return,unused-ignore]


def _set_up_logging() -> None:
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s rawproxy %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the loop could tell nobody else. A peer's doing is no news; the rest is a bug."""
    error = context.get("exception")
    if isinstance(error, OSError | ssl.SSLError):
        log.debug("%s: %s", context.get("message"), error)
    else:
        log.error("internal error: %s", context.get("message"), exc_info=error)


async def _serve(config: Config, companion: Companion | None) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    context = server_context(config) if config.https else None
    for text in certificate_warnings(config):
        log.warning("%s", text)
    async with contextlib.AsyncExitStack() as stack:
        try:
            if companion is not None:
                closer = await companion()
                stack.push_async_callback(closer.close)
            sink = None if config.access_log == "off" else LogSink(config.access_log)
        except OSError as error:
            return _cannot_start(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        if sink is not None:
            stack.callback(sink.close)
        service = Service(config, sink.write if sink is not None else None)
        if sink is not None:
            service.notes.log_lost = lambda: sink.lost
        # Without a log, logrotate's signal must not end the process.
        loop.add_signal_handler(signal.SIGUSR1, sink.reopen if sink is not None else int)
        if not config.limits.connections:
            # As HAProxy: a connection needs a descriptor on either side.
            service.admission.total = max((_descriptors() - RESERVE) // 2, 1)
        try:
            listeners = _listen(service, config, context)
        except OSError as error:
            return _cannot_start(str(error))
        if config.admin is not None:
            try:
                await _start_admin(config.admin, service, stack)
            except OSError as error:
                for listener in listeners:
                    listener.close()
                return _cannot_start(f"--admin: {error.strerror or error}")
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        service.start()
        for listener in listeners:
            listener.start()
        gc.collect()
        gc.freeze()  # what lives for ever need not be looked at again and again
        _say_ready(config, listeners)
        await stop.wait()
        await _drain(service, listeners, stop)
    return 0


async def _start_admin(
    address: Address, service: Service, stack: contextlib.AsyncExitStack
) -> None:
    """The admin's own listener, till the very end. Raises `OSError`."""

    async def alone() -> Tree:
        return {"workers": [service.snapshot()], "retired": {}}

    admin = Admin(address, alone)
    await admin.start()
    stack.push_async_callback(admin.close)
    where = f"unix:{address.path}" if address.path else f"http://{address.host or ''}:{admin.port}"
    print(f"admin on {where}", file=sys.stderr)
    if admin.exposed():
        log.warning(
            "--admin %s can be reached from other machines, and asks nobody for a password: mind"
            " who is in that network, or type --admin 127.0.0.1:%d",
            where, admin.port,
        )  # fmt: skip


def _descriptors() -> int:
    """File descriptors this process may have, after raising that as far as is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most


def _listen(service: Service, config: Config, context: ServerContext | None) -> list[Listener]:
    """Bind everything, or nothing. Raises `OSError` that names the option."""
    listeners: list[Listener] = []
    https_port = 0
    try:
        for address in config.https:
            for sock in _bind("--https", address):
                listeners.append(Listener(service, sock, context, address=address))
                if address.path is None:
                    https_port = https_port or sock.getsockname()[1]
        # An https listener on a socket file stands behind something that has the usual port.
        redirect = (https_port or 443) if config.https and config.redirect else 0
        for address in config.http:
            listeners += [
                Listener(service, sock, None, redirect, address)
                for sock in _bind("--http", address)
            ]
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind(option: str, address: Address) -> list[Any]:
    shown = address.path or f"{address.host or ''}:{address.port}"
    try:
        return bind(address)
    except PermissionError as error:
        hint = ""
        if address.path is None and address.port < 1024:
            hint = f"; ports below 1024 need root or CAP_NET_BIND_SERVICE, or try {option} :8443"
        raise OSError(f"{option} {shown}: {error.strerror}{hint}") from None
    except OSError as error:
        raise OSError(f"{option} {shown}: {error.strerror or error}") from None


def _cannot_start(reason: str) -> int:
    print(f"rawproxy: error: cannot start: {reason}", file=sys.stderr, flush=True)
    return 1


def _say_ready(config: Config, listeners: list[Listener]) -> None:
    lines = []
    for listener in listeners:
        scheme = "http" if listener.context is None else "https"
        name = listener.sock.getsockname()
        if isinstance(name, str):
            where = f"unix:{name}"
        else:
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            where = f"{scheme}://{host}:{name[1]}"
        what = " (301 to https)" if listener.redirect else ""
        lines.append(f"listening on {where}{what}")
    lines += [f"upstream {one.url}" for group in config.groups for one in group.upstreams]
    lines.append("rawproxy ready")
    print("\n".join(lines), file=sys.stderr, flush=True)


async def _drain(service: Service, listeners: list[Listener], stop: asyncio.Event) -> None:
    """Finish exchanges, close the rest; a second signal or the deadline cuts them short."""
    loop = asyncio.get_running_loop()
    stop.clear()
    for listener in listeners:
        listener.close()
    service.drain()
    end = loop.time() + service.deadlines.drain
    while service.clients and loop.time() < end and not stop.is_set():
        await asyncio.sleep(POLL)
    for client in tuple(service.clients):
        client.abort()
    service.stop()
    await asyncio.sleep(0)


__all__ = ["Companion", "ConfigError", "probe", "run"]
