"""OPTIONS and TRACE on the wire, of either version."""

import pytest

from rawproxy.config.model import Route, Site
from rawproxy.protocol.http2 import frames

from .h2raw import H2Client, running
from .rig import Rig, get, read_head, read_response, response, run


async def show(reader, writer):
    """An upstream that answers what it was asked."""
    while True:
        head = await read_head(reader)
        writer.write(response(head))


def test_max_forwards():
    async def test():
        async with Rig(show) as rig:
            reader, writer = await rig.client()
            for lines, there, gone in (
                ((), b"OPTIONS / HTTP/1.1\r\n", b"Max-Forwards"),
                ((b"Max-Forwards: 5",), b"\r\nMax-Forwards: 4\r\n", b"Max-Forwards: 5"),
                ((b"Max-Forwards: 1",), b"\r\nMax-Forwards: 0\r\n", b"Max-Forwards: 1"),
            ):
                for _ in range(2):  # the second time it is known
                    writer.write(get(b"/", *lines, method=b"OPTIONS"))
                    _, seen = await read_response(reader)
                    assert there in seen and gone not in seen
            for _ in range(2):
                writer.write(get(b"/", b"Max-Forwards: 0", method=b"OPTIONS"))
                head, seen = await read_response(reader)
                assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nAllow: GET, " in head
                assert seen == b""
            # With a body, which is read.
            writer.write(get(b"/", b"Max-Forwards: 0", b"Content-Length: 5", method=b"OPTIONS"))
            assert b"\r\nAllow: GET, " in (await read_response(reader))[0]
            writer.write(b"hello" + get(b"/", b"Max-Forwards: 0"))
            assert b"\r\nMax-Forwards: 0\r\n" in (await read_response(reader))[1]
            writer.write(get(b"/", b"Max-Forwards: x", method=b"OPTIONS"))
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 400 ")
            assert len(rig.log) == 11 and sum(b" 200 " in line for line in rig.log) == 10

    run(test())


def test_trace_is_refused_unless_a_route_allows_it():
    async def test():
        sites = (Site(routes=(Route(), Route("/open", allow_trace=True))),)
        async with Rig(show, sites=sites) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get(b"/", method=b"TRACE"))
                head, _ = await read_response(reader)
                assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
                assert b"\r\nAllow: GET, HEAD, " in head and b"TRACE" not in head
            writer.write(get(b"/open", b"Max-Forwards: 3", method=b"TRACE"))
            seen = (await read_response(reader))[1]
            assert seen.startswith(b"TRACE /open ") and b"\r\nMax-Forwards: 2\r\n" in seen
            writer.write(get(b"/open", b"Max-Forwards: 0", b"Cookie: secret", method=b"TRACE"))
            head, seen = await read_response(reader)
            assert b"\r\nContent-Type: message/http\r\n" in head
            assert seen == b"TRACE /open HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n"

    run(test())


def test_trace_where_all_routes_allow_it():
    async def test():
        async with Rig(show, allow_trace=True) as rig:
            _, seen = await rig.ask(get(b"/", method=b"TRACE"))
            assert seen.startswith(b"TRACE / HTTP/1.1\r\nHost: h\r\n")

    run(test())


def asked(client: H2Client, method: str, *more: tuple[str, str]) -> tuple[str, bytes]:
    fields = [(":method", method), (":scheme", "https"), (":authority", "h"), (":path", "/3")]
    block = client.encoder.encode([*fields, *more])
    client.send(frames.headers(client.next_id, block, True))
    client.next_id += 2
    status = dict(client.decoder.decode(client.until(frames.HEADERS)[3]))[":status"]
    return status, client.until(frames.DATA)[3]


@pytest.mark.parametrize("options", [(), ("--allow-trace",)])
def test_http2(options):
    with running(*options) as proxy, H2Client(proxy.https) as client:
        for _ in range(2):
            assert asked(client, "OPTIONS", ("max-forwards", "0")) == ("200", b"")
            assert asked(client, "OPTIONS", ("max-forwards", "1")) == ("200", bytes(3))
        status, body = asked(client, "TRACE")
        assert (status, body == bytes(3)) == (("200", True) if options else ("405", False))
        if options:
            _, body = asked(client, "TRACE", ("max-forwards", "0"), ("cookie", "secret"))
            assert body == b"TRACE /3 HTTP/1.1\r\nHost: h\r\nmax-forwards: 0\r\n\r\n"
