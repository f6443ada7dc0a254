"""Rule 48: other upgrades than WebSocket are tunnels where they are listed, h2c never."""

import asyncio

import pytest

from rawproxy.config.model import Route, Site
from rawproxy.protocol.http2 import frames

from .rig import Rig, get, read_head, read_response, response, run
from .test_sites import Http2

UPGRADE = b"Connection: Upgrade"


def granting(token: bytes, seen: list[bytes]):
    """An upstream that reads the request, its body too, switches, and echoes."""

    async def script(reader, writer):
        head = await read_head(reader)
        if b"\r\nTransfer-Encoding: chunked\r\n" in head:
            head += await reader.readuntil(b"0\r\n\r\n")
        elif b"\r\nContent-Length: 5\r\n" in head:
            head += await reader.readexactly(5)
        seen.append(head)
        if b"\r\nUpgrade: " not in head:
            writer.write(response(b"plain"))
            await reader.read()
        writer.write(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\nfirst " % token)
        while data := await reader.read(100):
            writer.write(data)

    return script


ASKS = [
    (b"POST", b"tailscale-control-protocol", (b"X-Handshake: x",), b"", b""),
    (b"POST", b"TCP", (b"Content-Length: 5",), b"hello", b"hello"),
    (b"POST", b"tcp", (b"Transfer-Encoding: chunked",), b"5\r\nhello\r\n0\r\n\r\n",
     b"5\r\nhello\r\n0\r\n\r\n"),
    (b"GET", b"foo, spdy/3.1", (), b"", b""),
]  # fmt: skip
LISTED = ("websocket", "tailscale-control-protocol", "tcp", "SPDY/3.1")


@pytest.mark.parametrize(("method", "token", "lines", "body", "whole"), ASKS)
@pytest.mark.parametrize("route", [False, True])
def test_what_is_listed_is_a_tunnel(method, token, lines, body, whole, route):
    async def test():
        seen: list[bytes] = []
        sites = (Site(routes=(Route(upgrades=LISTED),)),) if route else (Site(),)
        options = {} if route else {"upgrades": LISTED}
        granted = token.rpartition(b" ")[2]
        async with Rig(granting(granted, seen), sites=sites, **options) as rig:
            reader, writer = await rig.client()
            ask = get(b"/", UPGRADE, b"Upgrade: " + token, *lines, method=method)
            writer.write(ask + body + b"early ")
            head = await read_head(reader)
            assert head.startswith(b"HTTP/1.1 101 S\r\n")
            assert b"\r\nConnection: Upgrade\r\nUpgrade: " in head
            assert granted.lower() in head.lower()
            assert await reader.readexactly(12) == b"first early "
            writer.write(b"late")
            assert await reader.readexactly(4) == b"late"
            assert rig.service.counters.tunnels == 1
            writer.close()
        assert seen[0].startswith(method + b" / HTTP/1.1\r\n") and seen[0].endswith(
            b"\r\n\r\n" + whole
        )
        assert seen[0].lower().count(b"\r\nupgrade: " + granted.lower() + b"\r\n") == 1

    run(test())


@pytest.mark.parametrize("token", [b"tcp", b"h2c", b"websocket", b"HTTP/2.0", b""])
@pytest.mark.parametrize("listed", [("tailscale-control-protocol",), ()])
def test_what_is_not_listed_goes_on_as_a_plain_request(token, listed):
    async def test():
        seen: list[bytes] = []
        async with Rig(granting(token, seen), upgrades=listed) as rig:
            lines = (UPGRADE, b"Upgrade: " + token, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
            _, body = await rig.ask(get(b"/", *lines))
            assert body == b"plain"
        assert b"pgrade" not in seen[0]

    run(test())


def test_a_switch_before_the_body_has_ended_is_none():
    async def test():
        async def script(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            await reader.read()

        async with Rig(script, upgrades=("tcp",)) as rig:
            reader, writer = await rig.client()
            lines = (UPGRADE, b"Upgrade: tcp", b"Content-Length: 5")
            writer.write(get(b"/", *lines, method=b"POST") + b"hel")
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 502 ")
            writer.close()
            assert any("before the request had come to its end" in one for one in rig.problems)

    run(test())


@pytest.mark.parametrize("token", [b"", b"websocket", b"tcp, tcp"])
def test_a_switch_to_something_else_is_none(token):
    async def test():
        async with Rig(granting(token, []), upgrades=("tcp",)) as rig:
            head, _ = await rig.ask(get(b"/", UPGRADE, b"Upgrade: tcp"))
            assert head.startswith(b"HTTP/1.1 502 ")

    run(test())


def test_no_farewell_is_said_where_no_frames_are_known():
    async def test():
        async with Rig(granting(b"tcp", []), upgrades=("tcp",), deadlines={"drain": 0.5}) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", UPGRADE, b"Upgrade: tcp"))
            await read_head(reader)
            assert await reader.readexactly(6) == b"first "
            rig.service.drain()
            await asyncio.sleep(0.3)
            writer.write(b"on")
            assert await reader.readexactly(2) == b"on"
            writer.close()

    run(test())


def test_over_http_2_a_route_may_take_no_websockets():
    async def test():
        async with Rig(granting(b"", []), True, upgrades=("tcp",)) as rig, Http2(rig) as one:
            more = [(":protocol", "websocket")]

            def ask():
                block = one.client.encoder.encode(
                    [(":method", "CONNECT"), (":scheme", "https"), (":authority", "h"),
                     (":path", "/"), *more]
                )  # fmt: skip
                one.client.send(frames.headers(1, block, False))
                *_, payload = one.client.until(frames.HEADERS)
                return dict(one.client.decoder.decode(payload))[":status"]

            assert await asyncio.to_thread(ask) == "501"
            assert rig.connections == 0

    run(test())
