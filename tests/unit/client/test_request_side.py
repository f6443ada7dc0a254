"""What both versions of HTTP have in common: the same rules, by whatever frames they are told."""

from dataclasses import replace

import hpack as law
import pytest

from rawproxy.client.h1_connection import H1Connection
from rawproxy.client.h2_connection import H2Connection
from rawproxy.config.model import Deadlines, Limits, Redirect, Route, Site, Upstream, single
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.protocol.http2 import frames
from rawproxy.proxy.service import Service
from tests.fakes import FakeLoop, FakeTransport

HINTS = ResponseHead(
    103, b"HTTP/1.1 103 Early Hints\r\n", 1, b"link: </a>\r\n", [], 0, False, b"", True, (), 0
)
HSTS = b"strict-transport-security"
BODY = 30.0  # seconds in which a body has to make `RATE` a second
RATE = 10


class Rig:
    """One client whose request waits for an upstream that is never free."""

    def __init__(self, version: str, **options) -> None:
        upstream = Upstream("http://u", tls=False, host="127.0.0.1", port=1)
        deadlines = Deadlines(queue=900.0, request_body=BODY)
        sites = options.pop("sites", None)
        config = single(
            (upstream,), max_upstream=0, limits=Limits(rate=RATE), deadlines=deadlines, **options
        )
        if sites is not None:
            config = replace(config, sites=sites)
        self.lines: list[bytes] = []
        self.version = version
        self.service = Service(config, self.lines.append)
        self.loop, self.transport = FakeLoop(), FakeTransport()
        slot = self.service.admission.enter()
        slot.peer, slot.sites = "203.0.113.9", self.service.route_targets.for_listener(None)
        self.front = {"1": H1Connection, "2": H2Connection}[version](
            self.service, slot, *([True] if version == "1" else [])
        )
        self.decoder = law.Decoder()
        with self.loop.running():
            self.front.connection_made(self.transport)
            if version == "2":
                self.front.data_received(frames.PREFACE + frames.settings({}))
            self.loop.turn()
        self.transport.take()

    def ask(self, method: str, host: str = "h", path: str = "/", body: bytes | None = None) -> None:
        """A request; the first bytes of its endless body, if it has one."""
        if self.version == "1":
            framing = "Content-Length: 100000\r\n" if body is not None else ""
            head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n".encode()
            self.feed(head + (body or b""))
            return
        fields = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)]
        if body is not None:
            fields.append(("content-length", "100000"))
        self.feed(frames.headers(1, law.Encoder().encode(fields), body is None))
        if body:
            self.more(body)

    def more(self, body: bytes) -> None:
        self.feed(frames.data(1, body, False) if self.version == "2" else body)

    def feed(self, data: bytes) -> None:
        with self.loop.running():
            self.front.data_received(data)
            self.loop.turn()

    def sweep(self, now: float) -> None:
        self.service.next_sweep = now
        with self.loop.running():
            self.front.sweep(now)
            self.loop.turn()

    def take_it(self) -> None:
        """As if there were an upstream that takes the body."""
        with self.loop.running():
            self.client.throttle(~0, False)
            self.loop.turn()

    @property
    def client(self):
        """The client side of the request."""
        return self.front if self.version == "1" else self.front.streams[1]

    def answer(self) -> bytes:
        """Status and fields of what was sent, one a line, in lower case."""
        data = self.transport.take()
        if self.version == "1":
            head = data.partition(b"\r\n\r\n")[0].lower()
            return head.partition(b" ")[2]
        lines, at = [], 0
        while at < len(data):
            high, low, kind, _, _ = frames.HEADER.unpack_from(data, at)
            stop = at + 9 + (high << 8 | low)
            if kind == frames.HEADERS:
                decoded = self.decoder.decode(data[at + 9 : stop], raw=True)
                lines += [value if name == b":status" else b"%b: %b" % (name, value)
                          for name, value in decoded]  # fmt: skip
            at = stop
        return b"\r\n".join(lines).lower()


@pytest.fixture(params=["1", "2"])
def version(request):
    return request.param


def test_a_body_has_to_keep_its_pace(version):
    rig = Rig(version)
    rig.ask("POST", body=b"x" * 100)
    assert not rig.client.still_sends(waived=False)
    rig.more(b"x" * int(RATE * BODY - 100))
    rig.service.next_sweep = 7.0
    assert rig.client.still_sends(waived=False)
    assert rig.client.deadline == BODY + 7.0
    assert not rig.client.still_sends(waived=False)  # nothing since then


def test_whoever_is_told_to_wait_need_not_keep_the_pace(version):
    """There is no upstream for the body yet."""
    rig = Rig(version)
    rig.ask("POST", body=b"x" * 100)
    for turn in range(1, 5):
        rig.sweep(turn * BODY)
    assert not rig.answer()
    rig.take_it()
    rig.sweep(5 * BODY)
    assert rig.answer().startswith(b"408")


def test_a_client_that_did_not_wait_is_recorded_as_such(version):
    rig = Rig(version)
    rig.ask("GET", path="/left")
    assert not rig.lines
    with rig.loop.running():
        rig.front.connection_lost(None)
        rig.loop.turn()
    (line,) = rig.lines
    assert b"/left" in line and b" 499 " in line
    assert not rig.service.endpoints[0].pool.waiting


def test_what_holds_for_the_host_is_said_with_the_answer_alone(version):
    rig = Rig(version)
    rig.ask("GET")
    with rig.loop.running():
        rig.client.send_interim(HINTS)
        rig.loop.turn()
    assert HSTS not in rig.answer()
    with rig.loop.running():
        rig.client.reply(200, b"", b"page")
        rig.loop.turn()
    assert HSTS in rig.answer()


SITES = (
    Site(
        names=("one.test",),
        routes=(Route(group=None, redirect=Redirect(307, "https://to.test$path")),),
    ),
    Site(names=("two.test",), routes=(Route(),)),
)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("one.test", b"307"), ("two.test", b""), ("three.test", b"421")],
)
def test_the_route_is_found_or_answers(version, host, answer):
    rig = Rig(version, sites=SITES)
    rig.ask("GET", host)
    got = rig.answer()
    assert got[:3] == answer
    assert (b"location: https://to.test/" in got) is (answer == b"307")
    waiting = rig.service.endpoints[0].pool.waiting
    assert bool(waiting) is (not answer)
