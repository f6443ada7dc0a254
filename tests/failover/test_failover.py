"""The proxy as people run it, three upstream processes behind it: policies, faults, names."""

import asyncio
import collections
import contextlib
import http.client
import signal
import threading

import pytest

from rawproxy.protocol.http2 import frames
from tests.names import NameServer
from tests.process import PATIENCE, RawProxy, free_port
from tests.wire.h2raw import H2Client

from .__main__ import Backends
from .load import load

POLICIES = ["round-robin", "least-connections", "two-choices", "client-hash", "cookie"]


@pytest.fixture
def backends():
    three = Backends()
    yield three
    three.stop()


@contextlib.contextmanager
def proxy(tmp_path, backends, *lines: str, https: bool = True):
    """rawproxy with one group of three."""
    urls = ", ".join(f'"http://127.0.0.1:{port}"' for port in backends.ports)
    path = tmp_path / "rawproxy.toml"
    path.write_text("\n".join(["[group.default]", f"upstream = [{urls}]", *lines, ""]))
    with RawProxy("--config", str(path), "--no-redirect", "--access-log", "off", https=https) as p:
        yield p


def over_http1(port: int, count: int) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    cookie, said = "", []
    for _ in range(count):
        connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        assert answer.status == 200
        said.append(answer.read().decode())
        given = answer.headers["Set-Cookie"]
        if given:
            assert "Secure" not in given
            cookie = given.partition(";")[0]
    connection.close()
    return said


def over_http2(port: int, count: int) -> list[str]:
    cookie, said = (), []
    with H2Client(port) as client:
        for _ in range(count):
            client.send(client.headers("/", *cookie))
            fields = dict(client.decoder.decode(client.until(frames.HEADERS)[3]))
            assert fields[":status"] == "200"
            said.append(client.until(frames.DATA)[3].decode())
            given = fields.get("set-cookie")
            if given:
                assert "; Secure" in given
                cookie = (("cookie", given.partition(";")[0]),)
    return said


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_over_http_1_and_2(tmp_path, backends, policy):
    with proxy(tmp_path, backends, f'policy = "{policy}"') as running:
        for said in (over_http1(running.http, 30), over_http2(running.https, 30)):
            counted = collections.Counter(said)
            if policy in ("client-hash", "cookie"):
                assert len(counted) == 1, "one client stays with one upstream"
            elif policy == "two-choices":
                assert len(counted) == 3
            else:
                assert counted == {"a": 10, "b": 10, "c": 10}


@pytest.mark.parametrize("fault", ["dies", "answers 503", "hangs"])
def test_a_fault_costs_little(tmp_path, backends, fault):
    """`make failover` has the figures; here it is only that they are of that order."""
    lines = ("[timeouts]", "response-head = 3")

    async def under_load(port: int):
        task = asyncio.create_task(load(port, 6.0))
        await asyncio.sleep(1.0)  # of the load's time
        backends.fail(fault)
        return await task

    with proxy(tmp_path, backends, *lines, https=False) as running:
        count = asyncio.run(under_load(running.http))
        running.says("is out for")
    if fault == "hangs":
        backends.heal(fault)
    # Dead: only POSTs under way. Ill: three, and trials. Hanging: who waited when it was found.
    most = {"dies": 5, "answers 503": 15, "hangs": 60}[fault]
    assert sum(count.failed.values()) <= most, count.failed
    assert count.sent > 500
    assert count.by["a"] + count.by["c"] > 0.8 * count.sent


@contextlib.contextmanager
def name_server():
    """One on a thread of its own."""
    loop = asyncio.new_event_loop()
    names = NameServer()
    loop.run_until_complete(names.__aenter__())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield names
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(names.__aexit__())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_one_upstream_that_moves_is_followed_without_a_reload():
    """As --upstream alone: a container that starts again at another address."""
    port = free_port()
    first, second = Backends.at("127.0.0.1", port, "x"), None
    try:
        with name_server() as names:
            names.say("app.test", "127.0.0.1", ttl=1)
            resolver = f"127.0.0.1:{names.port}"
            arguments = ("--upstream", f"http://app.test:{port}", "--resolver", resolver)
            with RawProxy(*arguments, https=False) as running:
                assert over_http1(running.http, 3) == ["x"] * 3
                first.send_signal(signal.SIGKILL)
                first.wait()
                second = Backends.at("127.0.0.2", port, "y")
                names.say("app.test", "127.0.0.2", ttl=1)
                answers = []
                while answers[-1:] != ["y"]:
                    connection = http.client.HTTPConnection(
                        "127.0.0.1", running.http, timeout=PATIENCE
                    )
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    answers.append(answer.read().decode() if answer.status == 200 else "!")
                    connection.close()
                assert answers == ["y"], "the first one waited for the name to be asked again"
                assert over_http1(running.http, 3) == ["y"] * 3
                running.says(r"upstream http://app\.test:\d+ is now 127\.0\.0\.2:")
    finally:
        for one in (first, second):
            if one is not None:
                one.kill()
                one.wait()
