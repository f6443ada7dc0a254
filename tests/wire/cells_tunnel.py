"""Faults within a tunnel, of either side, and of an upstream that grants what nobody asked for."""

import asyncio
import contextlib

from .matrix import (
    ALERT,
    GARBAGE,
    LATER,
    SOON,
    Cell,
    Scene,
    bare_fin,
    cut,
    half_close,
    outcome,
    raw,
)
from .rig import read_head
from .test_tunnel import ASK, GRANT

BLOCK = bytes(100_000)


class Ends:
    """Both ends of the victim's tunnel."""

    def __init__(self, client, upstream) -> None:
        self.client = client
        self.upstream = upstream


async def open_tunnel(scene: Scene) -> Ends:
    got: asyncio.Future = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def act(scene: Scene, reader, writer) -> None:
        writer.write(GRANT)
        got.set_result((reader, writer))
        await over.wait()

    scene.act = act
    client = await scene.rig.client()
    client[1].write(ASK)
    await read_head(client[0])
    ends = Ends(client, await got)
    client[1].write(b"ping")
    assert await ends.upstream[0].readexactly(4) == b"ping"
    ends.upstream[1].write(b"pong")
    assert await client[0].readexactly(4) == b"pong"
    return ends


async def _sees(reader) -> str:
    """How a tunnel ended for this side."""
    try:
        while data := await reader.read(65536):
            if data.startswith(GARBAGE):
                return "passes"
    except OSError:
        return "cut"
    return "end"


def tunnelled(side: str, name: str):
    async def play(scene: Scene) -> str:
        ends = await open_tunnel(scene)
        here, there = ends.client, ends.upstream
        if side == "upstream":
            here, there = there, here
        got = await _play(name, scene, here, there)
        for _, writer in (here, there):
            writer.transport.abort()
        return got

    return play


async def _play(name: str, scene: Scene, here, there) -> str:
    reader, writer = here
    if name == "garbage":
        writer.write(GARBAGE)
        return await _sees(there[0])
    if name == "slow":  # it stops reading; the other side sends for as long as it is let
        writer.transport.pause_reading()
        sending = there[1]
        with contextlib.suppress(OSError):
            while not sending.transport.is_closing():
                sending.write(BLOCK)
                await sending.drain()
        return "cut"
    if name == "reset":
        cut(writer)
    elif name == "TLS alert":
        raw(writer, ALERT)
    elif name == "bare FIN":
        bare_fin(writer)
    elif name == "half-close":
        half_close(writer)
        got = await _sees(there[0])
        if not scene.tls:  # the other direction goes on
            there[1].write(b"bye")
            assert await reader.readexactly(3) == b"bye"
            there[1].write_eof()
            assert await reader.read() == b""
        return got
    return await _sees(there[0])


def _tunnels() -> list[Cell]:
    row = {"reset": "end", "half-close": "end", "silence": "end", "garbage": "passes",
           "slow": "cut", "TLS alert": "end", "bare FIN": "end"}  # fmt: skip
    return [
        Cell(
            f"{side}",
            "within a tunnel",
            name,
            tunnelled(side, name),
            "" if name in ("TLS alert", "bare FIN") else sees,
            sees,
            {"deadlines": {"tunnel_idle": LATER}} if name in ("silence", "slow") else {},
        )
        for side in ("client", "upstream")
        for name, sees in row.items()
    ]


# ── before it stands ────────────────────────────────────────────────────────────────────────────


def granting(name: str):
    async def act(scene: Scene, reader, writer) -> None:
        if name == "garbage":
            writer.write(GRANT.replace(b"websocket", b"h2c"))
        elif name == "half-close":
            writer.write(GRANT[:40])
            await writer.drain()
            half_close(writer)
        elif name == "reset":
            writer.write(GRANT[:40])
            await writer.drain()
            await asyncio.sleep(0.02)
            cut(writer)
        await reader.read()

    async def play(scene: Scene) -> str:
        scene.act = act
        reader, writer = await scene.rig.client()
        writer.write(ASK + b"early")
        return await outcome(reader)

    return play


def _grants() -> list[Cell]:
    row = {"reset": "502", "half-close": "502", "silence": "504", "garbage": "502"}
    return [
        Cell("upstream", "granting a tunnel", name, granting(name), sees, sees,
             {"deadlines": {"response_head": SOON}} if name == "silence" else {})
        for name, sees in row.items()
    ]  # fmt: skip


CELLS = [*_grants(), *_tunnels()]
