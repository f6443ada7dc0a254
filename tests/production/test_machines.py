"""Two machines with one Redis: sessions, cookies and limits are common, and nothing can stop them."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from rawproxy.store.redis_store import PATIENCE
from tests.process import needs
from tests.production.machines import ADDRESSES, CLIENTS, HOME
from tests.stores import NEEDS_REDIS

NETWORK = 24  # bits
SECONDS = 150  # for all trials, which take half of that


@contextlib.contextmanager
def namespaces(names: list[str], addresses: list[str]):
    """One with a bridge, and the others connected to it; nothing outside of them is touched."""
    outer, *others = names
    made = []

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", outer, "link", "add", "bridge0", "type", "bridge")
        ip("-n", outer, "addr", "add", f"{addresses[0]}/{NETWORK}", "dev", "bridge0")
        ip("-n", outer, "link", "set", "bridge0", "up")
        for at, name in enumerate(others):
            ip("-n", outer, "link", "add", f"v{at}", "type", "veth", "peer", "eth0", "netns", name)
            ip("-n", outer, "link", "set", f"v{at}", "master", "bridge0", "up")
            ip("-n", name, "addr", "add", f"{addresses[at + 1]}/{NETWORK}", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def said(command: list[str]) -> str:
    """What it prints. Whatever it has started ends with it."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends what it has started
            out, err = process.communicate()
        finally:
            process.kill()
        assert process.returncode == 0, err[-8000:]
        return out


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("machines")
    names = [f"rp-{os.getpid()}-{part}" for part in ("outer", "one", "other")]
    try:
        with namespaces(names, [HOME, *ADDRESSES]):
            command = ["ip", "netns", "exec", names[0], sys.executable, "-m"]
            command += ["tests.production.machines", str(folder), *names[1:]]
            return json.loads(said(command))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs to be able to make network namespaces: {error}")


pytestmark = [NEEDS_REDIS, needs("ip", "iproute2")]


def within(told: dict, least: float = 0.9, most: float = 1.1) -> bool:
    return least <= told["passed"] / told["may"] <= most


def test_each_resumes_the_sessions_of_the_other(found):
    assert found["resumed"] == found["resumed afterwards"] == found["resumed at the end"] == 20


def test_each_knows_the_cookies_of_the_other(found):
    assert found["cookie"] == []
    assert found["cookie afterwards"] == ["", ""], "Redis came back empty, and nobody noticed"


def test_limits_over_both_are_those_of_one(found):
    assert within(found["limited"]), found["limited"]
    assert found["limited"]["refused"] > found["limited"]["passed"]
    assert within(found["limited at the end"]), found["limited at the end"]


def test_they_hold_while_redis_is_killed_and_comes_back_empty(found):
    assert within(found["redis killed"]), found["redis killed"]


def test_no_request_fails_or_waits_whatever_is_killed(found):
    for trial in ("limited", "redis killed", "redis frozen", "keeper killed"):
        assert found[trial]["failed"] == [], trial
        assert found[trial]["moved"] == 0, trial
    # Who waits for the store waits for a second (`redis_store.PATIENCE`). Counted, as one request
    # may be slow on a busy machine for other reasons.
    if_they_waited = CLIENTS * (found["hung for"] / PATIENCE + 1)
    print(f"{found['answered while it hung']} answered; waiting: at most {if_they_waited:.0f}")
    assert found["answered while it hung"] > 2 * if_they_waited
    assert found["machine killed"]["failed"] == [], "the other machine serves"
    assert found["exit codes"] == [0, 0]


def test_the_log_says_it_once_and_a_metric_tells(found):
    assert (found["said away"], found["said back"]) == (1, 1)
    assert found["metrics"]["rawproxy_store_up"] == 1
    for text in found["err"]:
        assert "Traceback" not in text
