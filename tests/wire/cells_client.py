"""Faults of the client: before TLS, at every phase of its request, and while it is answered."""

import asyncio
import contextlib

from .matrix import (
    ALERT,
    GARBAGE,
    LATER,
    OF_A_STREAM,
    SOON,
    Cell,
    Scene,
    bare_fin,
    cut,
    ended,
    half_close,
    outcome,
    raw,
)
from .rig import get, read_head, read_response, response

SILENT = {
    "tls_handshake": SOON, "request_head": SOON, "request_body": LATER, "client_idle": LATER,
    "response_body": LATER, "linger": SOON,
}  # fmt: skip
PUT = get(b"/victim", b"Content-Length: 10", method=b"PUT")
CHUNKED = get(b"/victim", b"Transfer-Encoding: chunked", method=b"PUT")
PREFIX = {
    "before a byte": b"",
    "within its head": b"GET /victim HTTP/1.1\r\nHo",
    "within its body": PUT + b"hello",
    "within its chunked body": CHUNKED + b"5\r\nhello\r\n",
}
WHOLE = {
    "before a byte": get(b"/victim"),
    "within its head": get(b"/victim"),
    "within its body": PUT + b"helloworld",
    "within its chunked body": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
}
SLOW = {
    "within its head": b"GET /",
    "within its body": get(b"/victim", b"Content-Length: 1000", method=b"PUT"),
    "within its chunked body": CHUNKED + b"3e8\r\n",
}


async def take(scene: Scene, reader, writer) -> None:
    """An upstream that takes what its request has, and answers."""
    # The head has been read; what it said of a body is known by the phase alone.
    while not (data := await reader.read(1000)).endswith((b"world", b"0\r\n\r\n")):
        if not data:
            return
    writer.write(response(b"taken"))


async def at_once(scene: Scene, reader, writer) -> None:
    writer.write(response(b"at once"))


async def _fault(name: str, reader, writer) -> str:
    """What the client does, and then sees."""
    if name == "reset":
        cut(writer)
        return "gone"
    if name == "bare FIN":
        bare_fin(writer)
        return "gone"
    if name == "half-close":
        half_close(writer)
    elif name == "garbage":
        writer.write(GARBAGE)
    elif name == "TLS alert":
        raw(writer, ALERT)
    return await outcome(reader)


def asking(phase: str, name: str):
    async def play(scene: Scene) -> str:
        scene.act = at_once if phase in ("before a byte", "within its head") else take
        reader, writer = await scene.rig.client()
        if name == "slow":
            writer.write(SLOW[phase])
            answer = asyncio.ensure_future(outcome(reader))
            while not answer.done():
                await asyncio.wait((answer,), timeout=0.02)
                writer.write(b"x")
            return await answer
        if name == "surplus":
            writer.write(WHOLE[phase] + b"nonsense\r\n\r\n")
            first = await outcome(reader)
            return f"{first}, {await outcome(reader)}"
        writer.write(PREFIX[phase])
        await writer.drain()
        await asyncio.sleep(0.02)  # so that the fault meets a proxy that has read the prefix
        if phase in ("within its body", "within its chunked body"):
            await scene.asked.wait()
        got = await _fault(name, reader, writer)
        if phase in ("within its body", "within its chunked body"):
            await scene.told.wait()  # the upstream must not take the request for whole
        return got

    return play


def _asks() -> list[Cell]:
    seen = {
        #                           reset  half      silence   garbage surplus     slow   alert     FIN
        "before a byte":           ("gone", "closed", "closed", "400", "200, 400", "", "closed", "gone"),
        "within its head":         ("gone", "closed", "408", "400", "200, 400", "408", "closed", "gone"),
        "within its body":         ("gone", "400", "408", "", "200, 400", "408", "closed", "gone"),
        "within its chunked body": ("gone", "400", "408", "400", "200, 400", "408", "closed", "gone"),
    }  # fmt: skip
    cells = []
    for phase, row in seen.items():
        for name, sees in zip(OF_A_STREAM, row, strict=True):
            options = {"deadlines": SILENT} if name in ("silence", "slow") else {}
            plain = "" if name in ("TLS alert", "bare FIN") else sees
            tls = "closed" if name == "half-close" else sees  # a whole close: it reads no more
            if sees:
                cells.append(Cell("client", phase, name, asking(phase, name), plain, tls, options))
    return cells


# ── before TLS ──────────────────────────────────────────────────────────────────────────────────


def shaking(name: str):
    async def play(scene: Scene) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.rig.port)
        scene.rig._writers.append(writer)
        if name != "silence":
            # The beginning of a ClientHello: a record header that promises more than comes.
            writer.write(b"\x16\x03\x01\x02\x00\x01")
            await writer.drain()
            await asyncio.sleep(0.02)
        if name == "reset":
            cut(writer)
            return "gone"
        if name == "half-close":
            writer.write_eof()
        elif name == "garbage":
            writer.write(b"\x00" * 600)
        elif name == "TLS alert":
            writer.write(ALERT * 80)
        return await ended(reader)

    return play


def _handshakes() -> list[Cell]:
    row = {"reset": "gone", "half-close": "closed", "silence": "closed", "garbage": "closed",
           "TLS alert": "closed", "slow": "closed"}  # fmt: skip
    return [
        Cell("client", "within the handshake", name, shaking(name), "", sees, {"deadlines": SILENT})
        for name, sees in row.items()
    ]


# ── while it waits ──────────────────────────────────────────────────────────────────────────────


def waiting(name: str):
    async def play(scene: Scene) -> str:
        go = asyncio.Event()

        async def act(scene: Scene, reader, writer) -> None:
            there = asyncio.ensure_future(reader.read(1))
            going = asyncio.ensure_future(go.wait())
            await asyncio.wait((there, going), return_when=asyncio.FIRST_COMPLETED)
            if going.done():
                writer.write(response(b"late"))
            there.cancel()
            going.cancel()
            await asyncio.gather(there, going, return_exceptions=True)

        scene.act = act
        reader, writer = await scene.rig.client()
        writer.write(get(b"/victim"))
        await scene.asked.wait()
        if name == "surplus":
            writer.write(b"nonsense\r\n\r\n")
            go.set()
            first = await outcome(reader)
            return f"{first}, {await outcome(reader)}"
        if name == "half-close" and not scene.tls:
            asyncio.get_running_loop().call_later(0.05, go.set)
        got = await _fault(name, reader, writer)
        if got != "200":
            await scene.told.wait()
        return got

    return play


def _waits() -> list[Cell]:
    row = {"reset": ("gone", "gone"), "half-close": ("200", "closed"),
           "surplus": ("200, 400", "200, 400"), "TLS alert": ("", "closed"),
           "bare FIN": ("", "gone")}  # fmt: skip
    return [
        Cell(
            "client", "while it waits", name, waiting(name), *sees, {"deadlines": {"linger": LATER}}
        )
        for name, sees in row.items()
    ]


# ── while it is answered ────────────────────────────────────────────────────────────────────────

BIG = 50_000_000


def answered(name: str):
    async def act(scene: Scene, reader, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        block = bytes(100_000)
        for _ in range(BIG // len(block)):
            if writer.transport.is_closing():
                return
            writer.write(block)
            await writer.drain()

    async def play(scene: Scene) -> str:
        scene.act = act
        reader, writer = await scene.rig.client(limit=4096)
        writer.write(get(b"/victim"))
        await read_head(reader)
        await reader.readexactly(1000)
        if name == "slow":
            while not scene.told.is_set():
                await reader.read(100)
                await asyncio.sleep(0.02)
            writer.transport.abort()
            return "cut"
        if name == "half-close":
            half_close(writer)
        elif name == "TLS alert":
            raw(writer, ALERT)
        elif name in ("reset", "bare FIN"):
            await _fault(name, reader, writer)
            await scene.told.wait()
            return "gone"
        if name == "silence":
            await scene.told.wait()
        with contextlib.suppress(OSError):
            left = BIG - 1000
            while left and (data := await reader.read(1 << 20)):
                left -= len(data)
            await scene.told.wait() if left else None
            return "cut" if left else "200"
        return "cut"

    return play


def _answers() -> list[Cell]:
    row = {"reset": ("gone", "gone"), "half-close": ("200", "cut"), "silence": ("cut", "cut"),
           "slow": ("cut", "cut"), "TLS alert": ("", "cut"), "bare FIN": ("", "gone")}  # fmt: skip
    options = {"deadlines": {"response_body": LATER, "linger": LATER}}
    pace = {"deadlines": {"response_body": LATER}, "limits": {"rate": 1 << 30}}
    return [
        Cell("client", "while it is answered", name, answered(name), *sees,
             pace if name == "slow" else options)
        for name, sees in row.items()
    ]  # fmt: skip


# ── between requests ────────────────────────────────────────────────────────────────────────────


def between(name: str):
    async def play(scene: Scene) -> str:
        reader, writer = await scene.rig.client()
        writer.write(get(b"/ok"))
        assert (await read_response(reader))[1] == b"ok"
        return await _fault(name, reader, writer)

    return play


def _betweens() -> list[Cell]:
    row = {"reset": ("gone", "gone"), "half-close": ("closed", "closed"),
           "silence": ("closed", "closed"), "garbage": ("400", "400"), "TLS alert": ("", "closed"),
           "bare FIN": ("", "gone")}  # fmt: skip
    return [
        Cell("client", "between requests", name, between(name), *sees,
             {"deadlines": SILENT} if name == "silence" else {})
        for name, sees in row.items()
    ]  # fmt: skip


CELLS = [*_handshakes(), *_asks(), *_waits(), *_answers(), *_betweens()]
