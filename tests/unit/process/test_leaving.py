"""Old workers: how long each generation may keep its tunnels."""

from dataclasses import replace

from rawproxy.config.model import Upstream, single
from rawproxy.process.leaving import MARGIN, MOST, Leaving
from rawproxy.process.order import order

from .crew import FakeChild, FakeLoop

ORDER = replace(order(single((Upstream("http://a", tls=False),))), drain=30.0, tunnel_drain=30.0)
RETIRE = {"do": "retire"}


def test_who_drains_has_its_time_and_is_killed_then():
    loop = FakeLoop()
    leaving = Leaving(loop)
    assert not leaving
    child, starting = FakeChild(0), FakeChild(1, ready=False)
    leaving.retire([child, starting], ORDER, RETIRE)
    assert child.said == [RETIRE] and starting.killed and child in leaving and leaving
    assert [seconds for seconds, _ in loop.timers] == [30 + MARGIN]
    leaving.ended(starting)
    assert list(leaving) == [child]
    loop.go()
    assert child.killed
    leaving.ended(child)
    assert not leaving


def test_tunnels_may_stay_longer_or_for_ever():
    for stay, timers in ((100.0, [100 + MARGIN]), (0.0, []), (5.0, [30 + MARGIN])):
        loop = FakeLoop()
        Leaving(loop).retire([FakeChild(0)], replace(ORDER, tunnel_drain=stay), RETIRE)
        assert [seconds for seconds, _ in loop.timers] == timers
    loop = FakeLoop()
    Leaving(loop).retire([FakeChild(0)], replace(ORDER, tunnel_drain=0.0), {"do": "drain"})
    assert [seconds for seconds, _ in loop.timers] == [30 + MARGIN], "at a stop it does not"


def test_only_some_generations_may_stay():
    loop = FakeLoop()
    leaving = Leaving(loop)
    for_ever = replace(ORDER, tunnel_drain=0.0)
    children = [FakeChild(n) for n in range(MOST + 2)]
    for child in children:
        leaving.retire([child], for_ever, RETIRE)
    assert [{"do": "drain"} in child.said for child in children] == [True] * 2 + [False] * MOST
    loop.go()
    assert [child.killed for child in children] == [True] * 2 + [False] * MOST
