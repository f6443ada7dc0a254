"""The worker leaves: HTTP/2 clients are warned, and then told which request was the last."""

from rawproxy.protocol.http2 import frames
from tests.unit.protocol.websocket.test_frames import frame

from .rig import read_head, response
from .test_farewell import GOODBYE
from .test_h2_front import DATA, GOAWAY, HEADERS, ask, grant, talk, whole
from .test_http import always

LAST = (2**31 - 1).to_bytes(4, "big") + bytes(4)  # NO_ERROR, and no stream is too late yet


def drain(rig) -> None:
    rig.server.get_loop().call_soon_threadsafe(rig.service.drain)


def test_what_is_asked_between_the_warning_and_the_end_is_answered():
    def client(h2, rig):
        assert h2.get()[0] == 200
        drain(rig)
        assert h2.until(GOAWAY)[3] == LAST
        h2.send(h2.headers("/late"))
        blocks, body, code = whole(h2, 3)
        assert (blocks[0][":status"], body, code) == ("200", b"ok", None)
        assert h2.until(GOAWAY)[3] == (3).to_bytes(4, "big") + bytes(4)

    talk(always(response(b"ok")), client, every=0.5)


def test_a_connection_that_arrives_while_it_drains_is_served_once():
    def client(h2, rig):
        assert h2.get()[0] == 200
        assert h2.until(GOAWAY)[3] == LAST
        assert h2.until(GOAWAY)[3][4:] == bytes(4)

    async def script(reader, writer):
        while True:
            await read_head(reader)
            writer.write(response(b"ok"))

    def late(h2, rig):
        rig.service.draining = True  # since before this connection came
        client(h2, rig)

    talk(script, late, every=0.2)


def test_a_websocket_inside_is_closed_by_a_frame():
    seen = {}

    async def upstream(reader, writer):
        writer.write(grant(await read_head(reader)))
        writer.write(frame(2, b"a" * 100, fin=False))
        head = await reader.readexactly(2)
        masked = await reader.readexactly((head[1] & 127) + 4)
        mask, payload = masked[:4], masked[4:]
        seen["upstream"] = bytes(b ^ mask[at % 4] for at, b in enumerate(payload))
        writer.write(frame(0, b"b") + frame(8, payload[:2]))
        await reader.read()

    def client(h2, rig):
        ask(h2)
        h2.until(HEADERS)
        first = frame(2, b"a" * 100, fin=False)
        assert h2.until(DATA)[3] == first
        drain(rig)
        got = b""
        ended = False
        while not ended:
            _, flags, _, payload = h2.until(DATA)
            got += payload
            ended = bool(flags & frames.END_STREAM)
            if b"service restart" in got and not seen.get("answered"):
                seen["answered"] = True
                h2.send(frames.data(1, frame(8, b"\x03\xf4", mask=True), False))
        seen["client"] = got

    talk(upstream, client, deadlines={"drain": 2.0, "linger": 1.0})
    assert seen["upstream"] == GOODBYE[1]
    assert seen["client"] == frame(0, b"b") + frame(8, GOODBYE[1])
