"""nginx and rawproxy run the same file; the same requests go to both, and what came is compared.

A configuration is one file in `configs/`, as somebody would post it. `moved` changes nothing but
names of machines, ports and paths: every listener gets a free port of loopback, every upstream is
the recorder's, certificates are the tests'. Lines `#> GET /path Host: name` in it are requests to
send beside those that are made of its names and locations; `'body: text'` is the body of one.
"""

import contextlib
import os
import pathlib
import re
import shlex
import socket
import ssl
import sys
from typing import Any, NamedTuple

from rawproxy.access.password_hashes import apr1
from rawproxy.errors import ignore
from rawproxy.nginx.reading import Directive, read
from tests.nginx.upstream import Recorder
from tests.process import CA, LEAF, PATIENCE, Program, free_port, wait_for_port

# alice's password, hunter2, as both proxies read it.
HUNTER2 = "$apr1$salt$" + apr1(b"hunter2", b"salt", ignore)
CONFIGS = pathlib.Path(__file__).parent / "configs"
WRAP = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;
  fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  include {conf};
}}
"""
# What differs on purpose, whatever the file says; docs/from-nginx.md lists it.
OF_REQUESTS = {
    "x-forwarded-prefix",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "connection",
}
CLAIMED = "192.0.2.7"  # what a client says; it passes nginx where nothing is set, and not here
OF_RESPONSES = {"server", "date", "connection", "keep-alive", "transfer-encoding", "x-request-id"}


class Seen(NamedTuple):
    """What came of a request."""

    line: str  # what the upstream was asked; empty: it was not
    fields: dict[str, str]
    status: int
    answer: dict[str, str]
    body: bytes
    sent: bytes = b""  # the body that the upstream got


class Request(NamedTuple):
    """What is asked, of one listener."""

    listen: str  # as in the file: "80", "443"
    host: str
    method: str
    target: str
    lines: tuple[str, ...] = ()
    body: bytes = b""


class Stand:
    """Both proxies with one configuration."""

    def __init__(
        self, text: str, folder: pathlib.Path, recorders: tuple[Any, Any] | None = None
    ) -> None:
        self.folder = folder
        self.plain, self.secure = recorders or (Recorder(False), Recorder(True))
        self.stack = contextlib.ExitStack()
        self.stack.callback(self.plain.close)
        self.stack.callback(self.secure.close)
        pem = folder / "pem"
        LEAF.private_key_and_cert_chain_pem.write_to_path(str(pem))
        self.authority, self.users = folder / "authority.pem", folder / "users"
        CA.cert_pem.write_to_path(str(self.authority))
        self.users.write_text(f"alice:{HUNTER2}\n")
        self.ports: dict[str, dict[str, int]] = {"nginx": {}, "rawproxy": {}}
        self.tls: set[str] = set()
        if re.match(r"(?:\s|#[^\n]*\n)*location\b", text):
            text = "server { listen 80;\n" + text + "}"
        for name in self.ports:
            (folder / f"{name}.conf").write_text(self.moved(text, name, str(pem)))
        self.tree = read(str(folder / "rawproxy.conf"))

    def moved(self, text: str, who: str, pem: str) -> str:
        """The file with other ports, machines and certificates."""
        ports = self.ports[who]

        def listen(match: re.Match[str]) -> str:
            port, flags = match[2], match[3]
            if (match[1] or "").startswith("["):
                return ""  # one family is enough here
            if "ssl" in flags.split():
                self.tls.add(port)
            ports.setdefault(port, free_port())
            return f"listen 127.0.0.1:{ports[port]}{flags};"

        def server(match: re.Match[str]) -> str:
            scheme = "https" if f"https://{self._upstream}" in text else "http"
            recorder = self.secure if scheme == "https" else self.plain
            return f"server 127.0.0.1:{recorder.port}{match[1]};"

        def block(match: re.Match[str]) -> str:
            self._upstream = match[1]
            return re.sub(r"\bserver\s+[^\s;{]+([^;{]*);", server, match[0])

        self._upstreams = set(re.findall(r"\bupstream\s+(\S+)\s*\{", text))
        text = re.sub(r"\bupstream\s+(\S+)\s*\{[^}]*\}", block, text)
        text = re.sub(r"\blisten\s+(\[::\]:|\S+?:)?(\d+)([^;]*);", listen, text)
        text = re.sub(r"\bproxy_pass\s+(https?)://([^/;\s$]+)", self._pass, text)
        text = re.sub(r"\bssl_certificate(_key)?\s+[^;]+;", rf"ssl_certificate\1 {pem};", text)
        text = re.sub(r"\b(ssl_client_certificate)\s+[^;]+;", rf"\1 {self.authority};", text)
        text = re.sub(r"\b(auth_basic_user_file)\s+[^;]+;", rf"\1 {self.users};", text)
        text = re.sub(r"\b127\.0\.0\.1:900[0-9]\b", f"127.0.0.1:{self.plain.port}", text)
        return re.sub(r"\bset\s+(\$upstream\w*)\s+([^;]+);", self._set, text)

    def _pass(self, match: re.Match[str]) -> str:
        if match[2] in self._upstreams:
            return match[0]
        recorder = self.secure if match[1] == "https" else self.plain
        return f"proxy_pass {match[1]}://127.0.0.1:{recorder.port}"

    def _set(self, match: re.Match[str]) -> str:
        """SWAG's variables."""
        if match[1] == "$upstream_port":
            return f"set {match[1]} {self.plain.port};"
        return f"set {match[1]} {'http' if match[1] == '$upstream_proto' else '127.0.0.1'};"

    def __enter__(self) -> "Stand":
        environment = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin"}
        whole = self.folder / "whole.conf"
        whole.write_text(WRAP.format(folder=self.folder, conf=self.folder / "nginx.conf"))
        nginx = Program(["nginx", "-p", str(self.folder), "-c", str(whole)], env=environment)
        self.stack.callback(nginx.stop)
        ours = [sys.executable, "-m", "rawproxy", "--nginx", str(self.folder / "rawproxy.conf")]
        rawproxy = Program([*ours, "--access-log", "off"])
        self.stack.callback(rawproxy.stop)
        for name, program in (("nginx", nginx), ("rawproxy", rawproxy)):
            for port in self.ports[name].values():
                try:
                    wait_for_port(port, program.process)
                except AssertionError:
                    error = program.err()
                    self.stack.close()
                    raise AssertionError(f"{name}: {error}") from None
        return self

    def __exit__(self, *_) -> None:
        self.stack.close()

    def ask(self, who: str, request: Request) -> Seen:
        """One request, over a connection of its own."""
        self.plain.seen = self.secure.seen = None
        raw = socket.create_connection(("127.0.0.1", self.ports[who][request.listen]), PATIENCE)
        if request.listen in self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            raw = context.wrap_socket(raw, server_hostname=request.host.partition(":")[0])
        lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.host}"]
        lines += [*request.lines, "Connection: close"]
        if request.body:
            lines.append(f"Content-Length: {len(request.body)}")
        with raw:
            raw.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body)
            answer = b""
            while not _whole(answer, request.method == "HEAD"):
                try:
                    data = raw.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    break
                answer += data
        return self._seen(answer, request.method == "HEAD")

    def _seen(self, answer: bytes, headless: bool) -> Seen:
        if not answer:
            answer = b"HTTP/1.1 444 hung up"
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        named = fields_of(fields)
        if named.get("transfer-encoding") == "chunked" and not headless:
            body = _unchunked(body)
        seen = self.plain.seen or self.secure.seen
        return Seen(
            seen[0] if seen else "",
            _dict(seen[1]) if seen else {},
            int(status.split()[1]),
            named,
            body,
            seen[2] if seen else b"",
        )


def _whole(answer: bytes, headless: bool) -> bool:
    """Whether the response is here; one without a length ends with its connection."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if headless or head[9:12] in (b"204", b"304"):
        return True
    length = re.search(rb"\r\ncontent-length: *([0-9]+)", head.lower())
    if length is not None:
        return len(body) >= int(length[1])
    return b"\r\ntransfer-encoding: chunked" in head.lower() and body.endswith(b"0\r\n\r\n")


def fields_of(lines: list[str]) -> dict[str, str]:
    """Header lines by name, several of a name one below the other."""
    return _dict([(n.lower(), v.strip()) for n, _, v in (one.partition(":") for one in lines)])


def _dict(fields: list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in fields:
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _unchunked(body: bytes) -> bytes:
    made = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        made, body = made + body[:length], body[length + 2 :]
    return made


def requests_of(tree: tuple[Directive, ...], text: str, ports: dict[str, int]) -> list[Request]:
    """The requests that a file is tried with: each name, each location, and what is near it."""
    found = []
    by_port = {str(real): listen for listen, real in ports.items()}
    for server in (one for one in tree if one.name == "server"):
        inner = server.block or ()
        listens = [by_port[one.args[0].rpartition(":")[2]] for one in inner if one.name == "listen"]
        names = [name for one in inner if one.name == "server_name" for name in one.args]
        hosts = [
            name.replace("*.", "www.").lstrip(".")
            for name in names
            if not name.startswith(("_", "~"))
        ]
        paths = ["/"]
        for one in inner:
            if one.name == "location" and not one.args[-1].startswith("@"):
                paths += _paths(one)
        for listen in dict.fromkeys(listens):
            for host in dict.fromkeys([*hosts[:2], "unknown.test"]):
                for path in dict.fromkeys(paths):
                    found += _variants(listen, host, path)
    for match in re.finditer(r"^\s*#> (\d+) (\S+) (\S+) (\S+)(.*)$", text, re.M):
        lines = shlex.split(match[5])
        body = "".join(one.removeprefix("body: ") for one in lines if one.startswith("body: "))
        lines = [one for one in lines if not one.startswith("body: ")]
        found.append(Request(*match.groups()[:4], tuple(lines), body.encode()))
    return found


def _paths(one: Directive) -> list[str]:
    path = one.args[-1]
    if len(one.args) == 2 and one.args[0].startswith("~"):
        return []  # those are asked for by name
    return [path, path.rstrip("/"), path + "x", path.rstrip("/") + "/x/y", path + "/"]


def _variants(listen: str, host: str, path: str) -> list[Request]:
    path = path or "/"
    if "//" in path:
        return []  # read in two ways: 400 on purpose
    upstreams_own = "?loc=/moved%20x&cookie=a%3Db%3B%20Path%3D%2F"
    return [
        Request(listen, host, "GET", path),
        Request(listen, host, "GET", path + "?q=1&r=%2F"),
        Request(listen, host, "HEAD", path),
        Request(listen, host, "POST", path, ("X-Own: 1",), b"body"),
        Request(listen, host, "GET", path + "?status=404"),
        Request(listen, host, "GET", path + upstreams_own),
        Request(listen, f"{host}:1234", "GET", path, (f"X-Forwarded-For: {CLAIMED}",)),
    ]
