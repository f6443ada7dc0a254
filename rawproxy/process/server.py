"""What one worker opens and closes: its log, its service, its listeners, its admin server.

This module decides nothing: `worker` does, by the master's orders or without a master. Invariant:
either every listener has its sockets, or none is left open.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

from rawproxy.admin.server import Admin, CounterSource
from rawproxy.client.h1_responder import ANSWER_ONLY
from rawproxy.client.listener import Listener
from rawproxy.config.capabilities import modules
from rawproxy.config.caution import cautions
from rawproxy.config.collector import lasting
from rawproxy.config.model import Address, Config
from rawproxy.config.options import CAPABILITIES
from rawproxy.net.kernel_relay import PIPES, PIPES_OF_ALL
from rawproxy.net.listening import bind, explained
from rawproxy.net.openssl.at_start import found_out
from rawproxy.process import against, build
from rawproxy.proxy.service import Service
from rawproxy.proxy.service_change import ServiceChange
from rawproxy.proxy.tunnel_close import DrainReason
from rawproxy.telemetry.access_log_file import LogSink
from rawproxy.telemetry.counters import Tree
from rawproxy.telemetry.error_log import log
from rawproxy.tls.kept import KeptContexts, missing
from rawproxy.tls.renewal import INTERVAL, Renewal
from rawproxy.tls.server import ServerContext, certificate_warnings, server_context
from rawproxy.tls.sessions import Sessions

RESERVE = 64  # descriptors for listeners, logs, certificates and the loop itself
DESCRIPTORS = 1 << 20  # Linux's own default ceiling (fs.nr_open)
POLL = 0.05  # seconds between looks at what is still open while draining

Sockets = Callable[[str, Address], list[socket.socket]]  # of an option and the address it names


def open_server(
    config: Config, stack: contextlib.AsyncExitStack, throwaway: bytes | None = None,
    sessions: Sessions | None = None, *, quiet: bool = False,
) -> WorkerServer:  # fmt: skip
    """Open everything but the sockets; `stack` closes it. Raises `ConfigError` and `OSError`.

    `throwaway` is the certificate of --self-signed, if the master has made it. A worker that is
    `quiet` logs no warnings about the configuration: another one does.
    """
    asyncio.get_running_loop().set_exception_handler(_on_loop_error)
    sys.unraisablehook = _on_unraisable
    if config.https or any(one.tls for group in config.groups for one in group.upstreams):
        for text in found_out():
            if not quiet:
                log.warning("%s", text)
    sessions = sessions or Sessions()
    unshared = sessions.find_out() if config.https else None
    if unshared is not None and not quiet:
        log.warning("%s", unshared)
    kept: KeptContexts[ServerContext] = KeptContexts()
    make = functools.partial(server_context, config, throwaway, sessions, kept)
    renewal = Renewal(config, make, quiet=quiet, kept=kept)
    context = make() if config.https else None
    kept.took()
    for text in () if quiet else (*certificate_warnings(config), *missing(kept.pending)):
        log.warning("%s", text)
    sink = None if config.access_log == "off" else LogSink(config.access_log)
    with lasting():
        service = Service(config, sink.write if sink is not None else None)
    server = WorkerServer(service, context, sink)
    stack.callback(server.close_log)
    server.bound()
    server.quiet = quiet
    if not (quiet or build.is_compiled()):
        stack.callback(build.watch_load())
    if context is not None:
        service.certificates = kept.told
        renewal.use = server.use
        stack.callback(server.watch(renewal))
    return server


class PreparedWorker:
    """All that one worker needs of another configuration."""

    def __init__(self, change: ServiceChange) -> None:
        self.change = change
        self.config = change.config
        self.context: ServerContext | None = None  # None: that of now stays
        self.renewal: Renewal | None = None  # and who looks after its certificates
        self.kept: KeptContexts[ServerContext] = KeptContexts()
        self.sink: LogSink | None = None
        self.contents: dict[str, str] = {}  # of its files that are other ones: fingerprints
        self.new_sink = False  # whether `sink` is another one than that of now

    def drop(self) -> None:
        """It will not be put in force."""
        if self.new_sink and self.sink is not None:
            self.sink.close()


class WorkerServer:
    """The service of one worker, and all listeners that lead to it."""

    def __init__(
        self, service: Service, context: ServerContext | None, sink: LogSink | None
    ) -> None:
        self.service = service
        self.context = context
        self.sink = sink
        self.listeners: list[Listener] = []
        self.admin: Admin | None = None
        self.sockets: Sockets = _bind
        self.borrowed = False  # whether the sockets belong to the master
        self.quiet = False
        self.renewal: Renewal | None = None
        self.contents: dict[str, str] = {}  # of the files of the configuration: fingerprints
        self._https_port = 0
        self._lost = 0  # lines that earlier logs have lost
        if sink is not None:
            service.recorder.log_lost = self._log_lost

    def _log_lost(self) -> int:
        return self._lost + (self.sink.lost if self.sink is not None else 0)

    def close_log(self) -> None:
        """Write what is queued, with the exchanges that were cut at the end."""
        self.service.recorder.flush()
        if self.sink is not None:
            self.sink.close()

    def bound(self) -> None:
        """Where the admin has set no limit, the file descriptors are one."""
        limits, service = self.service.config.limits, self.service
        descriptors = _descriptors()
        # A pipe takes two, and bodies can go without one.
        PIPES_OF_ALL.most = min(PIPES, descriptors // 32)
        rest = descriptors - RESERVE - 2 * PIPES_OF_ALL.most
        if not limits.connections:
            # As HAProxy reckons: a connection needs a descriptor on either side.
            service.admission.total = max(rest // 2, 1)
        if not limits.tunnels:
            service.most_tunnels = max(rest // 4, 1)

    def adopt(self, new: PreparedWorker) -> None:
        """Serve by another configuration from now on. Nothing here can fail."""
        config, before = new.config, self.sink
        if new.sink is not before:
            self._lost = self._log_lost()
            self.sink = new.sink
            new.change.recorder.log_lost = self._log_lost
        self.service.adopt(new.change)
        self.contents |= new.contents
        self.bound()
        if before is not None and before is not new.sink:
            # It writes what is queued, for up to a second.
            asyncio.get_running_loop().run_in_executor(None, before.close)
        for listener in self.listeners:
            listener.sites = new.change.for_new(listener.address)
            if listener.context is None:
                listener.redirect = self._redirect()
        if new.context is not None and new.renewal is not None:
            self.use(new.context)
            self.renewal, new.renewal.use = new.renewal, self.use
            self.service.certificates = new.kept.told
        if self.admin is not None:
            self.admin.called(config.server_names())

    def install_capabilities(self, stack: contextlib.AsyncExitStack, memory: int | None) -> None:
        """Let each capability add itself to the service; `stack` removes it again.

        `memory` is the descriptor of memory that all workers share, if there is a master.
        """
        for room in modules(CAPABILITIES, "wiring"):
            stack.callback(room.install(self.service, memory))

    def listen(self, sockets: Sockets | None = None) -> None:
        """Get the sockets, from `sockets` if given, and make the listeners.

        Raises `OSError`, which names the option.
        """
        config = self.service.config
        if sockets is not None:
            self.sockets, self.borrowed = sockets, True
        try:
            for address in config.https:
                socks = self._add("--https", address, self.context, 0)
                if address.path is None:
                    self._https_port = self._https_port or socks[0].getsockname()[1]
            for address in config.http:
                self._add("--http", address, None, self._redirect())
        except OSError:
            self._close()
            raise

    def _redirect(self) -> int:
        """The port that a plain listener sends clients to; 0: it serves them itself."""
        config = self.service.config
        # An https listener on a socket file stands behind a server that has the usual port.
        redirect = (self._https_port or 443) if config.https and config.redirect else 0
        if not redirect and self.service.plain_answer is not None:
            return ANSWER_ONLY
        return redirect

    def _add(
        self, option: str, address: Address, context: ServerContext | None, redirect: int
    ) -> list[socket.socket]:
        socks = self.sockets(option, address)
        self.listeners += [
            Listener(self.service, sock, context, redirect, address, borrowed=self.borrowed)
            for sock in socks
        ]
        return socks

    def _close(self) -> None:
        for listener in self.listeners:
            listener.close()

    def use(self, context: ServerContext) -> None:
        """Use `context` for every handshake that begins from now on."""
        self.context = context
        for listener in self.listeners:
            if listener.context is not None:
                listener.context = context

    def watch(self, renewal: Renewal) -> Callable[[], None]:
        """Look at the files of the certificates each second. The function returned ends that."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        self.renewal = renewal

        def look() -> None:
            nonlocal timer
            if self.renewal is not None:
                self.renewal.look()
            timer = loop.call_later(INTERVAL, look)

        look()
        assert timer is not None
        return lambda: timer.cancel()

    async def own_sums(self) -> Tree:
        """The numbers of this worker alone, for an admin server without a master."""
        return {"workers": [self.service.snapshot()], "retired": {}}

    async def serve_admin(self, source: CounterSource, stack: contextlib.AsyncExitStack) -> None:
        """Start the admin server, if it is wanted; `stack` closes it. Raises `OSError`."""
        address = self.service.config.admin
        if address is None:
            return
        try:
            socks = self.sockets("--admin", address)
        except OSError:
            self._close()
            raise
        self.admin = Admin(address, source, self.service.config.server_names())
        self.admin.compare = lambda body: against.told(self.service.config, self.contents, body)
        await self.admin.start(socks)
        stack.push_async_callback(self.admin.close)
        if self.admin.exposed():
            log.warning(
                "--admin %s can be reached from other machines, and it asks for no password:"
                " make sure that nobody else is in that network, or type --admin 127.0.0.1:%d",
                self._admin_at(), self.admin.port,
            )  # fmt: skip

    def start(self) -> None:
        """Begin to accept connections."""
        for text in () if self.quiet else cautions(self.service.config):
            log.warning("%s", text)
        self.service.start()
        for listener in self.listeners:
            listener.start()
        gc.collect()
        gc.freeze()  # the collector need not look again at what lives as long as the process

    def reopen(self) -> None:
        """Open the file of the access log anew: it may have been moved away."""
        if self.sink is not None:
            self.sink.reopen()

    def lines(self) -> list[str]:
        """Which addresses it listens on and where it sends requests, for the log at the start."""
        lines = []
        for listener in self.listeners:
            scheme = "http" if listener.context is None else "https"
            name = listener.sock.getsockname()
            if isinstance(name, str):
                where = f"unix:{name}"
            else:
                host = f"[{name[0]}]" if ":" in name[0] else name[0]
                where = f"{scheme}://{host}:{name[1]}"
            lines.append(
                f"listening on {where}{' (301 to https)' if listener.redirect > 0 else ''}"
            )
        if self.admin is not None:
            lines.append(f"admin on {self._admin_at()}")
        groups = self.service.config.groups
        lines += [f"upstream {one.url}" for group in groups for one in group.upstreams]
        return list(dict.fromkeys(lines))  # each once: an address may have several sockets

    def _admin_at(self) -> str:
        admin = self.admin
        assert admin is not None
        path, host = admin.address.path, admin.address.host or ""
        return f"unix:{path}" if path else f"http://{host}:{admin.port}"

    async def drain(self, cut: asyncio.Event, why: DrainReason) -> None:
        """Close the listeners and wait for the exchanges. `cut` or the deadline ends the wait."""
        service = self.service
        self._close()
        if self.admin is not None and why is DrainReason.RETIRED:
            await self.admin.close()  # the new generation of workers serves it now
        service.drain(why)
        while service.occupied() and service.tunnel_time_left() and not cut.is_set():
            if not service.time_left():
                for client in tuple(service.clients):
                    if not client.has_tunnels():
                        client.abort()
            await asyncio.sleep(POLL)
        for client in tuple(service.clients):
            client.abort()
        service.stop()
        await asyncio.sleep(0)


def _bind(option: str, address: Address) -> list[socket.socket]:
    try:
        return bind(address)
    except OSError as error:
        raise explained(option, address, error) from None


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that the loop caught. What a peer has done is no news; all else is a bug."""
    error = context.get("exception")
    if isinstance(error, OSError | ssl.SSLError):
        log.debug("%s: %s", context.get("message"), error)
    else:
        log.error("internal error: %s", context.get("message"), exc_info=error)


def _on_unraisable(found: sys.UnraisableHookArgs) -> None:
    """Log an error that Python could not raise anywhere.

    One of them is a peer's doing: a server name that is not ASCII. `ssl` decodes the name before it
    calls `sni_callback`, and has refused the handshake by then.
    """
    # Python 3.14 names the callback in its message; before, the name itself is the object.
    of_a_name = isinstance(found.object, bytes) or "servername" in (found.err_msg or "")
    if isinstance(found.exc_value, UnicodeDecodeError) and of_a_name:
        log.debug("handshake refused: a server name that is not ASCII")
    else:
        log.error("internal error: %s", found.err_msg, exc_info=found.exc_value)


def _descriptors() -> int:
    """How many file descriptors this process may have, after raising that limit if possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most
