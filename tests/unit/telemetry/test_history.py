"""Rows of rates out of totals."""

import pytest

from rawproxy.telemetry import history
from rawproxy.telemetry.counters import Tally
from rawproxy.telemetry.history import History


def total(requests: int, failed: int = 0, *, retired: bool = False, **counters) -> dict:
    tally = Tally()
    tally.classes[2], tally.classes[5] = requests - failed, failed
    tally.sent = 100 * requests
    for _ in range(requests):
        tally.time(0.004, 0.002)
    state = {"busy": 3, "idle": 1, "waiting": 2, "limit": 9, "views": 1, "up": 1}
    upstreams = {"": Tally().counters(), "http://u": tally.counters()}
    return {
        "counters": {"upstreams": upstreams, "cpu": requests / 1000, **counters},
        "gauges": {"upstreams": {} if retired else {"http://u": state}, "tunnels": 7},
    }


def test_nothing_yet():
    nothing = History()
    assert (nothing.series(), nothing.upstreams()) == ({}, [])
    nothing.add(1.0, total(0))
    assert nothing.series() == {}
    (one,) = nothing.upstreams()
    assert (one["name"], one["requests"], one["p95"], one["busy"]) == ("http://u", 0.0, 0.0, 3)


def test_rates():
    some = History()
    some.add(10.0, total(0))
    some.add(12.0, total(100, 10, tunnel_out=50))
    some.add(14.0, total(100, 10, tunnel_out=150))
    series = some.series()
    assert series["requests"] == [50.0, 0.0]
    assert series["errors5"] == [5.0, 0.0]
    assert series["out"] == [5000.0 + 25, 50.0]
    assert series["cpu"] == pytest.approx([0.05, 0.0])
    assert series["busy"] == [3, 3]
    assert (series["tunnels"], series["connections"]) == ([7, 7], [0, 0])
    assert 0.0025 < series["p50"][0] < series["p99"][0] <= 0.005
    assert series["p50"][1] == 0.0
    (one,) = some.upstreams()
    assert (one["requests"], one["errors5"], one["retries"]) == (25.0, 2.5, 0)


def test_a_second_look_at_one_moment_is_none():
    some = History()
    some.add(10.0, total(0))
    some.add(10.0, total(5))
    assert some.series() == {}


def test_no_rate_is_negative():
    some = History()
    some.add(10.0, total(100))
    some.add(12.0, total(40))  # a killed worker took its last second along
    assert some.series()["requests"] == [0.0]
    assert some.series()["out"] == [0.0]


def test_an_upstream_that_came_by_reload_and_one_that_went():
    some = History()
    first = total(10)
    del first["counters"]["upstreams"]["http://u"]
    some.add(10.0, first)
    some.add(12.0, total(10))
    assert some.upstreams()[0]["requests"] == 5.0
    some.add(14.0, total(10, retired=True))
    assert some.upstreams() == []
    assert some.series()["busy"][-1] == 0


def test_a_state_without_counts():
    some = History()
    bare = total(1)
    bare["counters"] = {}
    some.add(1.0, bare)
    some.add(2.0, bare)
    assert some.upstreams()[0]["requests"] == 0.0
    assert some.series()["requests"] == [0.0]


def test_rows_are_bounded():
    some = History()
    for moment in range(history.LENGTH + 10):
        some.add(float(moment), total(0))
    assert len(some.series()["requests"]) == history.LENGTH
