"""The process beside the workers: what it tells the master, and that nothing stops it."""

import mmap
import os
import select
import socket
import threading
import time

import pytest

from rawproxy.access.rates import RateTable, rate
from rawproxy.errors import ConfigError, StoreError
from rawproxy.process import shared_memory
from rawproxy.process.channel import LineReader, encode
from rawproxy.store import keeper as module
from rawproxy.store.keeper import AWAY, CARRIED, SILENCE, THERE, StoreKeeper, serve
from tests.process import PATIENCE
from tests.unit.store.doubles import MemoryStore
from tests.unit.store.test_agreement import accepted


class Stand:
    """A keeper whose clock is ours, and the master's end of its socketpair."""

    def __init__(self, store: MemoryStore) -> None:
        self.master, theirs = socket.socketpair()
        self.master.settimeout(PATIENCE)
        self.memory = mmap.mmap(-1, shared_memory.SIZE)
        self.store = store
        self.one = StoreKeeper(theirs, store, self.memory)
        self.table = RateTable(memoryview(self.memory))
        self.now = time.monotonic()
        self.lines = LineReader()
        self.said = []

    def step(self, seconds: float = 0.1) -> None:
        self.now += seconds
        # What the thread hears is put in place by hand: no test waits for it.
        for watch in list(self.store.watches):
            if watch.store is self.store:
                events, watch.events = watch.events, []
                for event in events:
                    self.one._events.put((self.one._attempt, event))
        try:
            self.one._step(self.now)
        except StoreError as error:
            self.one._lose(error)
            self.one._try_at = self.now + 0.2

    def hear(self) -> list:
        while select.select([self.master], [], [], 0)[0]:
            self.said += self.lines.feed(self.master.recv(1 << 20))
        return self.said

    def shared(self) -> dict:
        found = {}
        for message in self.hear():
            found |= message.get("shared", {})
        return found

    def numbers(self) -> dict:
        return [m["counted"]["store"] for m in self.hear() if "counted" in m][-1]

    def close(self) -> None:
        self.one.close()
        self.master.close()
        self.one.sock.close()


@pytest.fixture
def make(monkeypatch):
    made = []
    monkeypatch.setattr(StoreKeeper, "_hear", lambda self, watch, attempt: None)

    def new(like: Stand | None = None) -> Stand:
        store = (
            MemoryStore() if like is None else MemoryStore(like.store.values, like.store.watches)
        )
        made.append(Stand(store))
        return made[-1]

    yield new
    for one in made:
        one.close()


def test_two_machines_agree(make):
    one = make()
    one.step()
    other = make(one)
    other.step()
    assert one.one.state is other.one.state is THERE
    first, second = one.shared(), other.shared()
    assert first["secret"] == second["secret"]
    assert first["tickets"] == second["tickets"]
    assert len(bytes.fromhex(first["tickets"])) == 80
    one.step()
    other.step(1.1)
    one.step(1.1)
    other.step(1.1)
    assert one.numbers()["machines"] == other.numbers()["machines"] == 2
    assert one.numbers()["up"] == 1


def test_a_value_is_told_once_and_again_when_it_is_another(make):
    one = make()
    one.step()
    one.step(2)
    one.step(2)
    assert len([m for m in one.hear() if "secret" in m.get("shared", {})]) == 1
    one.store.put("secret", b"s" * 64)
    one.step()
    assert one.shared()["secret"] == (b"s" * 64).hex()


def test_what_the_master_has_of_its_own_is_set_right(make):
    one = make()
    one.step()
    tickets = one.shared()["tickets"]
    one.said.clear()
    one.master.sendall(encode({"tickets": "00" * 80}))
    assert one.one._listen(1)
    one.step(1.1)
    assert one.shared()["tickets"] == tickets


def test_pins_of_one_machine_are_the_others(make):
    one = make()
    one.step()
    other = make(one)
    other.step()
    one.master.sendall(encode({"pins": {"u": accepted("aa")}}))
    assert one.one._listen(1)
    one.step()
    other.step()
    assert other.shared()["pins"] == {"u": accepted("aa")}
    # Another certificate, which the other one has accepted in the same moment, is refused.
    other.said.clear()
    other.master.sendall(encode({"pins": {"u": accepted("bb")}}))
    assert other.one._listen(1)
    other.step()
    assert other.shared()["pins"] == {"u": accepted("aa")}


def test_counts_go_to_the_others_and_come_back_to_nobody(make):
    one = make()
    one.step()
    other = make(one)
    other.step()
    for each in (one, other):
        each.table.share(bytes.fromhex(each.shared()["secret"]))
    slow = rate(1, 10, 4)
    name = one.table.name(b"z", b"k")
    assert other.table.name(b"z", b"k") == name
    assert [one.table.take(name, slow, one.now) for _ in range(3)] == [0, 0, 0]
    one.step()
    other.step()
    assert [other.table.take(name, slow, other.now) == 0 for _ in range(3)] == [True, True, False]
    one.step()
    other.step(1.1)
    one.step(1.1)
    assert one.table.take(name, slow, one.now) > 0
    assert (one.numbers()["told"], one.numbers()["heard"]) == (1, 1)


def test_while_it_is_away_everything_stays_and_one_line_says_so(make, caplog):
    caplog.set_level("INFO", "rawproxy")
    one = make()
    one.step()
    caplog.clear()
    one.store.away = "Connection refused"
    for _ in range(20):
        one.step(1.0)
    assert one.one.state is AWAY
    assert one.numbers() == {"told": 0, "heard": 0, "lost": 1, "up": 0, "machines": 1}
    away = [r.getMessage() for r in caplog.records]
    assert len(away) == 1
    assert away[0].startswith("the store memory: is away: Connection refused; what is known stays")
    one.store.away = ""
    one.step(6)
    assert one.one.state is THERE
    assert [r.getMessage() for r in caplog.records][1:] == ["the store memory: is back"]
    assert one.numbers()["up"] == 1


def test_one_that_comes_back_empty_gets_back_what_was_agreed(make):
    one = make()
    one.step()
    one.master.sendall(encode({"pins": {"u": accepted("aa")}}))
    assert one.one._listen(1)
    one.step()
    before = dict(one.store.values)
    assert set(before) == {"secret", "tickets", "pins"}
    one.store.away = "killed"
    one.step(1.1)
    one.store.away = ""
    one.store.values.clear()
    one.step(1.0)
    assert one.store.values == before
    one.store.values.clear()  # FLUSHALL, say
    one.step(1.1)
    assert {k: one.store.values[k] for k in ("secret", "tickets")} == {
        k: before[k] for k in ("secret", "tickets")
    }


def test_it_may_be_away_at_the_start(make, caplog):
    one = make()
    one.store.away = "nobody there"
    one.step()
    assert "shared" not in str(one.hear())
    assert "is away: nobody there" in caplog.text
    one.store.away = ""
    one.step(1)
    assert "secret" in one.shared()


@pytest.mark.parametrize(("seconds", "told"), [(CARRIED / 2, 1), (CARRIED * 2, 0)])
def test_what_was_counted_meanwhile_is_told_if_it_is_not_old(make, monkeypatch, seconds, told):
    one = make()
    one.step()
    one.table.share(bytes.fromhex(one.shared()["secret"]))
    one.store.away = "gone"
    monkeypatch.setattr(module.time, "monotonic", lambda: one.now)
    one.step(1.1)
    one.table.take(5, rate(1, 10, 4), one.now)
    one.store.away = ""
    one.step(seconds)
    one.step(1.1)
    assert one.numbers()["told"] == told


def test_a_store_that_passes_nothing_on_is_as_good_as_away(make, caplog):
    one = make()
    one.step()
    for watch in one.store.watches:
        watch.events = []
    one.store.watches.clear()
    for _ in range(5):
        one.step(SILENCE / 2)
        one.store.watches.clear()
    assert "what is said there does not come back" in caplog.text


def test_a_fault_that_the_thread_meets_counts_and_an_older_threads_does_not(make):
    one = make()
    one.step()
    one.one._events.put((one.one._attempt - 1, StoreError("old")))
    one.step()
    assert one.one.state is THERE
    one.one._events.put((one.one._attempt, StoreError("new")))
    one.step()
    assert one.one.state is AWAY


def test_the_whole_of_it_with_its_thread_until_the_master_goes(tmp_path):
    """Two of them over a folder, as processes would run."""
    ends = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        memory = shared_memory.make()
        told = {"url": f"file:{tmp_path}"}
        thread = threading.Thread(target=serve, args=(theirs, told, memory))
        thread.start()
        ends.append((ours, theirs, thread, memory))
    secrets = set()
    for ours, *_ in ends:
        lines, found = LineReader(), {}
        while "secret" not in found or "tickets" not in found:
            for message in lines.feed(ours.recv(1 << 16)):
                found |= message.get("shared", {})
        secrets.add((found["secret"], found["tickets"]))
    assert len(secrets) == 1
    for ours, theirs, thread, memory in ends:
        ours.close()
        thread.join(10)
        assert not thread.is_alive()
        theirs.close()
        os.close(memory)


def test_a_url_that_cannot_be_is_a_mistake_of_the_configuration():
    memory = shared_memory.make()
    with socket.socket() as sock, pytest.raises(ConfigError):
        serve(sock, {"url": "x://"}, memory)
    os.close(memory)
