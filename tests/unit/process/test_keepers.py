"""Processes beside the workers."""

from typing import ClassVar

import pytest

from rawproxy.process import keepers
from rawproxy.process.keepers import Keepers
from rawproxy.process.order import CODE_CHANGED, Order

ORDER = Order({}, "x", 1, (), 30.0, None, ("acme",))
MEMORY = 9  # the descriptor of what all workers share


class Ended:
    returncode = 1


class Double:
    """A child that hears and does nothing."""

    made: ClassVar[list] = []

    def __init__(self, slot, fds):
        assert slot == keepers.SLOT and fds == [MEMORY]
        self.pid, self.born, self.failed, self.said, self.killed = 7, 0.0, None, [], False
        self.process = Ended()
        Double.made.append(self)

    def kill(self):
        self.killed = True


class Loop:
    def __init__(self):
        self.timers, self.watched = [], []

    def watch(self, child):
        self.watched.append(child)

    def say(self, child, message):
        child.said.append(message)

    def hang_up(self, child):
        self.watched.remove(child)

    def later(self, seconds, call):
        self.timers.append((seconds, call))


@pytest.fixture
def rig(monkeypatch):
    monkeypatch.setattr(keepers, "Child", Double)
    Double.made = []
    loop = Loop()
    return Keepers(loop, MEMORY), loop


def test_it_gets_its_order_and_ends_with_its_generation(rig):
    ours, loop = rig
    ours.replace(ORDER)
    (first,) = Double.made
    assert first.said == [{"order": ORDER.packed(), "keep": "acme", "memory": MEMORY}]
    assert loop.watched == [first]
    ours.replace(ORDER)
    assert first.killed and loop.watched == [Double.made[1]]
    ours.replace(Order({}, "x", 1, (), 30.0, None))
    assert Double.made[1].killed and not ours.children


def test_one_that_ends_is_started_again_after_a_pause(rig, caplog):
    ours, loop = rig
    ours.replace(ORDER)
    (first,) = Double.made
    first.failed = ["cannot start: x"], 1
    assert ours.ended(first) and not ours.children
    assert "keeper of acme (7): cannot start: x; another one starts in 0 s" in caplog.text
    loop.timers[0][1]()
    assert len(Double.made) == 2 and ours.children["acme"] is Double.made[1]
    assert ours.ended(Double.made[1]) and "exited with 1" in caplog.text
    ours.stop()
    loop.timers[1][1]()
    assert len(Double.made) == 2, "nobody wants it any more"


def test_another_child_is_none_of_them(rig):
    ours, _ = rig
    ours.replace(ORDER)
    assert not ours.ended(Double(keepers.SLOT, [MEMORY]))


def test_an_older_order_starts_nothing(rig):
    ours, loop = rig
    ours.replace(ORDER)
    ours.ended(Double.made[0])
    ours.replace(Order({}, "x", 1, (), 30.0, None, ("acme",)))
    loop.timers[0][1]()
    assert len(Double.made) == 2


def test_one_that_finds_other_code_brings_a_reload(rig):
    ours, _ = rig
    told = []
    ours.outdated = lambda: told.append(1)
    ours.replace(ORDER)
    ours.ended(Double.made[0])
    assert told == []
    ours.replace(ORDER)
    Double.made[1].failed = ["the code has changed"], CODE_CHANGED
    ours.ended(Double.made[1])
    assert told == [1]
