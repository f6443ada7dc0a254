"""Request heads and bodies of the bench: fixed, realistic, the same in every run.

The browser mix is a pool of distinct heads of about eleven fields. On the wire every request also
carries its own number in the query, so that no head is ever sent twice on a connection and nothing
that remembers heads can profit. Pure: no clock, no randomness beyond a fixed seed.
"""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

HOST = "sso.bench.test"  # what clients ask for; every peer must pass it on unchanged
POOL = 509  # distinct heads in the browser mix; prime, so that it never keeps step with 64 or 320
SMALL = 64
KIB16, MIB1, MIB10 = 16 * 1024, 1024 * 1024, 10 * 1024 * 1024
FILES = {"16k": KIB16, "1m": MIB1, "10m": MIB10}

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.6 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/128.0.0.0 Mobile Safari/537.36",
)
ACCEPTS = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "*/*",
    "application/json, text/plain, */*",
    "text/css,*/*;q=0.1",
    "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
)
LANGUAGES = ("en-US,en;q=0.5", "de-DE,de;q=0.9,en;q=0.6", "fr-FR,fr;q=0.8,en;q=0.3", "ja,en;q=0.7")
DESTS = (
    ("document", "navigate"),
    ("empty", "cors"),
    ("style", "no-cors"),
    ("script", "no-cors"),
    ("image", "no-cors"),
)
PATHS = (
    "if/flow/default-authentication-flow/",
    "api/v3/flows/executor/default-authentication-flow/",
    "api/v3/core/applications/",
    "static/dist/flow/FlowInterface.js",
    "static/dist/theme-dark.css",
    "application/o/authorize/",
    "media/public/application-icons/wiki.png",
)
# What a guard says of somebody as a token: as long as authentik's, and the end is new each time.
TOKEN = "eyJ" + "hbGciOiJSUzI1NiIsImtpZCI6IjQ5" * 30 + "."
API_HEAD = {  # an API client sends the same head each time: rows that use it say so
    "Host": HOST,
    "User-Agent": "python-httpx/0.27.2",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Authorization": "Bearer 3q2u8hV0mJx1QdC5rT7yN9wKfLbPz4sGaEiOcUjM",
}


def browser_heads(count: int = POOL) -> list[tuple[str, str]]:
    """Distinct heads in two parts: the request's number goes between them.

    The first part ends inside the query, the second begins with ` HTTP/1.1`.
    """
    rng = random.Random(20_240_607)
    heads = []
    for number in range(count):
        kind = rng.randrange(len(DESTS))
        dest, mode = DESTS[kind]
        path = rng.choice(PATHS)
        token = f"{rng.getrandbits(160):040x}"
        head = [
            f"Host: {HOST}",
            f"User-Agent: {rng.choice(AGENTS)}",
            f"Accept: {ACCEPTS[kind]}",
            f"Accept-Language: {rng.choice(LANGUAGES)}",
            "Accept-Encoding: gzip, deflate, br",
            f"Referer: https://{HOST}/{rng.choice(PATHS)}?next={number:03d}",
            f"Cookie: authentik_csrf={token[:32]}; authentik_session={token}{number:04d}",
            f"Sec-Fetch-Dest: {dest}",
            f"Sec-Fetch-Mode: {mode}",
            "Sec-Fetch-Site: same-origin",
        ]
        if number % 3:  # order and number of fields differ between browsers too
            head.insert(6, "DNT: 1")
        if number % 2:
            head.append("Connection: keep-alive")
        else:
            head.insert(1, "Connection: keep-alive")
        heads.append((f"GET /small/{path}?v=", " HTTP/1.1\r\n" + "\r\n".join(head) + "\r\n\r\n"))
    return heads


def template(request: bytes, number: int = 0) -> bytes:
    """One request as `client.c` reads it; `number` is where its eight digits stand, 0: nowhere."""
    return struct.pack("<II", len(request), number) + request


def mix_templates() -> bytes:
    """The pool of the browser mix, with room for each request's number."""
    heads = [(first.encode(), second.encode()) for first, second in browser_heads()]
    return b"".join(template(first + b"0" * 8 + second, len(first)) for first, second in heads)


def browser_request(number: int, heads: list[tuple[str, str]]) -> bytes:
    """The `number`th request of the mix as bytes, for users written in Python."""
    first, second = heads[number % len(heads)]
    return f"{first}{10_000_000 + number}{second}".encode()


def api_request() -> bytes:
    """The request of an API client, which is always the same."""
    api = "".join(f"{name}: {value}\r\n" for name, value in API_HEAD.items())
    return f"GET /same/api/v3/core/applications/ HTTP/1.1\r\n{api}\r\n".encode()


def plain_request(path: str, close: bool = False) -> str:
    """A browser-like GET of one fixed path, for body and connection rows."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", f"User-Agent: {AGENTS[0]}"]
    lines += [f"Accept: {ACCEPTS[1]}", f"Accept-Language: {LANGUAGES[0]}"]
    lines += ["Connection: close"] if close else []
    return "\r\n".join(lines) + "\r\n\r\n"


def upload_request(path: str, size: int) -> bytes:
    """POST with Content-Length and `size` bytes of body."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + body(size)


def chunked_request(path: str, size: int, chunk: int = 4096) -> bytes:
    """POST with a chunked body of `size` bytes; the answer is chunked as well."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\n"
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked(body(size), chunk)


def chunked(data: bytes, chunk: int) -> bytes:
    """`data` in chunked framing."""
    out = bytearray()
    for start in range(0, len(data), chunk):
        piece = data[start : start + chunk]
        out += b"%x\r\n%b\r\n" % (len(piece), piece)
    return bytes(out + b"0\r\n\r\n")


def body(size: int) -> bytes:
    """Printable bytes without line ends, so that framing errors show up in a dump."""
    pattern = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
    return (pattern * (size // len(pattern) + 1))[:size]


# wrk calls `wrk.format()` once. `done()` reports as JSON; the times are microseconds.
LUA_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'BENCH {"requests":%d,"micros":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,'
    .. '"timeout":%d,"status":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.timeout,
    e.status, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max))
end
"""
LUA_RAW = """
local file = io.open(%s, "rb")
local raw = file:read("*a")
file:close()
wrk.format = function() return raw end
"""


def lua_raw(file: Path) -> str:
    """A wrk script that sends the bytes of `file` again and again."""
    return LUA_RAW % json.dumps(str(file)) + LUA_DONE


def write_all(folder: Path) -> None:
    """Everything the load generators and the origin read from disk."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    for name, size in FILES.items():
        (files / name).write_bytes(body(size))
    (folder / "mix.templates").write_bytes(mix_templates())
    (folder / "api.templates").write_bytes(template(api_request()))
    raw = {name: plain_request(f"/files/{name}").encode() for name in FILES}
    for name in ("1m", "16k"):
        (folder / f"{name}.templates").write_bytes(template(raw[name]))
    uploads = {"upload": upload_request("/upload", MIB1)}
    uploads["chunked"] = chunked_request("/chunked", KIB16)
    for name, data in uploads.items():
        (folder / f"{name}.templates").write_bytes(template(data))
    raw |= uploads
    for name, data in raw.items():
        (folder / f"{name}.raw").write_bytes(data)
        (folder / f"{name}.lua").write_text(lua_raw(folder / f"{name}.raw"))
    urls = [head[4:] + str(10_000_000 + i) for i, (head, _) in enumerate(browser_heads(64))]
    (folder / "h2-paths.txt").write_text("\n".join(urls) + "\n")
