"""One proxy between a client, an application and authentik's double; what each of them saw.

app.domain.test      an application; paths below /public need nobody to be signed in
open.domain.test     another one of the same outpost, which nobody needs to be signed in for
port.domain.test     one that is known by its port too
strict.domain.test   one whose route wants an identity
elsewhere.test       a site without a guard
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.parse

from .authentik import Application, Authentik
from .client import WAIT, Got, ask
from .fronts import Front
from .server import Recorder, Seen, Told

APP = Application("http://app.domain.test", skip=("^/public",))
APPLICATIONS = (
    APP,
    Application("http://open.domain.test", skip=(".",)),
    Application("http://port.domain.test:8443"),
    Application("http://strict.domain.test"),
)
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)  # fmt: skip
ACCEPT = base64.b64encode(
    hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
).decode()
SWITCH = (
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()


class Site(Recorder):
    """The application: it grants WebSockets, and is at a loss on /missing."""

    def answer(self, seen: Seen) -> Told:
        if seen.one("Upgrade") == "websocket":
            return Told(101, raw=SWITCH)
        return Told(404 if seen.path == "/missing" else 200, (("X-App", "1"),), b"app")


def outpost() -> Authentik:
    """The guard."""
    return Authentik("http://auth.domain.test", *APPLICATIONS)


class Stand:
    """What the cases use."""

    def __init__(self, front: Front, site: Site, guard: Authentik) -> None:
        self.front = front
        self.site = site
        self.guard = guard

    def clear(self) -> None:
        """Nothing has happened yet."""
        self.guard.resume()
        self.site.forget()
        self.guard.forget()
        self.guard.sessions.clear()
        self.guard.override = None

    def says(self, status: int, *fields: str, body: bytes = b"", **more: object) -> None:
        """From now on the guard answers every question so."""
        pairs = tuple((one.partition(": ")[0], one.partition(": ")[2]) for one in fields)
        self.guard.override = Told(status, pairs, body, **more)

    def signed_in(self, application: Application = APP) -> str:
        """The cookie of somebody who has signed in."""
        self.guard.sessions["s"] = {"user": "alice"}
        return f"Cookie: {application.cookie}=s"

    def ask(
        self,
        target: str = "/page",
        *lines: str,
        method: str = "GET",
        body: bytes = b"",
        host: str = "app.domain.test",
        wait: float = WAIT,
    ) -> Got:
        """One request, and its answer."""
        length = [f"Content-Length: {len(body)}"] if body else []
        head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, *length, "", ""]
        return ask(self.front.port, "\r\n".join(head).encode() + body, wait)

    def outcome(self, got: Got) -> str:
        """In a few words: who the application takes the client for, or what it gets instead."""
        if got.status <= 0:
            return "cut" if got.status else f"no answer for {WAIT:g} s"
        if not self.site.seen:
            return str(got.status)
        told = self.site.seen[-1]
        names = [
            value
            for name, value in told.fields
            if name.lower().replace("_", "-") == "x-authentik-username" and value
        ]
        # Caddy's lines give the application the words of a placeholder where there is nothing.
        shown = ["`{…}`, a placeholder" if name.startswith("{") else name for name in names]
        return f"served as {' and '.join(shown) or 'nobody'}"

    def question(self) -> Seen | None:
        """The last one."""
        return next(reversed(self.guard.questions()), None)

    def back(self, got: Got) -> str:
        """Where a stranger comes out who signs in now."""
        where = got.one("location")
        if "/outpost.goauthentik.io/start?" in where:
            where = self.ask(path(where)).one("location")
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(where).query))
        if "state" not in query:
            return f"{got.status}, nowhere"
        state = query["state"].partition(".")[0]
        facts = json.loads(base64.urlsafe_b64decode(state))
        return f"back to {facts['redirect'].removeprefix('http://app.domain.test')}"


def path(url: str) -> str:
    """Path and query of a redirect, which may name the host and a port."""
    return urllib.parse.urlunsplit(("", "", *urllib.parse.urlsplit(url)[2:]))
