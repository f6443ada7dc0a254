"""Flow control against a model that keeps no balance: it counts what was ever said and done."""

from dataclasses import dataclass, field

import hypothesis
import hypothesis.stateful as sm
import pytest
from hypothesis import strategies as st

from rawproxy.protocol.http2.flow_control import (
    CONNECTION,
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

SIZES = st.one_of(
    st.sampled_from((0, 1, 16_384, DEFAULT_WINDOW, MAX_WINDOW)), st.integers(0, MAX_WINDOW)
)


@dataclass
class Said:
    """All that both sides have said of one direction, in the RFC's words."""

    initial: list[int]
    data: list[int] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)
    consumed: list[int] = field(default_factory=list)

    def left(self) -> int:
        return self.initial[-1] + sum(self.updates) - sum(self.data)


def judge(expected: bool, fault: type[Exception], call, *args) -> bool:
    """Whether it was allowed, and that it was as `expected`."""
    if expected:
        call(*args)
        return True
    with pytest.raises(fault) as caught:
        call(*args)
    assert type(caught.value) is fault and caught.value.code is Code.FLOW_CONTROL_ERROR
    return False


class Connection(sm.RuleBasedStateMachine):
    """A connection and its streams; `said` is what the model knows of each window."""

    streams = sm.Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.next = 1
        self.connect()

    def connect(self) -> None:
        """A connection whose streams nobody has begun yet."""
        self.flow = FlowControl()
        self.initial = [DEFAULT_WINDOW]  # what SETTINGS said, one after the other
        self.out = Said([DEFAULT_WINDOW])
        self.came = Said([CONNECTION])
        self.open: dict[int, tuple[Window, Said, Window, Said]] = {}

    @sm.rule(target=streams)
    def begin(self) -> int:
        number, self.next = self.next, self.next + 2
        send, receive = self.flow.sender(), self.flow.receiver()
        self.open[number] = (send, Said(self.initial), receive, Said([STREAM]))
        return number

    @sm.rule(number=streams, size=SIZES)
    def we_send(self, number: int, size: int) -> None:
        """Both windows have to allow it (6.9.1)."""
        if number not in self.open:
            return
        window, said, _, _ = self.open[number]
        room = min(self.flow.send.left, window.left)
        assert room == min(self.out.left(), said.left())
        size = min(size, max(room, 0))
        for one, model in ((self.flow.send, self.out), (window, said)):
            one.take(size)
            model.data.append(size)

    @sm.rule(number=streams, size=SIZES)
    def we_overstep(self, number: int, size: int) -> None:
        if number in self.open:
            window, said, _, _ = self.open[number]
            allowed = size <= max(said.left(), 0)
            if judge(allowed, StreamFault, window.take, size):
                said.data.append(size)

    @sm.rule(number=st.one_of(st.just(0), streams), size=st.integers(1, MAX_WINDOW))
    def update_comes(self, number: int, size: int) -> None:
        if number and number not in self.open:
            return
        window, said = self.open[number][:2] if number else (self.flow.send, self.out)
        fault = StreamFault if number else ConnectionFault
        if judge(said.left() + size <= MAX_WINDOW, fault, window.credit, size):
            said.updates.append(size)

    @sm.rule(sizes=st.lists(SIZES, min_size=1, max_size=4))
    def settings_come(self, sizes: list[int]) -> None:
        """The model takes them one by one (6.9.2), as they stand in the frame."""
        fits = True
        for size in sizes:
            self.initial.append(size)
            fits = fits and all(said.left() <= MAX_WINDOW for _, said, _, _ in self.open.values())
        windows = [window for window, _, _, _ in self.open.values()]
        if not judge(fits, ConnectionFault, self.flow.resize, sizes, windows):
            self.connect()  # such a connection ends, and so do its windows

    @sm.rule(number=streams, size=st.one_of(st.integers(0, 16_384), SIZES))
    def data_comes(self, number: int, size: int) -> None:
        if number not in self.open:
            return
        _, _, window, said = self.open[number]
        if size > self.came.left():
            judge(False, ConnectionFault, self.flow.received, size)
            return
        self.came.data.append(size)
        self.came.updates.append(self.flow.received(size))
        if judge(size <= said.left(), StreamFault, window.take, size):
            said.data.append(size)

    @sm.rule(number=streams, share=st.fractions(0, 1), hold=st.booleans())
    def bytes_are_taken(self, number: int, share, hold: bool) -> None:
        """As far as they have come; `hold`: no credit for now, as the upstream is full."""
        if number not in self.open:
            return
        _, _, window, said = self.open[number]
        size = int((sum(said.data) - sum(said.consumed)) * share)
        said.consumed.append(size)
        window.consume(size)
        owed = sum(said.consumed) + (window.size - STREAM) - sum(said.updates)
        assert window.due() == (owed >= window.size // 2)
        if window.due() and not hold:
            self.flow.widen(window)
            said.updates.append(window.give())

    @sm.rule(number=streams)
    def end(self, number: int) -> None:
        if number in self.open:
            self.flow.ended(self.open.pop(number)[2])

    @sm.invariant()
    def the_windows_are_what_was_said(self) -> None:
        assert self.flow.send.left == self.out.left() <= MAX_WINDOW
        assert self.flow.receive.left == self.came.left()
        assert self.flow.initial == self.initial[-1]
        grown = 0
        for send, sent, receive, came in self.open.values():
            assert send.left == sent.left() <= MAX_WINDOW
            assert receive.left == came.left() >= 0
            # What nobody has taken yet, and what the client may still send, is never more.
            assert sum(came.data) - sum(came.consumed) + receive.left <= receive.size <= WIDEST
            # Nothing that was consumed is lost: it was given back, or is owed.
            assert sum(came.updates) + receive.owed == sum(came.consumed) + receive.size - STREAM
            grown += receive.size - STREAM
        assert self.flow.grown == grown <= GROWTH

    @sm.invariant()
    def the_connection_is_wide_open(self) -> None:
        assert self.flow.receive.left > CONNECTION - CONNECTION // 16


Connection.TestCase.settings = hypothesis.settings(max_examples=60, stateful_step_count=40)
TestConnection = Connection.TestCase
