"""Clients that come to the wrong door: unknown names and protocols on both kinds of port."""

import asyncio
import contextlib
import socket
import ssl
import threading

import pytest

from rawproxy.config.model import Upstream
from rawproxy.protocol.http2 import frames
from tests.process import PATIENCE, RawProxy, free_port

from .rig import CA, LEAF, Rig, always, get, read_response, response, run

OK = always(response(b"ok"))


def status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


async def handshake(rig: Rig, name: str | None, *alpn: str):
    """A TLS connection: reader, writer, and the protocol that was agreed on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.port, ssl=context, server_hostname=name
    )
    rig._writers.append(writer)
    return reader, writer, writer.get_extra_info("ssl_object").selected_alpn_protocol()


async def said(rig: Rig, sent: bytes) -> bytes:
    """All that comes back over TCP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(sent)
    got = b""
    with contextlib.suppress(ConnectionError):
        got = await reader.read()
    writer.close()
    return got


@pytest.mark.parametrize("alpn", [(), ("nothing/9",), ("h3", "http/1.1"), ("http/1.0",)])
def test_without_a_protocol_in_common_it_is_http_1_1(alpn):
    async def test():
        async with Rig(OK, True) as rig:
            reader, writer, agreed = await handshake(rig, "localhost", *alpn)
            assert agreed == ("http/1.1" if "http/1.1" in alpn else None)
            writer.write(get())
            head, body = await read_response(reader)
            assert (status(head), body) == (200, b"ok")

    run(test())


@pytest.mark.parametrize("name", ["localhost", "unknown.test", None])
def test_the_host_is_judged_whatever_sni_said(name):
    async def test():
        async with Rig(OK, True, server_names=("site.test",)) as rig:
            reader, writer, _ = await handshake(rig, name)
            for host, expected in (
                (b"site.test", 200),
                (b"unknown.test", 421),
                (b"localhost", 421),
            ):
                writer.write(get().replace(b"Host: h", b"Host: " + host))
                assert status((await read_response(reader))[0]) == expected

    run(test())


def test_an_http_2_preface_without_alpn_is_no_request():
    async def test():
        async with Rig(OK, True, deadlines={"linger": 0.1}) as rig:
            reader, writer, _ = await handshake(rig, "localhost")
            writer.write(frames.PREFACE + frames.settings({}))
            head, _ = await read_response(reader)
            assert status(head) == 505
            assert await reader.read() == b""
            assert rig.connections == 0

    run(test())


@pytest.mark.parametrize("sent", [get(), frames.PREFACE, b"OPTIONS * HTTP/1.1\r\n\r\n", b"get"])
def test_plain_http_on_the_tls_port_is_400_in_plain_text(sent):
    async def test():
        async with Rig(OK, True) as rig:
            answer = await said(rig, sent)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain")
            assert b"https://" in answer
            assert b"Connection: close" in answer
            assert rig.connections == 0

    run(test())


def test_tls_on_the_plain_port_is_400():
    async def test():
        async with Rig(OK) as rig:
            hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(200)
            assert (await said(rig, hello)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
            with pytest.raises(ssl.SSLError):
                await handshake(rig, "localhost")
            assert rig.connections == 0

    run(test())


def mutual(version: ssl.TLSVersion):
    """An upstream that asks for a certificate, for one connection; unlike asyncio's it says why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    LEAF.configure_cert(context)
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        with (
            context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls,
            contextlib.suppress(OSError),
        ):
            with contextlib.suppress(ssl.SSLError):
                tls.do_handshake()
            # Unread bytes would make of the close a reset, which may overtake the alert.
            socket.socket.recv(tls, 65536)

    return listener, threading.Thread(target=serve)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_upstream_that_asks_for_a_client_certificate_is_told_apart(version):
    """In TLS 1.3 it says so only when the handshake is over for us."""
    listener, thread = mutual(version)
    thread.start()

    async def test():
        port = listener.getsockname()[1]
        upstream = Upstream(f"https://127.0.0.1:{port}", tls=True, host="127.0.0.1", port=port)
        async with Rig(OK, True, upstreams=[upstream]) as rig:
            head, _ = await rig.ask(get())
            assert status(head) == 502
            assert any("client certificate" in line for line in rig.problems), rig.problems

    run(test())
    thread.join()
    listener.close()


@pytest.mark.parametrize("name", ["unknown.test", "z.y.example.test", None])
def test_with_strict_sni_an_unknown_name_ends_the_handshake(name):
    async def test():
        async with Rig(OK, True, strict_sni=True) as rig:
            with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
                await handshake(rig, name)
            reader, writer, _ = await handshake(rig, "a.example.test")
            writer.write(get())
            assert status((await read_response(reader))[0]) == 200
            assert rig.connections == 1

    run(test())


def test_a_server_name_that_is_not_ascii_is_no_news(tmp_path):
    """CPython would print a traceback, as it fails to decode the name for `sni_callback`."""
    with contextlib.ExitStack() as stack:
        pem = stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
        port = free_port()
        options = f"--upstream http://127.0.0.1:9 --https 127.0.0.1:{port} --cert {pem} --key {pem}"
        proxy = stack.enter_context(RawProxy(*options.split(), "--strict-sni", https=False))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="name.test")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read().replace(b"name.test", b"n\xe4me.test")
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(hello)
            answer = sock.recv(65536)
        assert answer[:1] == b"\x15", "a TLS alert"
    err = proxy.err()
    assert "Traceback" not in err and "UnicodeDecodeError" not in err, err
