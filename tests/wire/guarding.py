"""A running proxy with a guarded route, a scripted guard, and clients of both versions of HTTP."""

import asyncio

from rawproxy.access.rules import AccessRules, AuthRule
from rawproxy.config.json_codec import to_json
from rawproxy.config.model import Route, Site
from rawproxy.protocol.http2 import frames
from tests.unit.access.heads import rule

from .h2raw import H2Client
from .rig import Rig, read_head, response

YES = (b"X-authentik-username: alice", b"X-authentik-groups: users|admins")


def route(path: str = "/", auth: AuthRule | None = None, **facts) -> Route:
    """A route with these rules; what `auth` tells of somebody is cut from what clients send."""
    options = facts.pop("options", {})
    identity = tuple(one for one in (auth.copied if auth else ()) if one != "Authorization")
    rules = AccessRules(**{"auth": auth, "identity": identity} | facts)
    return Route(path, access=to_json(rules), **options)


class GuardScript:
    """Answers every question by `answer`, after `pause`; keeps what it was asked."""

    def __init__(self, answer: bytes = response(b"", *YES), pause: float = 0.0) -> None:
        self.answer = answer
        self.pause = pause
        self.questions: list[bytes] = []
        self.lost = 0  # connections that ended while an answer was due
        self.silent = False

    async def __call__(self, reader, writer) -> None:
        while True:
            self.questions.append(await read_head(reader))
            if self.silent or self.pause:
                try:
                    async with asyncio.timeout(None if self.silent else self.pause):
                        await reader.read(1)
                    self.lost += 1
                    return
                except TimeoutError:
                    pass
            writer.write(self.answer)
            await writer.drain()


class Answer:
    """What a client got."""

    def __init__(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.fields, self.body = status, fields, body

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known.lower() == name]

    def one(self, name: str) -> str | None:
        (value,) = self.all(name) or [None]
        return value


class Client1:
    """HTTP/1.1; requests one after the other, over one connection."""

    version = "HTTP/1.1"

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def __aenter__(self):
        self.reader, self.writer = await self.rig.client()
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    def send(self, target="/", *lines, method="GET", body=b"", host="h"):
        length = [f"Content-Length: {len(body)}"] if body else []
        start = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, *length, "", ""]
        self.writer.write("\r\n".join(start).encode() + body)

    async def answer(self, method="GET") -> Answer:
        head = (await read_head(self.reader)).decode()
        start, *lines = head.split("\r\n")[:-2]
        fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        length = next((int(value) for name, value in fields if name.lower() == "content-length"), 0)
        body = b"" if method == "HEAD" else await self.reader.readexactly(length)
        return Answer(int(start.split()[1]), fields, body)

    async def ask(self, target="/", *lines, **more) -> Answer:
        self.send(target, *lines, **more)
        return await self.answer(more.get("method", "GET"))


class Client2:
    """HTTP/2; the same."""

    version = "HTTP/2.0"

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def __aenter__(self):
        self.client = await asyncio.to_thread(H2Client, self.rig.port)
        return self

    async def __aexit__(self, *_):
        self.client.sock.close()

    def send(self, target="/", *lines, method="GET", body=b"", host="h"):
        client = self.client
        self.number, client.next_id = client.next_id, client.next_id + 2
        fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", host),
            (":path", target),
        ]
        fields += [(one.partition(": ")[0].lower(), one.partition(": ")[2]) for one in lines]
        fields += [("content-length", str(len(body)))] if body else []
        client.send(frames.headers(self.number, client.encoder.encode(fields), not body))
        for at in range(0, len(body), frames.MAX_FRAME):
            last = at + frames.MAX_FRAME >= len(body)
            client.send(frames.data(self.number, body[at : at + frames.MAX_FRAME], last))

    def _answer(self) -> Answer:
        client, fields, body = self.client, [], b""
        while True:
            kind, flags, stream, payload = client.frame()
            if stream != self.number:
                continue
            if kind == frames.HEADERS:
                fields = list(client.decoder.decode(payload))
            elif kind == frames.DATA:
                body += payload
            if kind in (frames.HEADERS, frames.DATA) and flags & frames.END_STREAM:
                status = next(int(value) for name, value in fields if name == ":status")
                return Answer(status, fields, body)

    async def ask(self, target="/", *lines, **more) -> Answer:
        return await asyncio.to_thread(self._both, target, lines, more)

    def _both(self, target, lines, more) -> Answer:
        self.send(target, *lines, **more)
        return self._answer()


def guarded(script, guard, *routes: Route, **options) -> Rig:
    """A rig of TLS, as both versions need it, whose routes are these."""
    site = Site(routes=routes or (route(auth=rule()),))
    return Rig(script, True, sites=[site], others={"auth.sso": guard}, **options)
