"""Request ids, trace context, log formats and counts, on the wire."""

import asyncio
import contextlib
import ipaddress
import json
import re
import signal
import time

import pytest

from rawproxy.config.model import Address, Upstream, single
from rawproxy.process.server import open_server
from rawproxy.protocol.http.rewrite import context
from rawproxy.protocol.http1.parser import parse_request
from tests.process import PATIENCE, RawProxy
from tests.wire.rig import Rig, always, get, read_head, read_response, response, run

TRUSTED = (ipaddress.ip_network("127.0.0.0/8"),)
ADMIN = Address("127.0.0.1", 0)


def seen(script_heads: list[bytes], answer: bytes = b""):
    """An upstream that keeps the heads it gets."""

    async def script(reader, writer):
        while True:
            script_heads.append(await read_head(reader))
            writer.write(answer or response(b"hello"))

    return script


def values(head: bytes, name: bytes) -> list[bytes]:
    return re.findall(rb"(?im)^" + name + rb": ([^\r]*)\r$", head)


def test_every_request_gets_an_id_of_its_own_and_a_forged_one_is_dropped():
    async def main():
        heads: list[bytes] = []
        async with Rig(seen(heads), send_request_id=True, log_format="json") as rig:
            reader, writer = await rig.client()
            for _ in range(3):  # the same head each time, which the front remembers
                writer.write(get(b"/", b"X-Request-ID: forged"))
                await read_response(reader)
            writer.close()
        ids = [values(head, b"x-request-id") for head in heads]
        assert all(len(one) == 1 and re.fullmatch(rb"[0-9a-f]{32}", one[0]) for one in ids)
        assert len({one[0] for one in ids}) == 3
        assert [json.loads(line)["id"].encode() for line in rig.log] == [one[0] for one in ids]

    run(main())


@pytest.mark.parametrize("tls", [False, True])
def test_a_trusted_peers_id_is_kept_and_logged(tls):
    async def main():
        heads: list[bytes] = []
        options = {"trusted_proxies": TRUSTED, "send_request_id": True, "log_format": "json"}
        async with Rig(seen(heads), tls, **options) as rig:
            await rig.ask(get(b"/", b"X-Request-ID: abc-1"))
        assert values(heads[0], b"x-request-id") == [b"abc-1"]
        line = json.loads(rig.log[0])
        assert (line["id"], line["tls"]) == ("abc-1", "TLSv1.3" if tls else "")
        assert 0 < line["connect_us"] <= line["first_us"] <= line["total_us"]
        assert (line["upstream"], line["bytes_out"]) == ("http://upstream", 5)

    run(main())


def test_without_the_option_the_header_passes():
    async def main():
        heads: list[bytes] = []
        async with Rig(seen(heads)) as rig:
            await rig.ask(get(b"/", b"X-Request-ID: mine", b"Traceparent: whatever"))
        assert values(heads[0], b"x-request-id") == [b"mine"]
        assert values(heads[0], b"traceparent") == [b"whatever"]

    run(main())


def test_a_trace_begins_where_there_is_none():
    async def main():
        heads: list[bytes] = []
        parent = b"00-%b-%b-01" % (b"a" * 32, b"b" * 16)
        async with Rig(seen(heads), send_traceparent=True) as rig:
            await rig.ask(get())
            await rig.ask(get(b"/", b"Traceparent: " + parent, b"Tracestate: v=1"))
        assert re.fullmatch(
            rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", values(heads[0], b"traceparent")[0]
        )
        assert values(heads[1], b"traceparent") == [parent]
        assert values(heads[1], b"tracestate") == [b"v=1"]

    run(main())


def test_the_page_the_log_line_and_the_access_log_have_one_id():
    async def broken(reader, writer):
        await read_head(reader)
        writer.write(b"nonsense\r\n\r\n")

    async def main():
        options = {"log_format": "extended", "server_names": ("h",)}
        async with Rig(broken, **options) as rig:
            head, _ = await rig.ask(get())
            other, _ = await rig.ask(b"GET / HTTP/1.1\r\nHost: other\r\n\r\n")
        (one,) = values(head, b"x-request-id")
        assert b" 502 " in rig.log[0] and b" id=%b upstream=http://upstream " % one in rig.log[0]
        assert rig.problems[0].startswith(one.decode() + " 502 GET h/ ")
        (two,) = values(other, b"x-request-id")
        assert b" 421 " in rig.log[1] and b" id=%b upstream=- " % two in rig.log[1]
        assert rig.problems[1].startswith(two.decode() + " 421 GET other/ ")

    run(main())


def test_what_is_counted():
    async def main():
        answers = iter([response(b"hello"), response(status=b"404 No"), response(b"x" * 10)])

        async def script(reader, writer):
            while True:
                head = await read_head(reader)
                if b"POST" in head:
                    await reader.readexactly(7)
                writer.write(next(answers))

        async with Rig(script, admin=ADMIN) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            await read_response(reader)
            writer.write(get(b"/no"))
            await read_response(reader)
            writer.write(get(b"/", b"Content-Length: 7", method=b"POST") + b"1234567")
            await read_response(reader)
            writer.write(b"nonsense\r\n\r\n")
            await read_response(reader)
            writer.close()
            await rig.settled()
            snapshot = rig.service.snapshot()
        counters, gauges = snapshot["counters"], snapshot["gauges"]
        up = counters["upstreams"]["http://upstream"]
        assert up["classes"] == [0, 0, 2, 0, 1, 0]
        assert (up["sent"], up["received"], up["dials"], up["dial_failures"]) == (15, 7, 1, 0)
        assert sum(up["cells"]) == sum(up["first_cells"]) == 3
        assert 0 < up["first_seconds"] <= up["seconds"]
        assert counters["upstreams"][""]["classes"] == [0, 0, 0, 0, 1, 0]
        assert (counters["requests"], counters["begun"], counters["protocols"]) == (3, 3, [0, 3, 0])
        assert (counters["accepted"], counters["handshakes"]) == (1, 0)
        assert gauges["upstreams"]["http://upstream"] == {
            "busy": 0, "idle": 1, "waiting": 0, "limit": 1024, "views": 1, "up": 1, "refused": 0
        }  # fmt: skip
        assert snapshot["worker"]["memory"] > 1_000_000
        json.dumps(snapshot)

    run(main())


def test_a_tunnels_bytes_are_counted_while_it_lasts():
    async def script(reader, writer):
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        writer.write(b"up" + await reader.readexactly(4))
        await reader.read()

    async def main():
        async with Rig(script, admin=ADMIN, log_format="json") as rig:
            reader, writer = await rig.client()
            writer.write(
                get(
                    b"/ws", b"Connection: upgrade", b"Upgrade: websocket",
                    b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                )
            )  # fmt: skip
            await read_head(reader)
            writer.write(b"down")
            assert await reader.readexactly(6) == b"updown"
            counters = rig.service.counters
            while (counters.tunnel_in, counters.tunnel_out) != (4, 6):
                await asyncio.sleep(rig.every)
            assert (counters.tunnels, counters.tunnels_begun) == (1, 1)
            writer.close()
            await rig.settled()
            assert (counters.tunnels, counters.tunnels_begun) == (0, 1)
            up = rig.service.snapshot()["counters"]["upstreams"]["http://upstream"]
        assert up["classes"][1] == 1
        assert not any(up["cells"]), "a tunnel's hours are no latency"
        line = json.loads(rig.log[0])
        assert (line["status"], line["bytes_in"], line["bytes_out"]) == (101, 4, 6)
        assert line["upstream"] == "http://upstream"

    run(main())


def test_retries_and_dials_that_failed_are_in_the_log():
    async def script(reader, writer):
        await read_head(reader)
        writer.write(response(b"hello"))
        await read_head(reader)
        writer.close()

    async def main():
        async with Rig(script, log_format="json", admin=ADMIN) as rig:
            for _ in range(2):
                await rig.ask(get())
            tally = rig.service.endpoints[0].tally
            assert (tally.retries, tally.dials) == (1, 2)
        assert [json.loads(line)["retries"] for line in rig.log] == [0, 1]

    run(main())


def test_tls_handshakes_are_counted():
    async def main():
        async with Rig(always(response()), tls=True) as rig:
            await rig.ask(get())
            _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            rig._writers.append(writer)
            writer.write(b"\x16nonsense that is no ClientHello")
            while not rig.service.counters.handshakes_failed:
                await asyncio.sleep(rig.every)
            counters = rig.service.counters
            assert (counters.accepted, counters.handshakes, counters.resumed) == (2, 1, 0)

    run(main())


def test_what_no_log_shall_have(caplog):
    async def main():
        options = {"access_log_mask": ("token",), "access_log_short_addresses": True}
        async with Rig(always(response()), server_names=("h",), **options) as rig:
            await rig.ask(get(b"/in?token=secret&a=b", b"Referer: https://h/?token=secret"))
            await rig.ask(get(b"/in?token=secret").replace(b"Host: h", b"Host: other"))
            said = b"".join(rig.log)
        assert b"/in?token=***&a=b" in said and b'"https://h/?token=***"' in said
        assert said.count(b"127.0.0.0 - - ") == 2
        assert b"secret" not in said and b"127.0.0.1" not in said
        assert "/in from 127.0.0.0: no site" in caplog.text and "secret" not in caplog.text
        caplog.clear()
        async with Rig(always(response()), server_names=("h",), access_log_no_paths=True) as rig:
            await rig.ask(get(b"/in?a").replace(b"Host: h", b"Host: other"))
            assert b'"GET - HTTP/1.1" 421' in rig.log[0]
        assert "GET other- from 127.0.0.1: no site" in caplog.text and "/in" not in caplog.text

    run(main())


def test_logrotates_signal(tmp_path):
    path, old = tmp_path / "log", tmp_path / "log.1"
    with RawProxy("--upstream", "http://127.0.0.1:1", "--access-log", str(path)) as proxy:

        async def ask():
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
            writer.write(get(b"/", b"Connection: close"))
            await reader.read()
            writer.close()

        asyncio.run(ask())
        until(lambda: path.read_bytes())
        path.rename(old)
        proxy.process.send_signal(signal.SIGUSR1)
        until(path.exists)
        asyncio.run(ask())
        until(lambda: path.read_bytes())
    assert path.read_bytes().count(b"\n") == old.read_bytes().count(b"\n") == 1


def test_logrotates_signal_without_a_log():
    with RawProxy("--upstream", "http://127.0.0.1:1", "--access-log", "off") as proxy:
        proxy.process.send_signal(signal.SIGUSR1)


def until(check) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)  # polling another program


def test_what_ends_at_the_very_end_is_in_the_log(tmp_path):
    path = tmp_path / "log"

    async def test():
        upstreams = (Upstream("http://127.0.0.1:1", tls=False, host="127.0.0.1", port=1),)
        config = single(upstreams, https=(), access_log=str(path))
        async with contextlib.AsyncExitStack() as stack:
            service = open_server(config, stack).service
            service.start()
            service.stop()
            head = parse_request(b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n")
            service.recorder.record(
                head, context(b"192.0.2.1", b"http", False, False, None), 499, 0
            )
            assert not path.read_bytes()

    run(test())
    assert b'"GET /last HTTP/1.1" 499 0' in path.read_bytes()
