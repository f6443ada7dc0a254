"""A client that sends what it is told to, byte by byte, and says what came back."""

from __future__ import annotations

import contextlib
import socket
from typing import BinaryIO, NamedTuple

WAIT = 3.0  # seconds for an answer: three times as long as rawproxy's guard may take here


class Got(NamedTuple):
    """An answer; status 0: none came, -1: the connection was cut."""

    status: int
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    continued: bool = False  # a 100 stood in front of it

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name]

    def one(self, name: str) -> str:
        return next(iter(self.all(name)), "")


def ask(port: int, request: bytes, wait: float = WAIT) -> Got:
    """The answer to `request`, over a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), wait) as sock, sock.makefile("rb") as file:
        sock.sendall(request)
        try:
            return answer(file)
        except TimeoutError:
            return Got(0)
        except ConnectionError:
            return Got(-1)


def answer(file: BinaryIO) -> Got:
    """The next answer, a 100 left out."""
    continued = False
    while True:
        start = file.readline()
        if not start:
            return Got(-1)
        fields = []
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            fields.append((name.lower(), value.strip()))
        status = int(start.split()[1])
        if status != 100:
            break
        continued = True
    got = Got(status, tuple(fields), b"", continued)
    return got if status == 101 else got._replace(body=body(file, got))


def body(file: BinaryIO, got: Got) -> bytes:
    """As it is framed. What is cut off ends there."""
    if got.one("transfer-encoding") == "chunked":
        pieces = []
        while size := int(file.readline().partition(b";")[0] or b"0", 16):
            pieces.append(file.read(size))
            file.readline()
        return b"".join(pieces)
    if length := got.one("content-length"):
        with contextlib.suppress(ConnectionError):
            return file.read(int(length))
    return b""
