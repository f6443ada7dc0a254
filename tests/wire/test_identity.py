"""What a client says of itself where it may not: twins, trailers, cookies, over both versions."""

import asyncio
import ipaddress

import pytest

from rawproxy.config.model import Edits, Route, Site
from rawproxy.protocol.http2 import frames
from rawproxy.protocol.proxy_header import AnnouncedAddresses as Ends
from rawproxy.protocol.proxy_header import write

from .h2raw import H2Client
from .rig import Rig, get, read_head, read_response, response, run
from .test_h2_front import whole
from .test_proxy_protocol import mirror, told

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
FORGED = {"x-user": "root", "X_User": "root", "x_request-id": "forged", "Content_Length": "9",
          "SSL_Client_Verify": "SUCCESS", "x_forwarded_for": "6.6.6.6", "Client-Cert": ":x:",
          "ssl-client-cert": "x"}  # fmt: skip


async def echo(reader, writer):
    """Answers with the whole request, its chunks and trailers as they came."""
    while True:
        raw = await read_head(reader)
        if b"\r\nTransfer-Encoding: chunked\r\n" in raw:
            body = await reader.readuntil(b"0\r\n")
            while not body.endswith(b"\r\n\r\n"):
                body += await reader.readuntil(b"\r\n")
            raw += body
        writer.write(response(raw))


async def ask_h1(rig, lines, trailers):
    reader, writer = await rig.client()
    fields = [f"{name}: {value}".encode() for name, value in lines.items()]
    if trailers:
        fields.append(b"Transfer-Encoding: chunked")
    writer.write(get(b"/", *fields, method=b"POST"))
    if trailers:
        tail = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
        writer.write(b"5\r\nhello\r\n0\r\n" + tail.encode() + b"\r\n")
    _, seen = await read_response(reader)
    writer.close()
    return seen


async def ask_h2(rig, lines, trailers):
    def low(fields):
        return [(name.lower(), value) for name, value in fields.items()]

    def work():
        with H2Client(rig.port) as client:
            client.send(client.headers("/", *low(lines), ended=not trailers))
            if trailers:
                client.send(frames.data(1, b"hello", False))
                client.send(frames.headers(1, client.encoder.encode(low(trailers)), True))
            return whole(client, 1)[1]

    return await asyncio.to_thread(work)


both = pytest.mark.parametrize("ask", [ask_h1, ask_h2])


def seen_by(ask, lines, trailers=None, script=echo, **options):
    async def test():
        async with Rig(script, True, **options) as rig:
            return await ask(rig, lines, trailers or {})

    return run(test())


@both
@pytest.mark.parametrize("mode", ["drop", "pass"])
def test_rule_41_underscores(ask, mode):
    edits = Edits(set=(("X-User", "alice"),))
    sites = (Site(routes=(Route(request_headers=edits),)),)
    seen = seen_by(
        ask, FORGED | {"My_Name": "1"}, sites=sites, underscores=mode, send_request_id=True
    ).lower()
    for forged in (b"root", b"forged", b"content_length", b"ssl", b"6.6.6.6", b"client-cert"):
        assert forged not in seen
    assert seen.count(b"\r\nx-user: alice\r\n") == seen.count(b"\r\nx-request-id: ") == 1
    assert (b"my_name: 1" in seen) is (mode == "pass")


@both
def test_trailers_are_dropped_unless_listed(ask):
    trailers = {"x-sum": "1", "x-user": "root", "x_user": "root", "ssl-client-verify": "SUCCESS",
                "proxy": "evil", "x_real_ip": "6.6.6.6"}  # fmt: skip
    seen = seen_by(ask, {}, trailers)
    assert seen.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    route = Route(
        request_trailers=("x-sum", "x-user", "x_user"),
        request_headers=Edits(set=(("X-User", "alice"),)),
    )
    seen = seen_by(ask, {}, trailers, sites=(Site(routes=(route,)),), underscores="pass")
    assert seen.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_trailers_of_responses_obey_the_rules_of_their_heads(version):
    async def script(reader, writer):
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\n\r\n2\r\nhi\r\n0\r\n"
            b"X-Sum: 1\r\nServer: secret\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nProxy-Authenticate: x\r\n"
            b"Proxy-Foo: x\r\nStrict-Transport-Security: max-age=0\r\nX-Powered: secret\r\n\r\n"
        )
        await reader.read()

    edits = Edits(("server",), (("X-Powered", "steam"),))
    sites = (Site(routes=(Route(response_headers=edits),)),)

    async def test():
        async with Rig(script, True, sites=sites) as rig:
            if version == "2":
                client = await asyncio.to_thread(H2Client, rig.port)
                client.send(client.headers())
                blocks, body, _ = await asyncio.to_thread(whole, client, 1)
                client.sock.close()
                assert (body, blocks[1]) == (b"hi", {"x-sum": "1"})
            else:
                reader, writer = await rig.client()
                writer.write(get())
                await read_head(reader)
                assert await reader.readuntil(b"\r\n\r\n") == b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"
                writer.close()

    run(test())


@both
def test_the_cookie_that_names_an_upstream_is_not_told_to_it(ask):
    lines = {"Cookie": "a=b; rawproxy=0123; c=d"}
    seen = seen_by(ask, lines, group={"policy": "cookie"})
    assert b"cookie: a=b; c=d\r\n" in seen.lower() and b"rawproxy=" not in seen
    seen = seen_by(ask, {"Cookie": "rawproxy=0123"}, group={"policy": "cookie"})
    assert b"cookie" not in seen.lower()
    assert b"rawproxy=0123" in seen_by(ask, lines)  # nobody's here


@both
def test_a_trusted_proxy_may_say_who_a_client_is(ask):
    lines = {"SSL-Client-Verify": "SUCCESS", "Client-Cert": ":x:", "SSL_Client_Verify": "NONE"}
    seen = seen_by(ask, lines, trusted_proxies=LOOPBACK).lower()
    assert seen.count(b"ssl-client-verify: success") == seen.count(b"client-cert: :x:") == 1
    assert b"ssl_client" not in seen


FORWARDING = [
    b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https", b"X-Real-IP: 6.6.6.6",
    b"Forwarded: for=6.6.6.6", b"SSL-Client-Verify: SUCCESS",
]  # fmt: skip
UNIX = b"\r\n\r\n\0\r\nQUIT\n\x21\x31" + (216).to_bytes(2, "big") + bytes(216)
UDP = b"\r\n\r\n\0\r\nQUIT\n\x21\x12" + (12).to_bytes(2, "big") + bytes(12)
LOCAL = write(2, None)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::1 1 2\r\n", LOCAL, UNIX, UDP]
)
def test_a_balancer_that_does_not_say_who_the_client_is(tls, header):
    """What stands behind such a header is nobody's whom we trust."""

    async def test():
        options = {"accept_proxy": True, "trusted_proxies": LOOPBACK, "send_real_ip": True}
        async with Rig(mirror, tls, **options) as rig:
            seen = await told(rig, header, request=get(b"/", *FORWARDING))
            assert b"6.6.6.6" not in seen and b"SUCCESS" not in seen
            assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in seen
            assert b"\r\nX-Real-IP: 127.0.0.1\r\n" in seen
            assert b"\r\nX-Forwarded-Proto: http%b\r\n" % (b"s" if tls else b"") in seen
            # One that does say it, and names a proxy we trust, is believed as ever.
            named = write(1, Ends("127.0.0.9", 1, "127.0.0.1", 2))
            seen = await told(rig, named, request=get(b"/", *FORWARDING))
            assert b"\r\nX-Forwarded-For: 6.6.6.6, 127.0.0.9\r\n" in seen
        assert rig.log[0].startswith(b"127.0.0.1 ")

    run(test())


@pytest.mark.parametrize("trust_unix", [False, True])
@pytest.mark.parametrize("header", [b"", write(1, Ends("192.0.2.7", 1, "192.0.2.1", 2))])
def test_the_peer_of_a_unix_socket(tmp_path, trust_unix, header):
    """It has no address; `--trusted-proxy unix:` says that it is a proxy of ours."""

    async def test():
        options = {"trust_unix": trust_unix, "accept_proxy": bool(header) and trust_unix}
        async with Rig(mirror, listen=str(tmp_path / "s"), **options):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(header + get(b"/", *FORWARDING))
            head, seen = await read_response(reader)
            writer.close()
            if header:
                if not trust_unix:
                    assert head.startswith(b"HTTP/1.1 400 ")
                else:
                    assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in seen
            elif trust_unix:
                assert b"\r\nX-Forwarded-For: 6.6.6.6\r\n" in seen
                assert b"\r\nX-Forwarded-Proto: https\r\n" in seen
                assert b"\r\nForwarded: for=6.6.6.6;proto=https;" in seen
            else:
                assert b"6.6.6.6" not in seen
                assert b"\r\nX-Forwarded-For: unix:\r\n" in seen

    run(test())
