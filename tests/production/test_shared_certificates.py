"""Two machines and one store: one order for a certificate, whoever is killed, and both have it.

Keepers without their proxies, so that each step can be the last one. Two whole proxies are in
`test_machines_order`.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("acme")

from rawproxy.acme import sharing
from rawproxy.acme.archive import read, validity
from rawproxy.acme.keeper import Keeper
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.shared_archive import SharedArchive
from rawproxy.config.json_codec import to_json
from tests.process import PATIENCE
from tests.production.authority import Pebble, needs_pebble
from tests.stores import NEEDS_REDIS, RedisServer, known

pytestmark = needs_pebble
STEPS = (
    "account", "key", "order", "note", "answer", "challenge", "finalise", "fetch", "write", "forget",
)  # fmt: skip
HELD, GRACE = 1.0, 1.5  # seconds, as nobody of the tests is slow
# One process for each name, which ends at the step of that name as if it were killed.
KILLED = """
import json, os, sys
from rawproxy.acme import sharing
from rawproxy.acme.keeper import Keeper
from rawproxy.acme.settings import AcmeSettings
from rawproxy.acme.shared_archive import SharedArchive
from rawproxy.config.json_codec import from_json

sharing.HELD, SharedArchive.spread = 1.0, 0.0
children = []
for word in sys.argv[2:]:
    if child := os.fork():
        children.append(child)
        continue

    def step(now):
        if now == word:
            os._exit(9)

    keeper = Keeper(from_json(AcmeSettings, json.loads(sys.argv[1])), step)
    keeper.sharing.reach()
    for _ in range(50):  # another one may make the account just now
        keeper.attend(word + ".test")
    os._exit(1)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.fixture(scope="module")
def pebble():
    """It takes every proof; what is proved is not the matter here."""
    with Pebble(PEBBLE_VA_ALWAYS_VALID="1") as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sharing, "HELD", HELD)
    monkeypatch.setattr(sharing, "BEAT", 0.2)
    monkeypatch.setattr(sharing, "GRACE", GRACE)
    monkeypatch.setattr(SharedArchive, "spread", 0.0)


@pytest.fixture(params=["folder", pytest.param("redis", marks=NEEDS_REDIS)])
def url(request, tmp_path):
    if request.param == "folder":
        yield known(f"file:{tmp_path}/shared")
        return
    with RedisServer(tmp_path) as redis:
        yield known(redis.url)


def settings(folder, url, pebble, *names, **told) -> AcmeSettings:
    authority = Authority(pebble.url, pebble.root)
    return AcmeSettings(
        str(folder), (authority,), names, "me@a.test", ("http-01",), store=url, **told
    )


class Machine:
    """A keeper that works on its names in a thread, until it is stopped."""

    def __init__(self, told: AcmeSettings, step=None) -> None:
        self.keeper = Keeper(told, step)
        self.keeper.sharing.start()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> "Machine":
        self._thread.start()
        return self

    def _work(self) -> None:
        while not self._over.wait(0.1):
            for name in self.keeper.settings.names:
                self.keeper.attend(name)

    def stop(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE)

    def serial(self, name: str) -> str:
        found = validity(read(self.keeper.archive.live(name)))
        return found.serial if found is not None and found.holds(time.time()) else ""


@contextlib.contextmanager
def machines(*told: AcmeSettings, steps=()):
    found = [
        Machine(one, step) for one, step in zip(told, steps or [None] * len(told), strict=True)
    ]
    try:
        yield [one.start() for one in found]
    finally:
        for one in found:
            one.stop()


def until(condition, what) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)  # polling threads


def same(one: Machine, other: Machine, names) -> bool:
    """Whether both serve the same certificate of each name."""
    return all(one.serial(name) and one.serial(name) == other.serial(name) for name in names)


def test_killed_at_each_step_and_another_machine_goes_on(tmp_path, url, pebble):
    steps = STEPS if url.startswith("redis") else STEPS[3:9:2]
    names = tuple(f"{word}.test" for word in steps)
    told = [settings(tmp_path / who, url, pebble, *names) for who in ("one", "other")]
    before = pebble.orders()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(to_json(told[0])), *steps],
        check=True, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == f"{[9] * len(steps)}\n", done.stderr
    with machines(told[1]) as [other]:
        until(lambda: all(map(other.serial, names)), lambda: list(map(other.serial, names)))
        # The one that was killed starts again, and orders nothing.
        with machines(told[0]) as [one]:
            until(lambda: same(one, other, names), "they serve what differs")
    assert pebble.orders() - before == len(names), "those that were under way went on"
    accounts = {
        read(one.keeper.archive.of(told[0].authorities[0], "_account", "account.json"))
        for one in (one, other)
    }
    assert len(accounts) == 1


@NEEDS_REDIS
@pytest.mark.parametrize("word", ["order", "note", "write"])
def test_redis_is_killed_at_a_step_and_comes_back_empty(tmp_path, pebble, word):
    name = f"{word}.redis.test"
    before = pebble.orders()
    with RedisServer(tmp_path) as redis:
        known(redis.url)
        killed = threading.Event()

        def step(now):
            if now == word and not killed.is_set():
                killed.set()
                redis.kill()
                time.sleep(0.3)
                redis.start()

        told = [settings(tmp_path / who, redis.url, pebble, name) for who in ("one", "other")]
        with machines(*told, steps=(step, step)) as [one, other]:
            until(lambda: same(one, other, (name,)), f"{pebble.orders() - before} orders")
        assert killed.is_set()
    assert pebble.orders() - before == 1
