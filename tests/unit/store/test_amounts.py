"""Amounts as bytes: what goes out comes in, and nonsense does no harm."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.store.amounts import LARGEST, MOST, Amounts, packed, unpacked

NAMES = st.integers(1, 2**64 - 1)
PAIRS = st.lists(st.tuples(NAMES, st.floats(-LARGEST, LARGEST)), max_size=20)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), PAIRS)
def test_it_comes_out_as_it_went_in(who, number, pairs):
    one = Amounts(who, number, "access", tuple(pairs))
    assert unpacked(packed(one)) == one


@given(st.binary(max_size=200))
def test_any_bytes_are_amounts_that_can_be_added_or_none(data):
    try:
        found = unpacked(data)
    except ValueError:
        return
    assert all(math.isfinite(s) and abs(s) <= LARGEST and n for n, s in found.spent)


def test_what_cannot_be_is_left_out():
    one = packed(Amounts(1, 2, "r", ()))
    wrong = [(0, 1.0), (1, math.nan), (2, math.inf), (3, 1e9), (4, 1.5)]
    data = one + b"".join(struct.pack("<Qd", *pair) for pair in wrong)
    assert unpacked(data).spent == ((4, 1.5),)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 16, packed(Amounts(1, 1, "room", ()))[:-1], b"x" * (1 << 20)]
)
def test_half_a_message_is_none(data):
    with pytest.raises(ValueError, match="not a message of amounts"):
        unpacked(data)


def test_no_more_than_so_many_keys_go_out():
    one = Amounts(1, 1, "r", tuple((n + 1, 1.0) for n in range(MOST + 5)))
    assert len(unpacked(packed(one)).spent) == MOST
