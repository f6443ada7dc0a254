"""Faults of the upstream: while it is dialled, at every phase of its response, and at rest."""

import asyncio
import contextlib
import socket
import ssl

import trustme

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
    half_close,
    outcome,
    raw,
)
from .rig import get, read_response, response

SILENT = {"response_head": SOON, "response_body": LATER, "connect": SOON}
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = {
    "before its response": response(b"hello"),
    "within its head": response(b"hello"),
    "within a body of a length": LENGTH + b"helloworld",
    "within a chunked body": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "within a body until close": b"",
}
PREFIX = {
    "before its response": b"",
    "within its head": b"HTTP/1.1 200 OK\r\nX-A: ",
    "within a body of a length": LENGTH + b"hello",
    "within a chunked body": CHUNKED + b"5\r\nhello\r\n",
    "within a body until close": b"HTTP/1.1 200 OK\r\n\r\nhello",
}


async def ask(scene: Scene, request: bytes = get(b"/victim")) -> str:
    reader, writer = await scene.rig.client()
    writer.write(request)
    got = await outcome(reader)
    if got in ("502", "504"):  # nothing is wrong with the client: its connection goes on
        writer.write(get(b"/ok"))
        assert (await read_response(reader))[1] == b"ok"
    return got


def fault(name: str, prefix: bytes, whole: bytes):
    """What the upstream does behind `prefix`."""

    async def act(scene: Scene, reader, writer) -> None:
        if name == "surplus":
            writer.write(whole + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        elif name == "slow":
            for at in range(len(whole)):
                writer.write(whole[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
        else:
            writer.write(prefix)
            await writer.drain()
            await asyncio.sleep(0.02)  # so that the fault meets a proxy that has read the prefix
            if name == "reset":
                cut(writer)
            elif name == "half-close":
                half_close(writer)
            elif name == "garbage":
                writer.write(GARBAGE + b"\r\n\r\n")
            elif name == "TLS alert":
                raw(writer, ALERT)
            elif name == "bare FIN":
                bare_fin(writer)
        await reader.read()

    return act


def responding(phase: str, name: str):
    async def play(scene: Scene) -> str:
        scene.act = fault(name, PREFIX[phase], WHOLE[phase])
        got = await ask(scene)
        if name == "surplus":  # whoever comes next gets an answer, and not the poison
            reader, writer = await scene.rig.client()
            writer.write(get(b"/ok"))
            assert (await read_response(reader))[1] == b"ok"
        return got

    return play


def _responses() -> list[Cell]:
    seen = {
        #                               reset half  silence garbage surplus slow   alert  FIN
        "before its response":        ("502", "502", "504", "502", "200", "200", "502", "502"),
        "within its head":            ("502", "502", "504", "502", "200", "200", "502", "502"),
        "within a body of a length":  ("cut", "cut", "cut", "", "200", "200", "cut", "cut"),
        "within a chunked body":      ("cut", "cut", "cut", "cut", "200", "200", "cut", "cut"),
        "within a body until close":  ("cut", "200", "cut", "", "", "", "cut", "cut"),
    }  # fmt: skip
    return [
        Cell(
            "upstream",
            phase,
            name,
            responding(phase, name),
            "" if name in ("TLS alert", "bare FIN") else sees,
            sees,
            {"deadlines": SILENT} if name == "silence" else {},
        )
        for phase, row in seen.items()
        for name, sees in zip(OF_A_STREAM, row, strict=True)
        if sees
    ]


# ── while it takes the request's body ───────────────────────────────────────────────────────────

BIG = 4_000_000
UPLOAD = get(b"/victim", b"Content-Length: %d" % BIG, method=b"PUT")


def uploading(name: str):
    async def act(scene: Scene, reader, writer) -> None:
        if name == "slow":
            for _ in range(BIG // 100_000):
                await reader.readexactly(100_000)
                await asyncio.sleep(0.01)
            writer.write(response(b"ok"))
            return
        await reader.readexactly(10)
        if name == "silence":
            writer.transport.pause_reading()
            await asyncio.sleep(60)
        await fault(name, b"", response(b"early"))(scene, reader, writer)

    async def play(scene: Scene) -> str:
        scene.act = act
        reader, writer = await scene.rig.client()

        async def push() -> None:
            writer.write(UPLOAD)
            with contextlib.suppress(OSError):
                for _ in range(BIG // 100_000):
                    writer.write(bytes(100_000))
                    await writer.drain()

        pushing = asyncio.ensure_future(push())
        got = await outcome(reader)
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        writer.transport.abort()
        return got

    return play


def _uploads() -> list[Cell]:
    row = {"reset": "502", "half-close": "502", "silence": "504", "garbage": "502",
           "surplus": "200", "slow": "200", "TLS alert": "502", "bare FIN": "502"}  # fmt: skip
    return [
        Cell(
            "upstream",
            "within a request's body",
            name,
            uploading(name),
            "" if name in ("TLS alert", "bare FIN") else sees,
            sees,
            {"deadlines": {"response_head": LATER}} if name == "silence" else {},
        )
        for name, sees in row.items()
    ]


# ── while it is dialled ─────────────────────────────────────────────────────────────────────────


def _foreign() -> ssl.SSLContext:
    """A certificate of an authority that nobody here knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def dialling(name: str):
    async def accept(reader, writer) -> None:
        if name == "reset":
            cut(writer)
        elif name == "half-close":
            half_close(writer)
        elif name == "garbage":
            writer.write(GARBAGE)
        elif name == "TLS alert":
            await reader.read(1)
            writer.write(ALERT)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def play(scene: Scene) -> str:
        rig = scene.rig
        rig.server.close()
        port = rig.upstream_port
        with contextlib.ExitStack() as stack:
            if name == "silence" and not scene.tls:  # a queue of connections that is full
                sock = stack.enter_context(_listen(port, 0))
                for _ in range(3):
                    waiting = stack.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex(("127.0.0.1", port))
                return await _once(scene)
            if name == "certificate":
                server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=_foreign())
            elif name == "reset" and not scene.tls:
                return await _once(scene)  # nobody listens
            else:
                sock = _listen(port, 100)
                server = await asyncio.start_server(accept, sock=sock)
            try:
                return await _once(scene)
            finally:
                server.close()

    return play


def _listen(port: int, backlog: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", port))
    sock.listen(backlog)
    return sock


async def _once(scene: Scene) -> str:
    reader, writer = await scene.rig.client()
    writer.write(get(b"/victim", b"Content-Length: 5", method=b"POST") + b"hello")
    return await outcome(reader)


def _dials() -> list[Cell]:
    row = {"reset": ("502", "502"), "half-close": ("", "502"), "silence": ("504", "504"),
           "garbage": ("", "502"), "TLS alert": ("", "502"), "certificate": ("", "502")}  # fmt: skip
    return [
        Cell("upstream", "being dialled", name, dialling(name), *sees, {"deadlines": SILENT})
        for name, sees in row.items()
    ]


# ── at rest ─────────────────────────────────────────────────────────────────────────────────────


def resting(name: str):
    async def act(scene: Scene, reader, writer) -> None:
        writer.write(response(b"first"))
        await writer.drain()
        await asyncio.sleep(0.02)
        if name == "surplus":
            writer.write(response(b"poison"))
        elif name == "garbage":
            writer.write(GARBAGE)
        elif name == "reset":
            cut(writer)
        elif name == "half-close":
            half_close(writer)
        elif name == "TLS alert":
            raw(writer, ALERT)
        elif name == "bare FIN":
            bare_fin(writer)
        await reader.read()

    async def play(scene: Scene) -> str:
        scene.act = act
        reader, writer = await scene.rig.client()
        writer.write(get(b"/victim"))
        assert (await read_response(reader))[1] == b"first"
        await scene.told.wait()
        assert not scene.rig.service.endpoints[0].pool.idle
        writer.write(get(b"/ok", b"Content-Length: 0", method=b"GET"))
        return await outcome(reader)

    return play


def _rests() -> list[Cell]:
    names = ("reset", "half-close", "garbage", "surplus", "TLS alert", "bare FIN")
    return [
        Cell("upstream", "at rest in the pool", name, resting(name),
             "" if name in ("TLS alert", "bare FIN") else "200", "200")
        for name in names
    ]  # fmt: skip


CELLS = [*_dials(), *_uploads(), *_responses(), *_rests()]
