"""New TLS connections as fast as possible: handshake, one GET, close; full or resumed.

`python -m bench.tlsload PORT CONNECTIONS RESUME SECONDS` prints its result. It is a single epoll
loop over non-blocking sockets. To resume, each connection uses the newest ticket. Connections that
were not resumed are counted as errors.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
from time import perf_counter

from bench import payloads
from bench.procs import insecure_context

REQUEST = payloads.plain_request("/small/login", close=True).encode()
PATIENCE = 5.0  # seconds without any event: something hangs


class Load:
    """The loop's state: sockets by file number, counts, the newest session."""

    def __init__(self, port: int, resume: bool) -> None:
        self.port = port
        self.resume = resume
        self.context = insecure_context(["http/1.1"])
        self.poll = select.epoll()
        self.open: dict[int, tuple[ssl.SSLSocket, float]] = {}
        self.session: ssl.SSLSession | None = None
        self.done = self.errors = self.resumed = 0
        self.why = ""
        self.waits: list[float] = []

    def start(self) -> None:
        raw = socket.create_connection(("127.0.0.1", self.port), PATIENCE)  # instant on loopback
        raw.setblocking(False)
        tls = self.context.wrap_socket(
            raw,
            do_handshake_on_connect=False,
            server_hostname=payloads.HOST,
            suppress_ragged_eofs=True,
            session=self.session if self.resume else None,
        )
        self.open[tls.fileno()] = (tls, perf_counter())
        self.poll.register(tls.fileno(), select.EPOLLOUT)

    def step(self, number: int) -> bool:
        """Go on with one connection. True when it is over."""
        tls, began = self.open[number]
        try:
            if tls.version() is None:
                tls.do_handshake()
                self.waits.append(perf_counter() - began)
                tls.send(REQUEST)
            data = tls.recv(16_384)
            while data:
                data = tls.recv(16_384)
        except ssl.SSLWantReadError:
            self.poll.modify(number, select.EPOLLIN)
            return False
        except ssl.SSLWantWriteError:
            self.poll.modify(number, select.EPOLLOUT)
            return False
        except OSError as error:
            self.errors += 1
            self.why = repr(error)
            self.finish(number, tls)
            return True
        self.done += 1
        self.resumed += bool(tls.session_reused)
        self.session = tls.session or self.session
        self.finish(number, tls)
        return True

    def finish(self, number: int, tls: ssl.SSLSocket) -> None:
        self.poll.unregister(number)
        del self.open[number]
        tls.close()


def visit(load: Load, connections: int, count: int) -> None:
    """Make `count` connections, so many at the same time. Raises `OSError` if one fails."""
    if load.resume and load.session is None:
        load.session = first_session(load)
    end = load.done + count
    begun = min(connections, count)
    for _ in range(begun):
        load.start()
    while load.done < end:
        events = load.poll.poll(PATIENCE * 60)  # the proxy may run under valgrind
        if not events or load.errors or (load.resume and load.resumed < load.done):
            raise OSError(load.why or "nothing happened, or it was not resumed")
        for number, _mask in events:
            if load.step(number) and begun < count:
                load.start()
                begun += 1


def run(port: int, connections: int, resume: bool, seconds: float) -> dict[str, object]:
    load = Load(port, resume)
    if resume:
        load.session = first_session(load)
    for _ in range(connections):
        load.start()
    print("WARM", flush=True)
    start = perf_counter()
    end = start + seconds
    while perf_counter() < end:
        events = load.poll.poll(PATIENCE)
        if not events:
            load.errors += len(load.open)
            load.why = "nothing happened for seconds"
            break
        for number, _mask in events:
            if load.step(number):
                load.start()
    print("END", flush=True)
    took = perf_counter() - start
    if resume and load.resumed < load.done:
        load.errors += load.done - load.resumed
        load.why = load.why or "not resumed"
    waits = sorted(load.waits)
    return {
        "requests": load.done,
        "micros": round(took * 1e6),
        "errors": load.errors,
        "resumed": load.resumed,
        "why": load.why,
        "p50": round(waits[len(waits) // 2] * 1e6) if waits else 0,
        "p99": round(waits[len(waits) * 99 // 100] * 1e6) if waits else 0,
    }


def first_session(load: Load) -> ssl.SSLSession | None:
    """A ticket from a connection before the measurement starts."""
    with socket.create_connection(("127.0.0.1", load.port), 5) as raw:
        tls = load.context.wrap_socket(raw, server_hostname=payloads.HOST)
        tls.sendall(REQUEST)
        while tls.recv(16_384):
            pass
        return tls.session


def main() -> None:
    port, connections, resume, seconds = sys.argv[1:]
    print("BENCH", json.dumps(run(int(port), int(connections), resume == "1", float(seconds))))


if __name__ == "__main__":
    main()
