"""Slow-loris, small: `make slowloris` mounts it with 2,000 attackers and measures."""

import asyncio

import pytest

from tests.slowloris import attack

ATTACKERS = 200
MEGABYTES = 64  # by which memory may grow: 200 times the buffers of a connection, and the noise


@pytest.mark.parametrize(("form", "ends"), [("head", "408"), ("body", "408"), ("read", "cut")])
def test_attackers_are_cut_and_honest_clients_served(form, ends):
    figures = asyncio.run(attack(form, ATTACKERS, 0, timeout=1.0))
    assert figures.ends == {ends: ATTACKERS}
    assert figures.requests >= 100
    assert not figures.refused
    assert figures.grown < MEGABYTES
