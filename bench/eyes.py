"""The pictures in docs/observability.md: the status page and `rawproxy top`, under real load.

`python -m bench eyes` starts clients, WebSockets, an upstream whose latency varies, and one that
goes away for a while. After five minutes Chromium takes a picture of the page, and a terminal is
drawn as it is. The pictures show what was there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.procs import free_ports

RESULTS = pathlib.Path(__file__).with_name("results")
MINUTES = 5.2  # the charts show five
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
GET = b"GET / HTTP/1.1\r\nHost: sso.bench.test\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: sso.bench.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SHOTS = (  # name, size of the window, colour scheme, pixels for each of CSS
    ("status-desktop", (1180, 1040), "light", 1),
    ("status-phone", (390, 844), "dark", 1),
)
SWITCHED_PROTOCOLS = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream whose latency varies, with an error now and then."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
            if key is not None:
                accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
                writer.write(SWITCHED_PROTOCOLS % accept)
                while data := await reader.read(65536):
                    writer.write(data)
                break
            wander = 0.6 * math.sin(time.monotonic() / 23)
            await asyncio.sleep(random.lognormvariate(-4.8 + wander, 0.6))
            chance = random.random()
            status = b"200 OK" if chance < 0.97 else b"404 No" if chance < 0.99 else b"500 Oops"
            body = bytes(random.choice((200, 2_000, 20_000)))
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
    writer.close()


async def browse(port: int) -> None:
    """One client that sends request after request."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(random.randrange(20, 200)):
                writer.write(GET)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                busy = 1.3 + math.sin(time.monotonic() / 17)
                await asyncio.sleep(random.expovariate(4) * busy)
            writer.close()


async def talk(port: int) -> None:
    """One WebSocket that opens again and again."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(random.randrange(5, 60)):
                writer.write(bytes(300))
                await reader.read(1000)
                await asyncio.sleep(random.random() * 4)
            writer.close()
        await asyncio.sleep(random.random() * 10)


async def load(proxy: int, upstreams: list[int]) -> None:
    """The whole load, until it is cancelled. The last upstream is away for a minute."""
    servers = [await asyncio.start_server(answer, "127.0.0.1", port) for port in upstreams]

    async def leave() -> None:
        await asyncio.sleep(max(MINUTES * 60 - 100, 1))
        servers[-1].close()
        await asyncio.sleep(60)
        servers[-1] = await asyncio.start_server(answer, "127.0.0.1", upstreams[-1])

    await asyncio.gather(
        leave(), *(browse(proxy) for _ in range(40)), *(talk(proxy) for _ in range(30))
    )


def shoot(admin: int) -> None:
    """Take a picture of the page with Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = shutil.which("chromium")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (width, height), scheme, scale in SHOTS:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                device_scale_factor=scale,
            )
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{admin}/")
            page.wait_for_selector("#upstreams td")
            page.screenshot(path=RESULTS / f"{name}.png")
        browser.close()


_COLOURS = {"1": "#fff", "2": "#8b98a8", "32": "#5fd7a7", "1;31": "#ff7b86", "33": "#ffb454"}
_PIECE = re.compile(r"(?:\x1b\[([0-9;]+)m)?([^\x1b]+)(?:\x1b\[0m)?")


def draw(frame: str) -> str:
    """The text of a terminal with its colours as an SVG picture, character by character."""
    rows = []
    for number, line in enumerate(frame.splitlines()):
        column, pieces = 0, []
        for style, text in _PIECE.findall(line):
            colour = _COLOURS.get(style, "#6cb6ff" if style else "#d6dde6")
            shown = html.escape(text).replace(" ", "\u00a0")
            weight = "bold" if style.startswith("1") else "normal"
            pieces.append(
                f'<tspan x="{16 + column * 8}" textLength="{len(text) * 8}" fill="{colour}"'
                f' font-weight="{weight}">{shown}</tspan>'
            )
            column += len(text)
        rows.append(f'<text y="{30 + number * 19}">{"".join(pieces)}</text>')
    height = 24 + 19 * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="672" height="{height}"'
        f' viewBox="0 0 672 {height}" role="img" aria-label="rawproxy top">'
        '<rect width="100%" height="100%" rx="10" fill="#10161d"/>'
        '<g font-family="ui-monospace,DejaVu Sans Mono,Menlo,monospace" font-size="13">'
        f"{''.join(rows)}</g></svg>\n"
    )


def terminal(admin: int) -> str:
    """One frame of `rawproxy top`, from a terminal of its own."""
    import pty

    command = [sys.executable, "-m", "rawproxy", "top", "--once", "--admin", f"127.0.0.1:{admin}"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        frame = b""
        with contextlib.suppress(OSError):  # EIO: it has ended
            while more := os.read(ours, 65536):
                frame += more
        process.wait(timeout=20)
    os.close(ours)
    return frame.decode()


async def _picture(options: Sequence[str]) -> None:
    proxy, admin, *upstreams = free_ports(4)
    command = [sys.executable, "-m", "rawproxy", "--http", f"127.0.0.1:{proxy}"]
    command += ["--admin", f"127.0.0.1:{admin}", "--access-log", "off"]
    for port in upstreams:
        command += ["--upstream", f"http://127.0.0.1:{port}"]
    command += options  # --workers 2, say
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    work = asyncio.create_task(load(proxy, upstreams))
    try:
        await asyncio.sleep(MINUTES * 60)
        await asyncio.to_thread(shoot, admin)
        frame = await asyncio.to_thread(terminal, admin)
        (RESULTS / "top.svg").write_text(draw(frame))
    finally:
        work.cancel()
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)


def take(options: Sequence[str]) -> None:
    """Take all pictures. `options` are options of the proxy."""
    RESULTS.mkdir(exist_ok=True)
    asyncio.run(_picture(options))
