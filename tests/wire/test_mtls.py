"""Client certificates: towards us, over HTTP/1.1 and HTTP/2, and ours towards the upstream."""

import asyncio
import ssl

import pytest
import trustme

from rawproxy.config.model import Certificate, Site

from .h2raw import H2Client
from .rig import CA, LEAF, LOOPS, Rig, always, read_response, response, run
from .test_sites import Http2, mirror

CLIENT_CA = trustme.CA()
CLIENT = CLIENT_CA.issue_cert("alice@example.test", common_name="alice")
STRANGER = trustme.CA().issue_cert("mallory@example.test")


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    path = tmp_path_factory.mktemp("mtls") / "ca.pem"
    CLIENT_CA.cert_pem.write_to_path(str(path))
    return str(path)


async def ask(rig, name, certificate=None, lines=(), alpn="http/1.1", host=None, session=None):
    """One request over a connection of its own: status, and the head that the upstream saw."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    host = host or name
    if alpn == "h2":

        def work():
            with H2Client.over(rig.port, context, name) as client:
                connection = Http2(rig)
                connection.client = client
                status, _, seen = connection._ask(host, "/", "GET", b"", lines)
                return status, seen

        return await asyncio.to_thread(work)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.port, ssl=context, server_hostname=name
    )
    try:
        extra = "".join(f"{field}: {value}\r\n" for field, value in lines)
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode())
        head, body = await read_response(reader)
        return int(head[9:12]), body
    finally:
        writer.close()


FORGED = [
    ("ssl-client-verify", "SUCCESS"),
    ("SSL_Client_Subject_DN", "CN=root"),
    ("x-ssl-client-cert", "x"),
    ("X_SSL-Client_S_DN", "CN=root"),
]
both = pytest.mark.parametrize("alpn", ["http/1.1", "h2"])


def lower(fields):
    return [(name.lower(), value) for name, value in fields]


@both
@pytest.mark.parametrize("loop", LOOPS)
def test_the_upstream_learns_who_the_client_is(ca, alpn, loop):
    async def test():
        sites = (Site(client_ca=ca, client_verify="require"),)
        async with Rig(mirror, True, sites=sites) as rig:
            status, seen = await ask(rig, "localhost", CLIENT, lower(FORGED), alpn)
            assert status == 200
            assert seen.count(b"SSL-Client-Verify: SUCCESS\r\n") == 1
            assert b"\r\nSSL-Client-Subject-DN: CN=alice," in seen
            assert b"\r\nSSL-Client-Cert: -----BEGIN%20CERTIFICATE-----%0A" in seen
            low = seen.lower()
            assert b"root" not in low and b"x-ssl" not in low and b"ssl_client" not in low
            assert low.count(b"ssl-client-") == 6

    run(test(), loop)


@both
def test_without_a_good_certificate_nobody_gets_in(ca, alpn):
    async def test():
        sites = (Site(client_ca=ca, client_verify="require"),)
        async with Rig(mirror, True, sites=sites) as rig:
            for bad in (None, STRANGER):
                with pytest.raises((OSError, EOFError, ValueError)):
                    await ask(rig, "localhost", bad, alpn=alpn)
            assert rig.connections == 0

    run(test())


@both
def test_an_optional_certificate(ca, alpn):
    async def test():
        sites = (Site(client_ca=ca, client_verify="optional"),)
        async with Rig(mirror, True, sites=sites) as rig:
            status, seen = await ask(rig, "localhost", None, lower(FORGED), alpn)
            assert status == 200
            assert seen.lower().count(b"ssl-client-") == 1
            assert b"\r\nSSL-Client-Verify: NONE\r\n" in seen
            status, seen = await ask(rig, "localhost", CLIENT, (), alpn)
            assert b"\r\nSSL-Client-Verify: SUCCESS\r\n" in seen
            with pytest.raises((OSError, EOFError, ValueError)):
                await ask(rig, "localhost", STRANGER, alpn=alpn)

    run(test())


@both
@pytest.mark.parametrize("loop", LOOPS)
def test_sites_ask_each_for_its_own(ca, alpn, loop):
    async def test():
        sites = (
            Site(("open.example.test",)),
            Site(("closed.example.test",), client_ca=ca, client_verify="require"),
        )
        async with Rig(mirror, True, sites=sites) as rig:
            status, seen = await ask(rig, "open.example.test", None, lower(FORGED), alpn)
            assert status == 200 and b"\r\nSSL-Client-Verify: NONE\r\n" in seen
            status, seen = await ask(rig, "closed.example.test", CLIENT, (), alpn)
            assert status == 200 and b"\r\nSSL-Client-Verify: SUCCESS\r\n" in seen
            with pytest.raises((OSError, EOFError, ValueError)):
                await ask(rig, "closed.example.test", None, (), alpn)
            # The name in the handshake is not the name in the request.
            for certificate, name, host in (
                (None, "open.example.test", "closed.example.test"),
                (CLIENT, "closed.example.test", "open.example.test"),
            ):
                status, _ = await ask(rig, name, certificate, (), alpn, host)
                assert status == 421

    run(test(), loop)


def test_a_client_hello_in_pieces(ca):
    async def test():
        sites = (
            Site(("open.example.test",)),
            Site(("closed.example.test",), client_ca=ca, client_verify="require"),
        )
        async with Rig(mirror, True, sites=sites) as rig:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            CA.configure_trust(context)
            CLIENT.configure_cert(context)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="closed.example.test")
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            hello = outgoing.read()
            for at in range(0, len(hello), 100):
                writer.write(hello[at : at + 100])
                await asyncio.sleep(0)
                while at + 100 < len(hello) and not rig.service.clients:
                    await asyncio.sleep(0.001)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))
            tls.write(b"GET / HTTP/1.1\r\nHost: closed.example.test\r\n\r\n")
            writer.write(outgoing.read())
            answer = b""
            while b"SSL-Client-Verify: SUCCESS" not in answer:
                incoming.write(await reader.read(65536))
                try:
                    answer += tls.read(65536)
                except ssl.SSLWantReadError:
                    continue
            writer.close()

    run(test())


def test_a_client_hello_that_breaks_off(ca):
    async def test():
        sites = (Site(("a.test",)), Site(("b.test",), client_ca=ca, client_verify="require"))
        async with Rig(mirror, True, sites=sites) as rig:
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(b"\x16\x03\x01\x02\x00half")
            while not rig.service.clients:
                await asyncio.sleep(0.001)
            writer.write_eof()
            await reader.read()
            writer.close()

    run(test())


def test_plain_listeners_know_nobody(ca):
    async def test():
        sites = (
            Site(("open.test",)),
            Site(("maybe.test",), client_ca=ca, client_verify="optional"),
            Site(("closed.test",), client_ca=ca, client_verify="require"),
        )
        async with Rig(mirror, sites=sites) as rig:
            for host, status in ((b"open", b"200"), (b"maybe", b"200"), (b"closed", b"421")):
                request = b"GET / HTTP/1.1\r\nHost: %b.test\r\nSSL-Client-Verify: SUCCESS\r\n\r\n"
                head, body = await rig.ask(request % host)
                assert head[9:12] == status
                if status == b"200":
                    assert body.count(b"SSL-Client-") == 1 and b"Verify: NONE\r\n" in body

    run(test())


def test_no_session_lets_anybody_in_again(ca):
    async def test():
        sites = (Site(client_ca=ca, client_verify="require"),)
        async with Rig(mirror, True, sites=sites) as rig:

            def work():
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                CA.configure_trust(context)
                CLIENT.configure_cert(context)
                with H2Client.over(rig.port, context, "localhost") as client:
                    assert client.get()[0] == 200
                    session = client.sock.session
                assert session is None or not session.has_ticket

            await asyncio.to_thread(work)

    run(test())


# ── towards the upstream ────────────────────────────────────────────────────────────────────────


def picky() -> ssl.SSLContext:
    """An upstream's context that wants to know who comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    LEAF.configure_cert(context)
    CLIENT_CA.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("verify", ["file", "off", "auto"])
def test_our_own_certificate_towards_the_upstream(tmp_path, verify):
    cert, key = tmp_path / "c.pem", tmp_path / "c.key"
    CLIENT.cert_chain_pems[0].write_to_path(str(cert))
    CLIENT.private_key_pem.write_to_path(str(key))
    pair = Certificate(str(cert), str(key))

    async def test():
        options = {} if verify == "file" else {"upstream_verify": verify}
        rig = Rig(always(response(b"ok")), True, upstream_cert=pair, **options)
        rig.upstream_context = picky()
        async with rig:
            head, body = await rig.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (head[9:12], body) == (b"200", b"ok")

    run(test())


def test_an_upstream_that_wants_one_and_gets_none():
    async def test():
        rig = Rig(always(response(b"ok")), True)
        rig.upstream_context = picky()
        async with rig:
            head, _ = await rig.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert head[9:12] == b"502"

    run(test())
