"""The stage of the fault matrix: one fault, one victim, and a bystander who must not notice.

A cell plays one fault at one phase, on one side. The bystander is a client in the middle of a
response of its own, over the same proxy and to the same upstream: it has to receive what follows,
and be served again. Afterwards nothing may be left: no client, no place, no busy connection, no
ticket, no tunnel, no task, no socket.

It uses public behaviour alone: sockets, and the state of service and pool.
"""

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import NamedTuple

from .rig import Rig, get, read_head, read_response, response, run

OF_A_STREAM = (  # what a peer can do to a connection that is up
    "reset", "half-close", "silence", "garbage", "surplus", "slow", "TLS alert", "bare FIN",
)  # fmt: skip
FAULTS = (*OF_A_STREAM, "certificate")
SOON = 0.3  # seconds of a deadline that is to be reached
TRIES = 5  # of a bystander to come in within `SOON`, on a busy machine
LATER = 1.0  # of one that also holds for the bystander, who must be able to keep it
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"  # fatal, handshake_failure, as a record of its own
GARBAGE = b"\x00\xff\r\n\x00"


class Cell(NamedTuple):
    """One fault, and what the victim has to see: over plain TCP, and over TLS; empty: no such."""

    side: str
    phase: str
    fault: str
    play: Callable[["Scene"], Awaitable[str]]
    plain: str
    tls: str
    options: dict = {}  # noqa: RUF012 - of the rig; nobody changes it

    def name(self) -> str:
        return f"{self.side}, {self.phase}: {self.fault}"


class Scene:
    """The proxy, what its upstream does, and who is there."""

    rig: Rig

    def __init__(self, tls: bool) -> None:
        self.tls = tls
        self.act: Callable = silence
        self.asked = asyncio.Event()  # the upstream has the victim's request
        self.told = asyncio.Event()  # the upstream has seen the end of the victim's connection
        self._words: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(self, reader, writer) -> None:
        """The upstream: honest towards the bystander, and towards the victim what `act` is."""
        while True:
            head = await read_head(reader)
            if head.startswith(b"GET /bystander "):
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while word := await self._words.get():
                    writer.write(b"%x\r\n%b\r\n" % (len(word), word))
                writer.write(b"0\r\n\r\n")
            elif head.startswith(b"GET /ok "):
                writer.write(response(b"ok"))
            else:
                self.asked.set()
                try:
                    await self.act(self, reader, writer)
                finally:
                    self.told.set()

    # ── the bystander ───────────────────────────────────────────────────────────────────────────

    async def bystand(self) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._reader, self._writer = await self.rig.client()
                self._writer.write(get(b"/bystander"))
                await read_head(self._reader)
                break
            except (
                OSError,
                EOFError,
            ):  # too slow for the short deadlines that the victim is to hit
                assert left, "no bystander comes in"
        self._talking = asyncio.ensure_future(self._talk())

    async def _talk(self) -> None:
        """Word for word, for as long as the fault takes: no deadline may hit this one."""
        number = 0
        while True:
            number += 1
            await self.hear(b"word %d" % number)
            await asyncio.sleep(0.02)

    async def hear(self, word: bytes) -> None:
        """What the upstream says now arrives, as the very next thing."""
        self._words.put_nowait(word)
        chunk = b"%x\r\n%b\r\n" % (len(word), word)
        assert await self._reader.readexactly(len(chunk)) == chunk

    async def leave(self) -> None:
        """The bystander's response ends well, and so does another request."""
        await self.shush()
        await self.hear(b"the last word")
        self._words.put_nowait(b"")
        assert await self._reader.readexactly(5) == b"0\r\n\r\n"
        self._writer.write(get(b"/ok"))
        assert (await read_response(self._reader))[1] == b"ok"
        self._writer.close()

    async def shush(self) -> None:
        """Between two words, so that none is half read."""
        if self._talking.done():
            self._talking.result()  # raises what went wrong
        self._talking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._talking
        # A word that was said and not heard yet.
        while not self._words.empty():
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                while True:
                    size = int((await self._reader.readuntil(b"\r\n"))[:-2], 16)
                    await self._reader.readexactly(size + 2)


# ── faults ──────────────────────────────────────────────────────────────────────────────────────


def cut(writer: asyncio.StreamWriter) -> None:
    """A reset (RFC 9293 3.5.2): closing without lingering."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def half_close(writer: asyncio.StreamWriter) -> None:
    """No more from this side. TLS of asyncio cannot do that: there it is a close_notify and FIN."""
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()


def raw(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Bytes beneath TLS."""
    os.write(writer.get_extra_info("socket").fileno(), data)


def bare_fin(writer: asyncio.StreamWriter) -> None:
    """TCP ends, TLS has not said so (RFC 8446 6.1): a truncation by somebody in between."""
    writer.transport.abort()


async def silence(scene: Scene, reader, writer) -> None:
    """Nothing, until the other side goes."""
    await reader.read()


async def outcome(reader: asyncio.StreamReader) -> str:
    """A whole response's status; `cut` for a part of one; `closed` for nothing at all."""
    began = False
    try:
        head = (await read_head(reader)).lower()
        began = True
        if b"\r\ntransfer-encoding: chunked" in head:
            while await reader.readuntil(b"\r\n") != b"0\r\n":
                await reader.readuntil(b"\r\n")
            await reader.readuntil(b"\r\n")
        else:
            length = head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
    except asyncio.IncompleteReadError as error:
        return "cut" if began or error.partial else "closed"
    except OSError:
        return "cut" if began else "closed"
    return head.split(b" ", 2)[1].decode()


async def ended(reader: asyncio.StreamReader) -> str:
    """`closed` once nothing more comes; what came is dropped."""
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    return "closed"


# ── playing ─────────────────────────────────────────────────────────────────────────────────────


def sockets() -> int:
    """Of this process."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


def play(cell: Cell, tls: bool) -> str:
    """Play one cell; what the victim saw. Raises `AssertionError` where anything is left."""

    async def test() -> str:
        before = sockets()
        scene = Scene(tls)
        options = {key: dict(value) for key, value in cell.options.items()}
        async with Rig(scene.script, tls, **options) as rig:
            scene.rig = rig
            await scene.bystand()
            got = await cell.play(scene)
            await scene.leave()
            for writer in rig._writers:
                writer.close()
            await rig.settled()
            service = rig.service
            for endpoint in service.endpoints:
                assert not endpoint.pool.busy and not endpoint.pool.waiting, endpoint.pool
            assert not service.clients
            assert not service.admission.open
            assert not service.counters.tunnels
        while len(asyncio.all_tasks()) > 1 or sockets() > before:
            await asyncio.sleep(0.01)  # bounded by `run`
        return got

    return run(test())


def table(cells: list[Cell]) -> str:
    """The matrix in Markdown: what the client sees, `plain · TLS` where they differ."""
    lines = [
        "| side | phase | " + " | ".join(FAULTS) + " |",
        "|---|---" * 1 + "|---" * len(FAULTS) + "|",
    ]
    for side, phase in dict.fromkeys((cell.side, cell.phase) for cell in cells):
        row = []
        for fault in FAULTS:
            shown = ""
            for cell in cells:
                if cell[:3] == (side, phase, fault):
                    seen = (cell.plain, cell.tls)
                    shown = (
                        seen[0] if seen[0] == seen[1] else " · ".join(one or "-" for one in seen)
                    )
            row.append(shown)
        lines.append(f"| {side} | {phase} | " + " | ".join(row) + " |")
    return "\n".join(lines)
