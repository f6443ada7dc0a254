"""nginx behind, curl in front: the page's own pieces."""

import asyncio
import contextlib
import gzip
import hashlib
import os
import pathlib
import ssl
import subprocess

import pytest
import trustme

from tests.process import CA, LEAF, Program, RawProxy, free_port, needs, wait_for_port

pytestmark = [needs("nginx", "nginx-light"), needs("curl")]

CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 0; large_client_header_buffers 4 64k;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl; listen unix:{folder}/sock;
    ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.2 TLSv1.3;
    default_type text/plain;
    location / {{ return 200 "$server_protocol|$http_host|$http_x_forwarded_for|$http_x_forwarded_proto|$http_x_forwarded_host|$connection|$connection_requests|$http_connection|$ssl_protocol|$ssl_server_name|$request_uri"; }}
    location /none {{ return 204; }}
    location /file {{ root {folder}; }}
    location /page {{ alias {folder}/page; default_type text/html; gzip on; gzip_http_version 1.1; }}
    location /missing {{ return 404; }}
  }}
}}
"""
NAMES = "protocol host for proto forwarded_host connection requests hop tls sni uri".split()
OWN_CA = trustme.CA()
SELF = OWN_CA.issue_cert("localhost", "127.0.0.1")


class Nginx(Program):
    def __init__(
        self, folder: pathlib.Path, leaf=SELF, ports: tuple[int, int] | None = None
    ) -> None:
        self.plain, self.tls = ports or (free_port(), free_port())
        pem = folder / "nginx.pem"
        leaf.private_key_and_cert_chain_pem.write_to_path(str(pem))
        conf = folder / "nginx.conf"
        conf.write_text(CONFIG.format(folder=folder, plain=self.plain, tls=self.tls, pem=pem))
        self.sock = folder / "sock"
        self.sock.unlink(missing_ok=True)
        environment = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin"}
        super().__init__(["nginx", "-p", str(folder), "-c", str(conf)], env=environment)
        wait_for_port(self.tls, self.process)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "file").write_bytes(os.urandom(5_000_000))
    server = Nginx(folder)
    server.file = folder / "file"
    (folder / "page").write_bytes(b"a page " * 1000)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(nginx):
    with RawProxy("--upstream", f"localhost:{nginx.tls}") as running:
        yield running


SPOKEN = "--http1.1"  # what curl speaks to rawproxy; the fixture below goes through both


@pytest.fixture(params=["--http1.1", "--http2"])
def version(request):
    """The version of HTTP towards the client, as its status line has it."""
    global SPOKEN
    SPOKEN = request.param
    yield {"--http1.1": "HTTP/1.1", "--http2": "HTTP/2"}[SPOKEN]
    SPOKEN = "--http1.1"


def curl(*arguments: str, data: bytes | None = None) -> subprocess.CompletedProcess:
    command = ["curl", SPOKEN, "--silent", "--show-error", "--max-time", "20", "--insecure"]
    command += arguments
    return subprocess.run(command, capture_output=True, input=data, check=False)


def seen(done: subprocess.CompletedProcess) -> dict[str, str]:
    """What the upstream said it saw."""
    assert done.returncode == 0, done.stderr
    return dict(zip(NAMES, done.stdout.decode().split("|"), strict=True))


def code(*arguments: str, data: bytes | None = None) -> int:
    done = curl("--output", "/dev/null", "--write-out", "%{http_code}", *arguments, data=data)
    return int(done.stdout or 0)


def test_what_the_upstream_sees(nginx, proxy, version):
    url = f"https://localhost:{proxy.https}"
    spoof = [
        "-H",
        "X-Forwarded-For: 6.6.6.6",
        "-H",
        "X-Forwarded-Proto: http",
        "-H",
        "X-Forwarded-Host: evil",
    ]
    first = seen(curl("-4", *spoof, url + "/a//b?c=%20d"))
    assert first["protocol"] == "HTTP/1.1"
    assert first["host"] == first["forwarded_host"] == f"localhost:{proxy.https}"
    assert (first["for"], first["proto"], first["hop"]) == ("127.0.0.1", "https", "")
    assert (first["tls"], first["sni"]) == ("TLSv1.3", "localhost")
    assert first["uri"] == "/a//b?c=%20d"
    second = seen(curl("-6", "-H", "Host: sso.domain.tld", url))
    assert (second["host"], second["for"]) == ("sso.domain.tld", "::1")
    assert second["connection"] == first["connection"], "the upstream connection is kept"
    assert int(second["requests"]) == int(first["requests"]) + 1


def test_the_warning_of_a_self_signed_certificate_names_it_and_the_way_to_more(nginx, proxy):
    assert code(f"https://localhost:{proxy.https}/") == 200
    pin = hashlib.sha256(
        ssl.PEM_cert_to_DER_cert(SELF.cert_chain_pems[0].bytes().decode())
    ).hexdigest()
    proxy.says(rf"WARNING .*SHA-256 {pin}.*--upstream-verify pin")


def test_statuses_and_headers(proxy, version):
    url = f"https://localhost:{proxy.https}"
    for path, status in (("/", 200), ("/none", 204), ("/missing", 404)):
        done = curl("--include", url + path)
        head = done.stdout.decode().lower()
        assert head.startswith(f"{version.lower()} {status}")
        assert head.count("strict-transport-security: max-age=63072000\r\n") == 1
    assert "content-length" in curl("--head", url + "/").stdout.decode().lower()
    redirect = curl("--include", f"http://localhost:{proxy.http}/x?y").stdout.decode()
    assert redirect.startswith("HTTP/1.1 301")
    assert f"Location: https://localhost:{proxy.https}/x?y\r\n" in redirect
    assert "strict-transport-security" not in redirect.lower()


def test_bodies(nginx, proxy, version):
    url = f"https://localhost:{proxy.https}"
    expected = nginx.file.read_bytes()
    assert curl(url + "/file").stdout == expected
    assert curl("--http1.0", url + "/file").stdout == expected
    assert curl("--range", "100-199", url + "/file").stdout == expected[100:200]
    if version == "HTTP/2":  # curl 7 hangs when an answer overtakes its upload, behind nginx too
        return
    big = os.urandom(3_000_000)
    for options in (
        ["-T", "-"],
        ["--data-binary", "@-"],
        ["--data-binary", "@-", "-H", "Expect: 100-continue"],
    ):
        assert code(*options, url + "/", data=big) in (200, 405)


def test_tls_1_2_is_refused(proxy):
    url = f"https://localhost:{proxy.https}/"
    assert curl("--tls-max", "1.2", url).returncode == 35
    assert code("--tlsv1.3", url) == 200


def test_large_heads(proxy):
    url = f"https://localhost:{proxy.https}/"
    assert code("-H", "X-Big: " + "a" * 30_000, url) == 200
    assert code("-H", "X-Big: " + "a" * 70_000, url) == 431
    assert code(url + "a" * 20_000) == 414


@pytest.mark.parametrize(
    ("options", "chain"),
    [
        ([], "127.0.0.1"),
        (["--forwarded", "append"], "1.1.1.1, 127.0.0.1"),
        (["--trusted-proxy", "127.0.0.0/8"], "1.1.1.1, 127.0.0.1"),
    ],
)
def test_forwarding(nginx, options, chain):
    with RawProxy(
        "--upstream", f"http://127.0.0.1:{nginx.plain}", "--no-redirect", *options
    ) as proxy:
        facts = seen(
            curl(
                "-4",
                "-H",
                "X-Forwarded-For: 1.1.1.1",
                "-H",
                "X-Forwarded-Proto: https",
                f"http://127.0.0.1:{proxy.http}/",
            )
        )
        assert facts["for"] == chain
        assert facts["proto"] == ("https" if "--trusted-proxy" in options else "http")


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--upstream-verify", "off"], 200, ""),
        (["--upstream-verify", "system"], 502, "does not verify"),
        (["--upstream-verify", "{ca}"], 200, ""),
        (["--upstream-pin", "{pin}"], 200, ""),
        (["--upstream-pin", "ab" * 32], 502, "is not one of --upstream-pin"),
        (["--upstream-name", "other.name", "--upstream-verify", "{ca}"], 502, "does not verify"),
    ],
)
def test_verification(nginx, tmp_path, options, status, words):
    ca = tmp_path / "ca.pem"
    OWN_CA.cert_pem.write_to_path(str(ca))
    pin = hashlib.sha256(
        ssl.PEM_cert_to_DER_cert(SELF.cert_chain_pems[0].bytes().decode())
    ).hexdigest()
    options = [option.format(ca=ca, pin=pin) for option in options]
    with RawProxy("--upstream", f"localhost:{nginx.tls}", *options) as proxy:
        assert code(f"https://localhost:{proxy.https}/") == status
        proxy.says(words)


def test_a_changed_certificate_is_accepted_on_loopback(tmp_path):
    server = Nginx(tmp_path)
    with RawProxy("--upstream", f"localhost:{server.tls}") as proxy:
        url = f"https://localhost:{proxy.https}/"
        assert code(url) == 200
        server.stop()
        server = Nginx(tmp_path, OWN_CA.issue_cert("localhost"), (server.plain, server.tls))
        assert code(url) == 200
        proxy.says("WARNING .*certificate of .* changed from")
    server.stop()


def test_a_changed_certificate_is_refused(tmp_path):
    server = Nginx(tmp_path)
    with RawProxy("--upstream", f"localhost:{server.tls}", "--upstream-verify", "pin") as proxy:
        url = f"https://localhost:{proxy.https}/"
        assert code(url) == 200
        server.stop()
        server = Nginx(tmp_path, OWN_CA.issue_cert("localhost"), (server.plain, server.tls))
        done = curl("--include", url).stdout.decode()
        assert done.startswith("HTTP/1.1 502")
        assert "Strict-Transport-Security: max-age=63072000\r\n" in done
        proxy.says(" 502 .*certificate changed from")
    server.stop()


def test_wrong_upstreams_say_so(nginx):
    with RawProxy("--upstream", f"localhost:{nginx.plain}") as proxy:
        assert code(f"https://localhost:{proxy.https}/") == 502
        proxy.says(
            f"speaks plain HTTP on that port; use --upstream http://localhost:{nginx.plain}\\b"
        )
    with RawProxy("--upstream", f"http://localhost:{nginx.tls}") as proxy:
        assert code(f"https://localhost:{proxy.https}/") in (400, 502)
    with RawProxy(
        "--upstream", f"http://localhost:{free_port()}", "--server-name", "localhost"
    ) as proxy:
        assert code(f"https://localhost:{proxy.https}/") == 502
        done = curl(
            "--include",
            "-H",
            "Host: other",
            "-H",
            "Accept: application/json",
            f"https://localhost:{proxy.https}/",
        )
        assert done.stdout.startswith(b"HTTP/1.1 421")
        assert b"Strict-Transport-Security" in done.stdout
        assert b'"request_id"' in done.stdout


def test_a_unix_upstream(nginx):
    with RawProxy("--upstream", f"unix:{nginx.sock}") as proxy:
        assert seen(curl(f"https://localhost:{proxy.https}/x"))["uri"] == "/x"


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_server_sent_events_arrive_unbuffered(tls):
    """The next event is sent only once the client has told that it has the one before."""

    async def test():
        acknowledged: asyncio.Queue[int] = asyncio.Queue()

        async def upstream(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            for number in range(200):
                writer.write(b"data: %d\n\n" % number)
                assert await acknowledged.get() == number
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        LEAF.configure_cert(context)
        server = await asyncio.start_server(upstream, "127.0.0.1", 0, ssl=context if tls else None)
        scheme = "https" if tls else "http"
        url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"
        proxy = await asyncio.to_thread(RawProxy, "--upstream", url, "--no-redirect")
        with proxy:
            trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            CA.configure_trust(trusting)
            port = proxy.https if tls else proxy.http
            reader, writer = await asyncio.open_connection(
                "localhost", port, ssl=trusting if tls else None
            )
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            for number in range(200):
                await reader.readuntil(b"data: %d\n\n" % number)
                acknowledged.put_nowait(number)
            assert await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        server.close()

    asyncio.run(asyncio.wait_for(test(), 30))


def test_the_upstream_compresses_unless_there_is_a_via(nginx, version):
    """nginx compresses nothing for a request with Via unless it is told to (gzip_proxied)."""
    for options, compresses in (((), True), (("--send-via",), False)):
        with RawProxy("--upstream", f"localhost:{nginx.tls}", *options) as proxy:
            ask = ["--dump-header", "-", "-H", "Accept-Encoding: gzip"]
            done = curl(*ask, f"https://localhost:{proxy.https}/page")
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            assert (b"content-encoding: gzip" in head.lower()) is compresses
            assert (gzip.decompress(body) if compresses else body) == b"a page " * 1000
