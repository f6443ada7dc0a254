"""Windows of flow control, by themselves (RFC 9113 5.2, 6.9)."""

import pytest

from rawproxy.protocol.http2.flow_control import (
    CONNECTION,
    CONNECTION_SHARE,
    GROWTH,
    STREAM,
    WIDEST,
    FlowControl,
    Window,
)
from rawproxy.protocol.http2.frames import (
    DEFAULT_WINDOW,
    MAX_WINDOW,
    Code,
    ConnectionFault,
    StreamFault,
)

FAULTS = (StreamFault, ConnectionFault)


@pytest.mark.parametrize("fault", FAULTS)
def test_data_has_to_fit(fault):
    window = Window(10, fault)
    window.take(4)
    window.take(6)
    assert window.left == 0
    with pytest.raises(fault, match="beyond the window") as caught:
        window.take(1)
    assert caught.value.code is Code.FLOW_CONTROL_ERROR
    assert window.left == 0


@pytest.mark.parametrize("left", [0, -5])
def test_an_empty_frame_fits_any_window(left):
    """RFC 9113 6.9.1: an END_STREAM needs no room."""
    window = Window(0, StreamFault)
    window.shift(left, left)
    window.take(0)
    assert window.left == left


@pytest.mark.parametrize("fault", FAULTS)
def test_no_window_gets_above_its_limit(fault):
    """6.9.1: an error of the stream for a stream's window, else of the connection."""
    window = Window(10, fault)
    window.credit(MAX_WINDOW - 10)
    with pytest.raises(fault, match=r"2\^31-1") as caught:
        window.credit(1)
    assert caught.value.code is Code.FLOW_CONTROL_ERROR
    assert window.left == MAX_WINDOW


def test_credit_is_given_once_it_is_worth_a_frame():
    window = Window(100, StreamFault)
    window.take(80)
    window.consume(49)
    assert not window.due()
    window.consume(1)
    assert window.due()
    assert repr(window) == "<Window 20 of 100, 50 owed>"
    assert (window.give(), window.left, window.owed) == (50, 70, 0)
    assert not window.due()
    assert window.give() == 0


def test_a_window_that_grows_is_given_its_growth_and_waits_for_more():
    window = Window(100, StreamFault)
    window.take(60)
    window.consume(60)
    window.grow(100)
    assert (window.give(), window.left, window.size) == (160, 200, 200)
    window.consume(99)
    assert not window.due()
    window.consume(1)
    assert window.due()


# ── a connection ────────────────────────────────────────────────────────────────────────────────


def test_what_a_connection_begins_with():
    flow = FlowControl()
    assert (flow.send.left, flow.receive.left) == (DEFAULT_WINDOW, CONNECTION)
    assert (flow.sender().left, flow.receiver().left) == (DEFAULT_WINDOW, STREAM)


def test_settings_move_the_windows_of_streams_alone_below_zero_too():
    """6.9.2: the connection's window is changed by WINDOW_UPDATE only."""
    flow = FlowControl()
    one, other = flow.sender(), flow.sender()
    one.take(DEFAULT_WINDOW)
    flow.resize([100, 20], [one, other])
    assert (one.left, other.left) == (20 - DEFAULT_WINDOW, 20)
    assert flow.sender().left == 20
    assert flow.send.left == DEFAULT_WINDOW
    with pytest.raises(StreamFault):
        one.take(1)
    one.credit(DEFAULT_WINDOW)
    one.take(20)
    assert one.left == 0


def test_settings_that_overflow_a_window_in_between_end_the_connection():
    flow = FlowControl()
    stream = flow.sender()
    stream.credit(1)
    with pytest.raises(ConnectionFault) as caught:
        flow.resize([MAX_WINDOW, 0], [stream])
    assert caught.value.code is Code.FLOW_CONTROL_ERROR
    assert stream.left == DEFAULT_WINDOW + 1
    flow.resize([MAX_WINDOW - 1], [])
    assert flow.initial == MAX_WINDOW - 1


def test_the_connection_gives_back_what_came_at_once():
    flow = FlowControl()
    step = CONNECTION // CONNECTION_SHARE
    assert flow.received(0) == 0
    assert flow.received(step - 1) == 0
    assert flow.receive.left == CONNECTION - step + 1
    assert flow.received(1) == step
    assert flow.receive.left == CONNECTION
    with pytest.raises(ConnectionFault):
        flow.received(CONNECTION + 1)


def test_a_stream_grows_up_to_its_bound():
    flow, sizes = FlowControl(), []
    window = flow.receiver()
    while not sizes or sizes[-1] != window.size:
        sizes.append(window.size)
        flow.widen(window)
    assert sizes == [STREAM << power for power in range(5)]
    assert sizes[-1] <= WIDEST < 2 * sizes[-1]
    assert flow.grown == sizes[-1] - STREAM
    flow.ended(window)
    assert flow.grown == 0


def test_all_streams_together_grow_up_to_a_bound():
    flow = FlowControl()
    windows = [flow.receiver() for _ in range(100)]
    for _ in range(6):
        for window in windows:
            flow.widen(window)
    assert GROWTH - STREAM < flow.grown <= GROWTH
    assert flow.grown == sum(window.size - STREAM for window in windows)
    narrow = next(window for window in windows if window.size == STREAM)
    wide = max(windows, key=lambda window: window.size)
    flow.ended(wide)
    flow.widen(narrow)
    assert narrow.size == 2 * STREAM
