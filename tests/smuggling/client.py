"""Clients that send a case's bytes and say what came of them: one of HTTP/1.1, one of HTTP/2.

Behind the first answer each sends a probe on the same connection. What the proxy made of the case
has reached the upstream before the probe has, so no pause is needed to be sure of it; and a probe
that is not answered as itself shows a connection out of step.
"""

import asyncio
import contextlib
import re
import ssl
from typing import NamedTuple

import hpack

from rawproxy.protocol.http2 import frames

from .cases import literals, pseudo
from .recorder import CASE

GAP = 0.001  # seconds between pieces, so that most of them are read one by one
PROBE = b"/probe"
PROBE_H1 = b"GET /probe HTTP/1.1\r\nHost: h\r\n\r\n"
_PROBE_H2 = frames.headers(3, literals(pseudo(path=PROBE)), True)
ASK_H2 = {
    method: frames.headers(1, literals(pseudo(method, path=CASE)), True)
    for method in (b"GET", b"HEAD")
}
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})").match
_SEEN = re.compile(rb"\r\nseen: ([^\r\n]*)\r\n", re.IGNORECASE).search
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE).search
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n").match
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE).search


class Said(NamedTuple):
    """One final answer."""

    status: str  # or the name of an error code of HTTP/2
    seen: bytes  # the target, where the upstream gave the answer; empty: the proxy did


class Outcome(NamedTuple):
    """What a client saw."""

    said: list[Said]
    ended: bool  # the proxy closed
    data: bytes = b""  # all of it, of HTTP/1.1

    @property
    def probed(self) -> bool:
        """Whether the probe got its own answer."""
        return bool(self.said) and self.said[-1].seen == PROBE


def tls() -> ssl.SSLContext:
    """A client of HTTP/2 that trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


_TLS = tls()


async def h1(port: int, raw: bytes, patience: float, eof: bool = False, pieces: int = 1) -> Outcome:
    """Send `raw`, then the probe; read until it is answered, the proxy closes or nothing comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data, probed, ended = b"", eof, False
    method = raw.lstrip(b"\r\n").split(b" ", 1)[0]
    try:
        await _send(writer, raw, pieces)
        if eof:
            writer.write_eof()
        while True:
            more = await asyncio.wait_for(reader.read(65536), patience)
            ended = not more
            data += more
            said = answers(data, method, ended)
            if ended or (said and said[-1].seen == PROBE):
                break
            if said and not probed:
                probed = True
                writer.write(PROBE_H1)
    except TimeoutError:
        pass
    except OSError:
        ended = True
    await _close(writer)
    return Outcome(answers(data, method, ended), ended, data)


async def h2(port: int, raw: bytes, patience: float, pieces: int = 1) -> tuple[Outcome, list]:
    """The same over HTTP/2; and the events of stream 1: field lists, pieces of its body, its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_TLS)
    writer.write(frames.PREFACE + frames.settings({}))
    session = _Session()
    probed = ended = False
    try:
        await _send(writer, raw, pieces)
        while session.said.get(3) is None:
            over = session.take(*await asyncio.wait_for(_frame(reader), patience))
            if over and not probed:
                probed = True
                writer.write(_PROBE_H2)
    except TimeoutError:
        pass
    except (OSError, asyncio.IncompleteReadError):
        ended = True
    await _close(writer)
    said = [session.said[number] for number in sorted(session.said)]
    return Outcome(said, ended or session.gone), session.events


class _Session:
    """What the frames of a proxy say."""

    def __init__(self) -> None:
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.block = b""  # of fields whose end has not come
        self.said: dict[int, Said] = {}  # by stream
        self.events: list = []  # of stream 1
        self.gone = False

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> bool:
        """One frame; whether stream 1 is over."""
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self.block += payload
            if not flags & frames.END_HEADERS:
                return False
            block, self.block = self.block, b""
            self._fields(number, self.decoder.decode(block, raw=True))
        elif kind == frames.DATA and number == 1:
            self.events.append(payload)
        elif kind == frames.RST_STREAM:
            # With NO_ERROR behind a whole response: the rest of the request is not wanted.
            code = frames.Code(int.from_bytes(payload, "big"))
            if code:
                self.said[number] = Said(code.name, b"")
                self.events.append(code)
            return number == 1
        elif kind == frames.GOAWAY:
            code = frames.Code(int.from_bytes(payload[4:8], "big"))
            if code:
                self.gone = True
                self.said.setdefault(1, Said(code.name, b""))
            return True
        return number == 1 and kind in (0, 1) and bool(flags & frames.END_STREAM)

    def _fields(self, number: int, fields: list[tuple[bytes, bytes]]) -> None:
        values = dict(fields)
        status = values.get(b":status", b"")
        if status and not status.startswith(b"1"):
            self.said[number] = Said(status.decode(), values.get(b"seen", b""))
        if number == 1:
            self.events.append(fields)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    high, low, kind, flags, number = frames.HEADER.unpack(await reader.readexactly(9))
    return kind, flags, number, await reader.readexactly(high << 8 | low)


async def _send(writer: asyncio.StreamWriter, raw: bytes, pieces: int) -> None:
    """`raw` in so many pieces. What comes of it is the same however they arrive."""
    size = len(raw) // pieces + 1
    for at in range(0, len(raw), size):
        writer.write(raw[at : at + size])
        if pieces > 1:
            await writer.drain()
            await asyncio.sleep(GAP)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def answers(data: bytes, method: bytes, ended: bool) -> list[Said]:
    """The whole final responses in `data`; `ended`: no more will come of it."""
    said: list[Said] = []
    at = 0
    while at < len(data):
        start = _STATUS(data, at)
        stop = data.find(b"\r\n\r\n", at) + 4
        if start is None or stop == 3:
            break
        status, head = start[1].decode(), data[at:stop]
        at = stop
        if status[0] == "1" and status != "101":
            continue
        bodyless = status in ("101", "204", "304") or (method == b"HEAD" and not said)
        length = _LENGTH(head)
        if not bodyless and length is not None:
            at += int(length[1])
        elif not bodyless and _CHUNKED(head):
            at = _behind_chunks(data, at)
        elif not bodyless:
            at = len(data) if ended else len(data) + 1
        if at > len(data):
            break
        found = _SEEN(head)
        said.append(Said(status, found[1] if found else b""))
    return said


def _behind_chunks(data: bytes, at: int) -> int:
    """Where a chunked body stops that begins at `at`; more than there is while it goes on."""
    while (line := _CHUNK(data, at)) is not None:
        at = line.end()
        if not int(line[1], 16):
            stop = data.find(b"\r\n\r\n", at - 2)
            return stop + 4 if stop >= 0 else len(data) + 1
        at += int(line[1], 16) + 2
    return len(data) + 1
