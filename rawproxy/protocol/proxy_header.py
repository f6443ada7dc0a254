"""The PROXY protocol: a proxy in front of us tells who the client is, before TLS or HTTP begin.

Version 1 is a line of text, version 2 is binary. Both are read and written as HAProxy's
specification of 2020 describes them. All functions are pure functions of bytes, and know no socket.
Invariants: `read` never takes a byte that does not belong to the header, and never lets a header
grow beyond `LIMIT`. Raises `ClientError`.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from rawproxy.errors import ClientError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # version 2; section 2.2
_LINE_LIMIT = 107  # bytes of the longest line, its CRLF included (section 2.1)
LIMIT = 16 + 2048  # bytes of a version 2 header: the addresses, and TLVs that are ignored
_TCP4, _TCP6 = 0x11, 0x21
_SIZES = {_TCP4: 12, _TCP6: 36}  # bytes of addresses and ports


class AnnouncedAddresses(NamedTuple):
    """The two ends of a connection: who dialled, and whom."""

    source: str
    source_port: int
    destination: str
    destination_port: int


class Header(NamedTuple):
    """A header that was read."""

    size: int  # its bytes
    route: AnnouncedAddresses | None  # None: the sender speaks for itself (LOCAL, UNKNOWN, no TCP)


def read(data: bytes) -> Header | None:
    """The header at the beginning of `data`. None: more bytes have to come.

    Raises `ClientError` if this cannot become a header.
    """
    if data.startswith(SIGNATURE):
        return _read_binary(data)
    if SIGNATURE.startswith(data):
        return None
    if data.startswith(b"PROXY ") or b"PROXY ".startswith(data):
        return _read_line(data)
    raise ClientError("no PROXY protocol header")


def write(version: int, route: AnnouncedAddresses | None) -> bytes:
    """A header that announces `route`. None: the proxy speaks for itself."""
    source, destination = _pair(route) if route is not None else (None, None)
    if version == 1:
        if source is None or route is None:
            return b"PROXY UNKNOWN\r\n"
        line = f"PROXY TCP{source.version} {source} {destination}"
        return f"{line} {route.source_port} {route.destination_port}\r\n".encode("ascii")
    if source is None or destination is None or route is None:
        return SIGNATURE + b"\x20\0\0\0"
    addresses = source.packed + destination.packed
    addresses += struct.pack(">HH", route.source_port, route.destination_port)
    family = _TCP4 if source.version == 4 else _TCP6
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(addresses)) + addresses


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _pair(route: AnnouncedAddresses) -> tuple[_Address, _Address] | tuple[None, None]:
    """Both addresses, of the same family: the header allows no mixture."""
    try:
        ends = ipaddress.ip_address(route.source), ipaddress.ip_address(route.destination)
    except ValueError:  # a unix socket
        return None, None
    if ends[0].version == ends[1].version:
        return ends
    mapped = [end if end.version == 6 else _mapped(end) for end in ends]
    return mapped[0], mapped[1]


def _mapped(address: _Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(f"::ffff:{address}")


def _read_line(data: bytes) -> Header | None:
    line, end, _ = data[:_LINE_LIMIT].partition(b"\r\n")
    if b"\n" in line or (not end and len(data) >= _LINE_LIMIT):
        raise ClientError("the PROXY protocol line does not end")
    if not end:
        return None
    size = len(line) + 2
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(size, None)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ClientError("a malformed PROXY protocol line")
    version = 4 if words[1] == b"TCP4" else 6
    source, destination = (_address(word, version) for word in words[2:4])
    ports = [_port(word) for word in words[4:]]
    return Header(size, AnnouncedAddresses(source, ports[0], destination, ports[1]))


def _address(word: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(word.decode("ascii"))
    except ValueError:  # of decoding too
        address = None
    if address is None or address.version != version or b"%" in word:
        raise ClientError("a malformed address in the PROXY protocol line")
    return str(address)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535 or (word[0] == 0x30 and word[1:]):
        raise ClientError("a malformed port in the PROXY protocol line")
    return int(word)


def _read_binary(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from(">BBH", data, 12)
    size = 16 + length
    if command not in (0x20, 0x21) or size > LIMIT:
        raise ClientError("a malformed PROXY protocol header")
    if len(data) < size:
        return None
    if command == 0x20 or family not in _SIZES:  # LOCAL, or nothing we know: section 2.2
        return Header(size, None)
    if length < _SIZES[family]:
        raise ClientError("a PROXY protocol header without its addresses")
    width = 4 if family == _TCP4 else 16
    source = ipaddress.ip_address(data[16 : 16 + width])
    destination = ipaddress.ip_address(data[16 + width : 16 + 2 * width])
    ports = struct.unpack_from(">HH", data, 16 + 2 * width)
    return Header(size, AnnouncedAddresses(str(source), ports[0], str(destination), ports[1]))
