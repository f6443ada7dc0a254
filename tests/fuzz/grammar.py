"""Inputs that are nearly right: grown from a grammar, then damaged where it matters.

It never judges anything. Invariant: the same `random.Random` gives the same inputs.
"""

import random
import struct
from collections.abc import Callable, Sequence

Rng = random.Random
# Good ones, and others: an input is tame or wild as a whole, or hardly any would be accepted.
METHODS = (
    b"GET GET POST POST PUT HEAD OPTIONS DELETE PATCH get M-SEARCH TRACE".split(),
    b"GET POST OPTIONS CONNECT PRI get G(T".split(),
)
TARGETS = (
    b"/ /a?b=c /a/../b /%2e%2e/ //x /a%00b /?q=http://x/ http://h/ https://H:1/p?q /a\\b"
    b" http://h HTTP://h?x /{}|^`<>".split(b" "),
    b'/ * h:443 /a#b /\xc3\xa4 /a\tb http://u@h/ http:///x http://h#x /"x ftp://h/'.split(b" "),
)
VERSIONS = (
    (b"HTTP/1.1",) * 9 + (b"HTTP/1.0",),
    (b"HTTP/1.1",) * 4
    + (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b"HTTP/01.01"),
)
HOSTS = (
    (b"h", b"h", b"h", b"a.b:80", b"[::1]:8", b"h:", b"h:65535", b"h:061000"),
    (b"h", b"h", b"", b"h h", b"a,b", b"u@h", b"h:x", b"h/x", b"h:0", b"h:65536", b"[::1]:99999"),
)
# Fields and some of their values; doubled ones are likelier.
FIELDS: Sequence[tuple[bytes, Sequence[bytes]]] = (
    (b"Connection", (b"close", b"keep-alive", b"Upgrade", b"X-A, close", b"Host", b"cookie",
                     b"X-Forwarded-Proto", b"transfer-encoding", b"content-length", b"", b", ,")),
    (b"Upgrade", (b"websocket", b"h2c", b"WebSocket, h2c")),
    (b"Expect", (b"100-continue", b"100-Continue")),
    (b"TE", (b"trailers", b"trailers, deflate")),
    (b"Keep-Alive", (b"timeout=5",)),
    (b"Proxy-Connection", (b"keep-alive",)),
    (b"Proxy-Authorization", (b"Basic x",)),
    (b"X-Forwarded-For", (b"6.6.6.6", b"6.6.6.6, 10.0.0.1", b"[2001:db8::1]:5", b"", b"unknown")),
    (b"X-Forwarded-Proto", (b"https", b"gopher")),
    (b"X-Forwarded-Host", (b"evil",)),
    (b"x_forwarded_for", (b"6.6.6.6",)),
    (b"X-Forwarded_Proto", (b"https",)),
    (b"X-Forwarded-Server", (b"evil",)),
    (b"Forwarded", (b"for=6.6.6.6;proto=https", b'for="[::1]:9", for=10.0.0.1;host=evil', b'for="')),
    (b"X-Real-IP", (b"6.6.6.6",)),
    (b"X_Real_IP", (b"6.6.6.6",)),
    (b"Via", (b"1.1 x",)),
    (b"Cookie", (b"a=b", b"a=b; c=\"d e\"")),
    (b"X-A", (b"1", b"", b"a\tb", b"\xe4\xf6", b"x" * 60)),
    (b"Content_Length", (b"7",)),
    (b"transfer_Encoding", (b"chunked",)),
    (b"X-Request_ID", (b"forged",)),
    (b"My_Name", (b"1",)),
    (b"SSL-Client-Verify", (b"SUCCESS",)),
    (b"SSL_Client-Cert", (b"x",)),
    (b"X-SSL-Client-DN", (b"CN=root",)),
    (b"Client-Cert", (b":x:",)),
    (b"X-Forwarded-Client-Cert", (b"x",)),
    (b"Sec-Fetch-Mode", (b"navigate",)),
    (b"Accept", (b"*/*",)),
    (b"User-Agent", (b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",)),
    (b"Referer", (b"https://h/?a", b"")),
    (b"Authorization", (b"Basic dTpw", b"Bearer x", b"NTLM TlRMTVNTUAAB", b"Negotiate", b"Nonsense")),
    (b"Trailer", (b"X-A",)),
    (b"Max-Forwards", (b"0", b"1", b"10", b"-1", b"", b"99999999999999999999")),
)  # fmt: skip
LENGTHS = (b"0", b"5", b"05", b"5, 5", b"5,6", b"+5", b"-5", b"0x5", b"5_0", b"", b"5 5", b"5\t",
           b"99999999999999999999", b"9" * 40, b"\xb2")  # fmt: skip
CODINGS = (b"chunked", b"chunked", b"Chunked", b"CHUNKED", b"xchunked", b"identity", b"chunked,",
           b"gzip, chunked", b"chunked, chunked", b"chunked, gzip", b"\tchunked", b"chunked\x0b", b"", b"chunk")  # fmt: skip
COLONS = ((b": ",) * 20 + (b":", b":  "), (b": ",) * 20 + (b":", b":\t", b" : ", b""))
ENDS = (
    (b"\r\n",) * 20 + (b" \r\n",),
    (b"\r\n",) * 40 + (b"\n", b"\r", b"\r\n ", b"\r\n\r\n", b"\r\r\n"),
)
TAILS = (
    b"",
    b"",
    b"",
    b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b"X",
)
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\0",
    b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\x85", b"\xa0", b"\xff", b"0", b"f", b"+", b"-",
    b"_", b"0x", b"#", b"@", b"/", b"*", b"%0d%0a", b"\r\n ", b"\r\n\t", b"Host: x\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Connection: close\r\n", b"HTTP/1.1", b"HTTP/1.0\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"GET / HTTP/1.1\r\n",
)  # fmt: skip


def pick(rng: Rng, choices: Sequence) -> object:
    """One of them; `rng.choice` is three times slower."""
    return choices[int(rng.random() * len(choices))]


# ── growing ─────────────────────────────────────────────────────────────────────────────────────


def fields(rng: Rng, wild: bool, most: int = 6) -> list[bytes]:
    """Field lines."""
    lines = []
    colons, ends = COLONS[wild], ENDS[wild]
    for _ in range(int(rng.random() * (most + 1))):
        name, values = pick(rng, FIELDS)
        if rng.random() < 0.1:
            name = name.lower() if rng.random() < 0.5 else name.swapcase()
        lines.append(name + pick(rng, colons) + pick(rng, values) + pick(rng, ends))
    return lines


def chunked(rng: Rng, wild: bool | None = None) -> bytes:
    """A chunked body as others write them, seldom as they ought not to."""
    wild = rng.random() < 0.5 if wild is None else wild
    parts: list[bytes] = []
    for _ in range(int(rng.random() * 4)):
        payload = b"hello\r\n0\r\n\r\nworld"[: 1 + int(rng.random() * 17)]
        size = pick(rng, (b"%x", b"%x", b"%X", b"0%x", b"000000%x")) % len(payload)
        if wild and rng.random() < 0.1:
            size = pick(rng, (b"0x5", b"+5", b"5_0", b" 5", b"5 ", b"-1", b"f" * 17, b"", b"5\t"))
        end = pick(rng, ENDS[1]) if wild else b"\r\n"
        parts += [size, _extension(rng, wild), b"\r\n", payload, end]
    parts += [pick(rng, (b"0", b"0", b"0", b"000", b"00")), _extension(rng, wild), b"\r\n"]
    if rng.random() < 0.25:
        parts += fields(rng, wild, 2)
    parts.append(pick(rng, ENDS[1]) if wild else b"\r\n")
    return b"".join(parts)


EXTENSIONS = ((b";a", b";a=b", b';a="b c"'), (b";a", b" ;a", b";\n", b";a\r", b";\0", b";\xe4"))


def _extension(rng: Rng, wild: bool) -> bytes:
    return b"" if rng.random() < 0.8 else pick(rng, EXTENSIONS[wild])


def body(rng: Rng, wild: bool) -> tuple[bytes, bytes]:
    """The lines that frame a message's body, and the body."""
    roll = rng.random()
    if roll < 0.4:
        return b"", b""
    if roll < 0.65:
        size = int(rng.random() * 20)
        return b"Content-Length: %d\r\n" % size, b"GET / HTTP/1.1\r\nHo"[:size].ljust(size, b".")
    if roll < 0.9 or not wild:
        return b"Transfer-Encoding: chunked\r\n", chunked(rng, wild)
    lines = []
    for _ in range(1 + int(rng.random() * 2)):
        if rng.random() < 0.5:
            lines.append(b"Content-Length" + pick(rng, COLONS[1]) + pick(rng, LENGTHS))
        else:
            lines.append(b"Transfer-Encoding" + pick(rng, COLONS[1]) + pick(rng, CODINGS))
        lines.append(pick(rng, ENDS[1]))
    return b"".join(lines), b"hello" if rng.random() < 0.5 else chunked(rng)


def stream(rng: Rng) -> bytes:
    """A request, its body, and what may follow it."""
    wild = rng.random() < 0.4
    framing, payload = body(rng, wild)
    lines = fields(rng, wild)
    if not wild or rng.random() < 0.95:
        lines.insert(0, b"Host: " + pick(rng, HOSTS[wild]) + b"\r\n")
    lines.insert(int(rng.random() * (len(lines) + 1)), framing)
    line = (METHODS[wild], TARGETS[wild], VERSIONS[wild])
    start = (b" ".join([pick(rng, words) for words in line]), b"\r\n")
    return b"".join((*start, *lines, b"\r\n", payload, pick(rng, TAILS)))


STATUSES = (200,) * 8 + (100, 101, 103, 204, 206, 301, 304, 404, 500, 999)


def response(rng: Rng) -> bytes:
    """A response, its body, and what may follow it."""
    wild = rng.random() < 0.4
    framing, payload = body(rng, wild)
    lines = fields(rng, wild, 4)
    lines.insert(int(rng.random() * (len(lines) + 1)), framing)
    if rng.random() < 0.2:
        lines.append(pick(rng, (b"Date: x\r\n", b"Strict-Transport-Security: max-age=0\r\n")))
    reason = pick(rng, (b" OK", b" OK", b" ", b"", b"  x", b" \xe4", b" a\tb"))
    start = (pick(rng, VERSIONS[wild]), b" %d" % pick(rng, STATUSES), reason, b"\r\n")
    return b"".join((*start, *lines, b"\r\n", payload, pick(rng, TAILS)))


def proxy_header(rng: Rng) -> bytes:
    """A PROXY protocol header of either version, and what follows it."""
    if rng.random() < 0.5:
        words = [
            b"PROXY", pick(rng, (b"TCP4", b"TCP6", b"UNKNOWN", b"UDP4")),
            *(pick(rng, (b"1.2.3.4", b"::1", b"::ffff:1.2.3.4", b"1.2.3", b"x")) for _ in "ab"),
            *(pick(rng, (b"1", b"65535", b"65536", b"01", b"")) for _ in "ab"),
        ]  # fmt: skip
        return b" ".join(words) + pick(rng, ENDS[1]) + pick(rng, TAILS)
    command, family = pick(rng, b"\x20\x21\x21\x21\x22\x11"), pick(rng, b"\x11\x21\x31\x00\x12\xff")
    size = pick(rng, (0, 12, 36, 40, 216, 11, 2048, 2049, 65535))
    have = size if rng.random() < 0.8 else int(rng.random() * 60)
    head = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", command, family, size)
    return head + rng.randbytes(min(have, 2100)) + pick(rng, TAILS)


# ── damaging ────────────────────────────────────────────────────────────────────────────────────


def _insert(rng: Rng, data: bytes) -> bytes:
    at = int(rng.random() * (len(data) + 1))
    return data[:at] + pick(rng, TOKENS) + data[at:]


def _insert_at_edge(rng: Rng, data: bytes) -> bytes:
    """Beside a line end, a colon or a blank: where parsers differ."""
    edge = pick(rng, (b"\r\n", b":", b" ", b"\r\n\r\n", b";", b","))
    places = data.count(edge)
    if not places:
        return _insert(rng, data)
    at = -1
    for _ in range(1 + int(rng.random() * places)):
        at = data.find(edge, at + 1)
    at += pick(rng, (0, len(edge), 1))
    return data[:at] + pick(rng, TOKENS) + data[at:]


def _replace(rng: Rng, data: bytes) -> bytes:
    at = int(rng.random() * (len(data) + 1))
    return data[:at] + pick(rng, TOKENS) + data[at + 1 :]


def _byte(rng: Rng, data: bytes) -> bytes:
    at = int(rng.random() * (len(data) + 1))
    return data[:at] + bytes((int(rng.random() * 256),)) + data[at + 1 :]


def _cut(rng: Rng, data: bytes) -> bytes:
    at = int(rng.random() * (len(data) + 1))
    return data[:at] + data[at + 1 + int(rng.random() ** 3 * 30) :]


def _case(rng: Rng, data: bytes) -> bytes:
    at = int(rng.random() * (len(data) + 1))
    stop = at + 1 + int(rng.random() * 8)
    return data[:at] + data[at:stop].swapcase() + data[stop:]


def _lines(rng: Rng, data: bytes) -> bytes:
    """Double, drop or swap lines."""
    lines = data.split(b"\r\n")
    if len(lines) < 3:
        return data
    at = 1 + int(rng.random() * (len(lines) - 2))
    roll = rng.random()
    if roll < 0.4:
        lines.insert(int(rng.random() * len(lines)), lines[at])
    elif roll < 0.7:
        del lines[at]
    else:
        lines[at], lines[at - 1] = lines[at - 1], lines[at]
    return b"\r\n".join(lines)


_OPERATIONS: Sequence[Callable[[Rng, bytes], bytes]] = (
    _insert, _insert_at_edge, _insert_at_edge, _replace, _byte, _cut, _case, _lines, _lines,
)  # fmt: skip


def mutate(rng: Rng, data: bytes) -> bytes:
    """The same with a few wounds."""
    for _ in range(1 + int(rng.random() ** 3 * 4)):
        data = pick(rng, _OPERATIONS)(rng, data)
    return data


class Source:
    """Inputs without end: grown, or of the corpus; a part of them damaged."""

    def __init__(self, rng: Rng, grow: Callable[[Rng], bytes], seeds: Sequence[bytes]) -> None:
        self.rng = rng
        self.grow = grow
        self.seeds = seeds

    def next(self) -> bytes:
        """Another input."""
        rng = self.rng
        seeded = self.seeds and rng.random() < 0.1
        data = pick(rng, self.seeds) if seeded else self.grow(rng)
        return mutate(rng, data) if seeded or rng.random() < 0.35 else data
