"""The attacks by name, and what they are made of."""

import importlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

import hpack

from rawproxy.protocol.http2 import frames

from .stage import Target

MODULES = ("reading", "turns", "sharing")  # each registers its attacks when it is imported
ATTACKER = "127.0.0.2"  # an address of its own, as in life: the bystander has another
Mount = Callable[[Target, float], None]


class Attack(NamedTuple):
    """One kind of attack."""

    name: str
    what: str  # a line for the reader
    mount: Mount  # blocks until the second it is told, or until it has nothing more to do


ATTACKS: dict[str, Attack] = {}


def attack(name: str, what: str) -> Callable[[Mount], Mount]:
    """Register a function as the attack `name`."""

    def register(mount: Mount) -> Mount:
        ATTACKS[name] = Attack(name, what, mount)
        return mount

    return register


def load() -> dict[str, Attack]:
    """All of them, in the order of the modules."""
    for module in MODULES:
        importlib.import_module(f"tests.attacks.{module}")
    return ATTACKS


def connect(port: int, buffer: int = 0) -> socket.socket:
    """A plain connection; `buffer`: bytes of its receive buffer."""
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(1.0)
    sock.bind((ATTACKER, 0))
    sock.connect(("127.0.0.1", port))
    return sock


def connect_h2(port: int, buffer: int = 0, window: int = 0) -> ssl.SSLSocket:
    """A connection of HTTP/2 whose windows are `window` wide; the preface is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    raw = connect(port, buffer)
    raw.settimeout(20.0)
    sock = context.wrap_socket(raw, server_hostname="localhost")
    sock.settimeout(1.0)
    assert sock.selected_alpn_protocol() == "h2"
    opening = frames.PREFACE + frames.settings(
        {frames.INITIAL_WINDOW_SIZE: window} if window else {}
    )
    if window:
        opening += frames.window_update(0, window - frames.DEFAULT_WINDOW)
    sock.sendall(opening)
    return sock


def block(path: str, method: str = "GET", *more: tuple[str, str]) -> bytes:
    """A field block that uses no table, so that it can be sent again and again."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    fields = [(":method", method), (":scheme", "https"), (":authority", "localhost")]
    found: bytes = encoder.encode([*fields, (":path", path), *more], huffman=False)
    return found


def pour(sock: socket.socket, data: bytes, end: float) -> int:
    """Send `data` for as long as the proxy takes it and the time allows; how much went."""
    sent = 0
    view = memoryview(data)
    while sent < len(data) and time.monotonic() < end:
        try:
            sent += sock.send(view[sent : sent + 16384])
        except (TimeoutError, ssl.SSLWantWriteError):
            continue
        except OSError:
            break
    return sent


def wait(end: float) -> None:
    """Do nothing more."""
    time.sleep(max(end - time.monotonic(), 0))
