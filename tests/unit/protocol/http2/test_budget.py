"""The budget of what serves no request."""

import pytest

from rawproxy.protocol.http2.budget import RESET, Budget
from rawproxy.protocol.http2.frames import Code, ConnectionFault


def test_what_is_spent_is_refilled_and_earned_again():
    budget = Budget(10, 2)
    budget.spend(10, "PING")
    with pytest.raises(ConnectionFault, match="to no end: PING") as caught:
        budget.spend(1, "PING")
    assert caught.value.code is Code.ENHANCE_YOUR_CALM
    budget.tick()
    assert budget.left == 1
    budget.earn(100)
    assert budget.left == 10


def test_what_is_owed_is_asked_for_at_the_next_frame():
    budget = Budget(RESET, 1)
    budget.owe(RESET)
    budget.spend(0, "resets")
    budget.owe(RESET)
    with pytest.raises(ConnectionFault, match="resets"):
        budget.spend(0, "resets")
