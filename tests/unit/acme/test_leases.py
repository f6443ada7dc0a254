"""Whose turn it is."""

import json
import os
import subprocess
import sys

import pytest

from rawproxy.acme import leases
from rawproxy.acme.archive import write
from rawproxy.acme.leases import SILENCE, Leases


class Watch:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch():
    return Watch()


def two(tmp_path, watch, where=("here", "there")):
    return [Leases(str(tmp_path), one, watch) for one in where]


def test_one_has_it_and_the_other_waits(tmp_path, watch):
    ours, theirs = two(tmp_path, watch)
    lease = ours.take("a.test")
    assert lease is not None and lease.held()
    assert theirs.take("a.test") is None and ours.take("a.test") is None
    assert theirs.take("b.test") is not None, "each name by itself"
    lease.release()
    assert theirs.take("a.test") is not None


def test_one_that_beats_is_kept(tmp_path, watch):
    ours, theirs = two(tmp_path, watch)
    lease = ours.take("*.a.test")
    for _ in range(20):
        watch.now += SILENCE / 2
        ours.beat()
        assert theirs.take("*.a.test") is None
    watch.now += SILENCE - 1
    assert theirs.take("*.a.test") is None
    watch.now += SILENCE + 1
    other = theirs.take("*.a.test")
    assert other is not None and other.held() and not lease.held()
    ours.beat()
    lease.release()
    assert other.held(), "who lost it takes nothing away"
    assert ours.take("*.a.test") is None


def test_a_process_of_this_machine_that_has_ended_holds_nothing(tmp_path, watch):
    text = "from rawproxy.acme.leases import Leases; import sys; Leases(sys.argv[1]).take('a.test')"
    subprocess.run([sys.executable, "-c", text, str(tmp_path)], check=True)
    assert Leases(str(tmp_path), "elsewhere", watch).take("a.test") is None
    assert Leases(str(tmp_path), None, watch).take("a.test") is not None


@pytest.mark.parametrize("process", [os.getppid(), 0, -1, "x", None, 10**30])
def test_who_may_be_alive_is_waited_for(tmp_path, watch, process):
    said = {"where": "here", "process": process, "nonce": "n", "beat": 1}
    write(str(tmp_path / "leases" / "a.test.3"), json.dumps(said).encode())
    ours = Leases(str(tmp_path), "here", watch)
    assert ours.take("a.test") is None
    watch.now += SILENCE + 1
    lease = ours.take("a.test")
    assert lease is not None and lease.number == 4
    assert os.listdir(tmp_path / "leases") == ["a.test.4"]


@pytest.mark.parametrize("said", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_one_is_waited_for(tmp_path, watch, said):
    write(str(tmp_path / "leases" / "a.test.3"), said)
    ours = Leases(str(tmp_path), "here", watch)
    assert ours.take("a.test") is None
    watch.now += SILENCE + 1
    assert ours.take("a.test") is not None


def test_names_that_begin_alike(tmp_path, watch):
    ours, _ = two(tmp_path, watch)
    assert ours.take("a.test") and ours.take("a.test.b") and ours.take("a.tes")
    assert ours.newest("a.test")[0] == 1
    write(str(tmp_path / "leases" / "a.test.old"), b"")
    assert ours.newest("a.test")[0] == 1


def test_only_one_takes_the_next(tmp_path, watch, monkeypatch):
    ours, theirs = two(tmp_path, watch)
    before = ours.newest("a.test")
    assert theirs.take("a.test") is not None
    monkeypatch.setattr(ours, "newest", lambda _: before)  # it looked a moment too early
    assert ours.take("a.test") is None


def test_a_file_that_goes_while_it_is_looked_at(tmp_path, watch, monkeypatch):
    ours, _ = two(tmp_path, watch)
    monkeypatch.setattr(ours, "newest", lambda _: (1, str(tmp_path / "gone")))
    assert ours.take("a.test") is None


def test_a_machine_without_proc(monkeypatch):
    monkeypatch.setattr(leases, "read", lambda _: None)
    monkeypatch.setattr(leases.os, "readlink", lambda _: (_ for _ in ()).throw(OSError()))
    assert leases.here()
