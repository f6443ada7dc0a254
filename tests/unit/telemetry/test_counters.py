"""Counts, their sums and quantiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.telemetry.counters import BUCKETS, Tally, add, quantile, total

LEAVES = st.integers(0, 1000)
TREES = st.dictionaries(
    st.sampled_from("abc"), LEAVES | st.lists(LEAVES, min_size=3, max_size=3), max_size=3
).map(lambda tree: {name + str(type(leaf).__name__): leaf for name, leaf in tree.items()})


def test_a_tally():
    tally = Tally()
    tally.time(0.0005, 0.0)
    tally.time(0.3, 0.2)
    tally.time(1000.0, 61.0)
    tree = tally.counters()
    assert (tree["cells"][0], tree["cells"][-1], sum(tree["cells"])) == (1, 1, 3)
    assert tree["cells"][BUCKETS.index(0.5)] == 1
    assert sum(tree["first_cells"]) == 2
    assert tree["seconds"] == pytest.approx(1000.3005)
    tally.time(1.0, 0.0)
    assert sum(tree["cells"]) == 3, "a snapshot does not change"


@given(TREES, TREES, TREES)
def test_adding(one, other, third):
    assert add(one, {}) == one
    assert add(one, other) == add(other, one)
    assert add(add(one, other), third) == add(one, add(other, third))
    assert set(add(one, other)) == set(one) | set(other)


def test_of_two_shapes_the_newer_one_counts():
    assert add({"n": [1, 2]}, {"n": [1, 2, 3]}) == {"n": [1, 2, 3]}
    assert add({"n": 1}, {"n": {"a": 1}}) == {"n": {"a": 1}}


def test_workers_that_are_gone_still_count():
    def worker(n: int) -> dict:
        counters = {"n": n, "upstreams": {"u": {"cells": [n, 0]}}}
        return {"counters": counters, "gauges": {"open": n}, "worker": {"pid": n}}

    gone = add({}, worker(5)["counters"])
    both = total([worker(1), worker(2)], gone)
    assert both == {
        "counters": {"n": 8, "upstreams": {"u": {"cells": [8, 0]}}}, "gauges": {"open": 3}
    }  # fmt: skip
    assert total([], {}) == {"counters": {}, "gauges": {}}


def test_quantiles():
    empty = [0] * (len(BUCKETS) + 1)
    assert quantile(0.5, empty) == 0.0
    cells = [*empty]
    cells[BUCKETS.index(0.01)] = 100
    assert quantile(0.5, cells) == pytest.approx(0.0075)
    assert quantile(1.0, cells) == pytest.approx(0.01)
    cells[-1] = 900
    assert quantile(0.99, cells) == 60.0
    cells[BUCKETS.index(0.05)] = 9000
    assert 0.025 < quantile(0.5, cells) < 0.05


def test_trees_are_added_leaf_by_leaf():
    one = {"a": 1, "only": 2, "deep": {"cells": [1, 2], "x": 1.5}}
    other = {"a": 3, "new": 4, "deep": {"cells": [10, 20], "x": 2}}
    assert add(one, other) == {
        "a": 4, "only": 2, "new": 4, "deep": {"cells": [11, 22], "x": 3.5},
    }  # fmt: skip
    assert one == {"a": 1, "only": 2, "deep": {"cells": [1, 2], "x": 1.5}}, "untouched"


def test_the_newer_shape_wins_where_two_versions_differ():
    assert add({"a": [1, 2]}, {"a": [1, 2, 3]}) == {"a": [1, 2, 3]}
    assert add({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert add({"a": "old"}, {"a": "new"}) == {"a": "new"}
