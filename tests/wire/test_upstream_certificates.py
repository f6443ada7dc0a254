"""Upstreams that show another certificate: after a restart, beside each other, far away."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.names import NameServer
from tests.process import PATIENCE, RawProxy, free_port

from . import abroad
from .restarting import Upstream, ask, certificate, changes, context_of, fingerprints, sha

RESTARTS = 20


def run(story):
    async def bounded():
        async with asyncio.timeout(2 * PATIENCE):
            return await story

    return asyncio.run(bounded())


async def page(port: int, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}{path}", timeout=PATIENCE
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


def test_an_upstream_restarted_twenty_times_with_new_certificates():
    async def story():
        upstream, admin = Upstream(), free_port()
        await upstream.start()
        options = f"--upstream localhost:{upstream.port} --workers 2 --admin 127.0.0.1:{admin}"
        with RawProxy(*options.split(), https=False) as proxy:
            for turn in range(RESTARTS + 1):
                if turn:
                    await upstream.restart()
                assert [await ask(proxy.http) for _ in range(6)] == [200] * 6
            status, text = await page(admin, "/readyz")
            assert (status, text) == (200, "ready\n")
            _, metrics = await page(admin, "/metrics")
            counts = re.findall(r"certificate_changes_total\{\S+\} ([0-9.]+)", metrics)
            assert sum(map(float, counts)) >= RESTARTS
            shown = {}
            while shown.get("changes", 0) < RESTARTS:  # the page's rows come each two seconds
                await asyncio.sleep(0.1)
                _, text = await page(admin, "/status.json")
                (shown,) = json.loads(text)["upstreams"]
            assert not shown["refused"]
        err = proxy.err()
        await upstream.stop()
        shas = fingerprints(upstream)
        # Both fingerprints, by whichever worker saw it first, and nothing about a way that fails.
        # A worker that has not heard of the last one yet names the one that it knows.
        found_changes = changes(err)
        assert {new for _, new in found_changes} == set(shas[1:])
        assert all(shas.index(old) < shas.index(new) for old, new in found_changes)
        expected = set(itertools.pairwise(shas))
        assert len(expected & set(found_changes)) > RESTARTS // 2
        assert "private address" in err
        assert "--upstream-pin" not in err

    run(story())


def test_two_replicas_of_one_name_with_different_certificates():
    async def story():
        one, two = Upstream("127.0.0.2", brief=True), Upstream("127.0.0.3", brief=True)
        await one.start()
        two.port = one.port
        await two.start()
        async with NameServer() as names:
            names.say("authentik.test", one.host, two.host)
            with RawProxy(
                "--upstream", f"authentik.test:{one.port}", "--workers", "2",
                "--resolver", f"127.0.0.1:{names.port}", https=False,
            ) as proxy:  # fmt: skip
                assert {await ask(proxy.http) for _ in range(30)} == {200}
                await two.restart()
                assert {await ask(proxy.http) for _ in range(30)} == {200}
        err = proxy.err()
        await one.stop()
        await two.stop()
        assert set(changes(err)) == {tuple(fingerprints(two))}
        for upstream in (one, two):
            assert f"the certificate of {upstream.host}:{upstream.port}, SHA-256 " in err
        assert "is out" not in err

    run(story())


def test_two_replicas_behind_one_address_are_no_flood_of_warnings():
    async def story():
        upstream = Upstream(brief=True)
        pairs = [certificate(), certificate()]
        upstream.contexts = [context_of(pair) for pair in pairs]
        await upstream.start()
        options = f"--upstream localhost:{upstream.port} --workers 2"
        with RawProxy(*options.split(), https=False) as proxy:
            assert {await ask(proxy.http) for _ in range(40)} == {200}
        err = proxy.err()
        await upstream.stop()
        shas = {sha(pair[0]) for pair in pairs}
        assert {one for pair in changes(err) for one in pair} <= shas
        assert len(re.findall("cannot be verified", err)) <= 4, "each worker, each certificate"

    run(story())


def test_workers_that_see_different_ones_at_once_agree_on_the_first():
    """With `pin`: some requests meet the other certificate, and are refused, by every worker."""

    async def story():
        upstream = Upstream(brief=True)
        pairs = [certificate(), certificate()]
        upstream.contexts = [context_of(pair) for pair in pairs]
        await upstream.start()
        options = f"--upstream 127.0.0.1:{upstream.port} --workers 2 --upstream-verify pin"
        with RawProxy(*options.split(), https=False) as proxy:
            await asyncio.gather(*(ask(proxy.http) for _ in range(16)))
            await asyncio.sleep(0.3)  # what both said has been heard by then
            before = len(changes(proxy.err()))
            got = [await ask(proxy.http) for _ in range(40)]
        err = proxy.err()
        await upstream.stop()
        assert set(got) == {200, 502}
        assert len({old for old, _ in changes(err)[before:]}) == 1, "one is known to all"
        assert {sha(pair[0]) for pair in pairs} == set(changes(err)[-1])

    run(story())


def test_a_refused_certificate_is_not_ready_and_a_right_one_is_found_without_a_request():
    async def story():
        upstream, admin = Upstream(), free_port()
        await upstream.start()
        options = f"--upstream 127.0.0.1:{upstream.port} --admin 127.0.0.1:{admin}"
        with RawProxy(*options.split(), "--upstream-verify", "pin", https=False) as proxy:
            assert await ask(proxy.http) == 200
            assert await page(admin, "/readyz") == (200, "ready\n")
            await upstream.restart()
            assert await ask(proxy.http) == 502
            why = "the certificate of every upstream is refused\n"
            assert await page(admin, "/readyz") == (503, why)
            upstream.known_again(0)
            await upstream.restart(new=False)
            for _ in range(100):
                if (await page(admin, "/readyz"))[0] == 200:
                    break
                await asyncio.sleep(0.1)
            assert await page(admin, "/readyz") == (200, "ready\n")
            assert await ask(proxy.http) == 200
        await upstream.stop()

    run(story())


@pytest.fixture
def namespace():
    """A network of its own, in which a public address is this machine's."""
    ip = shutil.which("ip", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if ip is None:
        pytest.skip("needs the Debian package iproute2")
    name = f"rawproxy-{os.getpid()}"
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no network namespace can be made: {made.stderr.strip()}")
    inside = [ip, "netns", "exec", name]
    try:
        for order in ("link set lo up", f"addr add {abroad.ADDRESS}/32 dev lo"):
            done = subprocess.run([ip, "-n", name, *order.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"{order}: {done.stderr.strip()}")
        if subprocess.run([*inside, "true"], capture_output=True).returncode:
            pytest.skip("no program can be run in a network namespace")
        yield inside
    finally:
        with contextlib.suppress(OSError):
            subprocess.run([ip, "netns", "delete", name], capture_output=True)


def test_at_a_public_address_another_certificate_is_refused(namespace):
    command = [*namespace, sys.executable, "-m", "tests.wire.abroad"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["statuses"] == [200, 200, 502, 502, 502, 200, 200]
    first, second = found["shown"]
    err = found["err"]
    assert f"{abroad.ADDRESS}:" in err
    assert set(changes(err)) == {(first, second)}
    assert "no private address, so it may be anybody" in err
    # What the first warning says to type is what works, as long as the upstream keeps it.
    assert f"--upstream-pin {first} if it stays the same" in err
    command += ["--upstream-pin", first, "--upstream-pin", second]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
