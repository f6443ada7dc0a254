"""The upstream behind both: it notes what it is asked, and answers as the query says."""

import socket
import ssl
import threading
from urllib.parse import parse_qs

from tests.process import LEAF

# What a guard says of everybody.
TOLD = [
    f"{family}{name}: {value}"
    for family, names in (
        ("X-authentik-", "username groups email"),
        ("Remote-", "User Groups"),
        ("X-Auth-Request-", "User Email Access-Token"),
    )
    for name, value in ((one, one.lower() + "-of-alice") for one in names.split())
]


class Recorder:
    """An HTTP/1.1 server, plain or with TLS, that keeps the last request it was sent.

    ?status=404 answers so, ?loc=URL with that Location, ?cookie=VALUE with that Set-Cookie. Where a path has `auth` in it, it
    is a guard: whoever has the cookie guard=401 may not pass.
    """

    def __init__(self, tls: bool) -> None:
        self.seen: tuple[str, list[tuple[str, str]], bytes] | None = None
        self.context: ssl.SSLContext | None = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            LEAF.configure_cert(self.context)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
            file = sock.makefile("rb")
            while line := file.readline(65536):
                self._answer(sock, line.decode("latin-1").strip(), file)
        except OSError:
            pass
        finally:
            sock.close()

    def _answer(self, sock: socket.socket, line: str, file) -> None:
        fields = []
        while (text := file.readline(65536).decode("latin-1").strip()) != "":
            name, _, value = text.partition(":")
            fields.append((name.lower(), value.strip()))
        size = int(dict(fields).get("content-length", "0"))
        body = file.read(size)
        self.seen = (line, fields, body)
        method, target, _ = line.split(" ", 2)
        query = parse_qs(target.partition("?")[2])
        status = query.get("status", ["200"])[0]
        lines = ["X-Up: 1", "Content-Type: text/plain"]
        if "auth" in target:  # a guard is asked: it lets everybody in but whose cookie says no
            said = dict(fields).get("cookie", "").partition("guard=")[2]
            status = said or status
            lines += TOLD
        lines.insert(0, f"HTTP/1.1 {status} Said")
        lines += [f"Location: {one}" for one in query.get("loc", [])]
        lines += [f"Set-Cookie: {one}" for one in query.get("cookie", [])]
        page = b"" if status in ("204", "304") else b"from above\n"
        if status != "204":
            lines.append(f"Content-Length: {len(page)}")
        if method == "HEAD":
            page = b""
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + page)
