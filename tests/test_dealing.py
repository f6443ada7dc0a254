"""The order of tests that run side by side."""

import pathlib

import pytest

from tests.dealing import LONG, dealt

HERE = pathlib.Path(__file__).parent
FIRST, SECOND, *_ = sorted(LONG, key=LONG.__getitem__, reverse=True)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_longest_begin_each_piece_and_nothing_is_left_out(processes):
    names = ["a.py"] * 50 + [SECOND] * 3 + ["b.py"] * 60 + [FIRST] * 2
    order = dealt(names, processes)
    assert sorted(order) == list(range(len(names)))
    assert names[order[0]] == FIRST
    if processes > 1:
        begins = len(names) // processes  # of the second piece
        assert [names[at] for at in order[begins : begins + 3]] == [SECOND] * 3


def test_a_few_tests_keep_their_order_behind_the_long_ones():
    assert dealt(["a.py", FIRST, "b.py"], 2) == [1, 0, 2]
    assert dealt([FIRST, SECOND], 4) == [0, 1]
    assert dealt([], 2) == []


def test_what_is_named_is_there():
    assert [name for name in LONG if not (HERE / name).exists()] == []
