"""WebSocket load in a process of its own: echo as fast as it goes, or many that only stay open.

`python -m bench.wsload echo PORT tls|plain CONNECTIONS SIZE SECONDS` prints its result.
`python -m bench.wsload idle PORT tls|plain CONNECTIONS` prints a line once all are open, then
holds them until it is told to stop.
`python -m bench.wsload storm PORT tls|plain CONNECTIONS SIZE SECONDS PERMILLE`: for the soak, each
connection echoes for a while and is replaced; that many in a thousand are cut, the rest closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from time import perf_counter

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench import payloads
from bench.procs import insecure_context

AT_ONCE = 64  # handshakes in flight while thousands are opened
STORM_STAYS = 4.0  # seconds at most that a WebSocket of the soak lives
HOLD_SECONDS = 180.0  # an idle load that is forgotten ends by itself


class Client(WSListener):
    """Sends a message, waits for its echo, sends the next."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.count = 0
        self.errors = 0
        self.sent = 0.0
        self.waits: list[float] = []
        self.running = True
        self.closed = False
        self.echoed = asyncio.get_running_loop().create_future()

    def fire(self, transport: WSTransport) -> None:
        self.sent = perf_counter()
        transport.send(WSMsgType.BINARY, self.message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        now = perf_counter()
        if frame.msg_type != WSMsgType.BINARY or frame.payload_size != len(self.message):
            self.errors += 1
            return
        self.count += 1
        self.waits.append(now - self.sent)
        if self.running:
            self.sent = now
            transport.send(WSMsgType.BINARY, self.message)
        elif not self.echoed.done():
            self.echoed.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closed = True
        if self.running:
            self.errors += 1
        if not self.echoed.done():
            self.echoed.set_result(None)


async def connect(port: int, tls: bool, message: bytes) -> tuple[WSTransport, Client]:
    transport, client = await ws_connect(
        lambda: Client(message),
        f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws/client/",
        ssl_context=insecure_context() if tls else None,
        server_hostname=payloads.HOST if tls else None,
        extra_headers={"Host": payloads.HOST, "User-Agent": payloads.AGENTS[0]},
        websocket_handshake_timeout=30,
        read_buffer_init_size=4096,
    )
    assert isinstance(client, Client)
    return transport, client


async def echo(port: int, tls: bool, connections: int, size: int, seconds: float) -> None:
    message = payloads.body(size)
    pairs = [await connect(port, tls, message) for _ in range(connections)]
    clients = [client for _transport, client in pairs]
    for transport, client in pairs:  # a first round before the clock starts
        client.fire(transport)
    await asyncio.sleep(0.1)
    print("WARM", flush=True)
    before, start = sum(client.count for client in clients), perf_counter()
    await asyncio.sleep(seconds)
    print("END", flush=True)
    count, took = sum(client.count for client in clients) - before, perf_counter() - start
    for client in clients:
        client.running = False
    stuck = [client for client in clients if client.count == 0]
    waits = sorted(wait for client in clients for wait in client.waits)
    result = {
        "requests": count,
        "micros": round(took * 1e6),
        "errors": sum(client.errors for client in clients) + len(stuck),
        "p50": round(waits[len(waits) // 2] * 1e6) if waits else 0,
        "p99": round(waits[len(waits) * 99 // 100] * 1e6) if waits else 0,
    }
    for transport, _client in pairs:
        transport.disconnect()
    print("BENCH", json.dumps(result), flush=True)


async def idle(port: int, tls: bool, connections: int) -> None:
    """Each connection exchanges one message and then rests."""
    gate = asyncio.Semaphore(AT_ONCE)
    errors: list[str] = []
    held: list[tuple[WSTransport, Client]] = []

    async def one() -> None:
        async with gate:
            try:
                transport, client = await connect(port, tls, b"x" * 64)
                client.running = False
                client.fire(transport)
                await asyncio.wait_for(client.echoed, 30)
                held.append((transport, client))
            except Exception as error:  # noqa: BLE001 - counted and shown
                errors.append(repr(error))

    await asyncio.gather(*(one() for _ in range(connections)))
    lost = sum(client.closed for _transport, client in held)
    result = {"open": len(held) - lost, "errors": len(errors) + lost, "why": errors[:3]}
    print("BENCH", json.dumps(result), flush=True)
    await asyncio.sleep(HOLD_SECONDS)


async def storm(
    port: int, tls: bool, connections: int, size: int, seconds: float, permille: int
) -> None:
    """Without cuts each lost connection is an error. With cuts it is only counted."""
    message, end = payloads.body(size), perf_counter() + seconds
    count = cut = lost = opened = 0
    why = ""

    async def one() -> None:
        nonlocal count, cut, lost, opened, why
        while perf_counter() < end:
            try:
                transport, client = await connect(port, tls, message)
            except Exception as error:  # noqa: BLE001 - counted and shown
                lost += 1
                why = repr(error)
                await asyncio.sleep(0.05)
                continue
            opened += 1
            client.fire(transport)
            await asyncio.sleep(min(random.uniform(0.1, STORM_STAYS), max(0, end - perf_counter())))
            count += client.count
            client.waits.clear()
            if client.closed or client.errors:
                lost += 1
                why = why or "closed by the other side"
            elif random.randrange(1000) < permille:
                cut += 1
                transport.underlying_transport.abort()
            else:
                client.running = False
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.echoed, 10)
                transport.send_close(1000)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(transport.wait_disconnected(), 10)
                transport.disconnect()

    await asyncio.gather(*(one() for _ in range(connections)))
    result = {"requests": count, "reopened": opened, "resets": cut, "errors": lost, "why": why}
    print("BENCH", json.dumps(result), flush=True)


def main() -> None:
    mode, port, tls, connections, *more = sys.argv[1:]
    if mode == "echo":
        size, seconds = int(more[0]), float(more[1])
        uvloop.run(echo(int(port), tls == "tls", int(connections), size, seconds))
    elif mode == "storm":
        size, seconds, permille = int(more[0]), float(more[1]), int(more[2])
        uvloop.run(storm(int(port), tls == "tls", int(connections), size, seconds, permille))
    else:
        uvloop.run(idle(int(port), tls == "tls", int(connections)))


if __name__ == "__main__":
    main()
