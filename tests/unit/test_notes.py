"""The notes of one worker: gathered, counted, logged."""

import dataclasses

from rawproxy.config import Address, Config
from rawproxy.lanes import parse_request
from rawproxy.notes import BATCH, WAIT, Notes
from rawproxy.rewrite import hop

HOP = hop(b"192.0.2.1", b"https", False, False, None)
HEAD = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
METERED = dataclasses.replace(Config(), admin=Address("127.0.0.1", 1))


class Later:
    """A loop's timers, of which there should be one at a time."""

    def __init__(self) -> None:
        self.waiting = []

    def __call__(self, wait, call) -> None:
        assert wait == WAIT
        self.waiting.append(call)

    def over(self) -> None:
        (call,) = self.waiting
        self.waiting = []
        call()


def answer(notes: Notes, times: int = 1) -> None:
    for _ in range(times):
        notes.record(HEAD, HOP, 200, 1)


def test_without_a_loop_nothing_waits():
    log = []
    answer(Notes(Config(), log.append), 2)
    assert [text.count(b"\n") for text in log] == [1, 1]


def test_a_batch_is_written_at_once_and_the_rest_after_a_while():
    log, later = [], Later()
    notes = Notes(Config(), log.append)
    notes.gather(later)
    answer(notes, BATCH + 2)
    assert [text.count(b"\n") for text in log] == [BATCH]
    later.over()
    assert [text.count(b"\n") for text in log] == [BATCH, 2]
    answer(notes)
    later.over()
    assert len(log) == 3


def test_a_line_bears_the_time_of_its_request_not_of_its_batch():
    log = []
    notes = Notes(Config(), log.append)
    notes.gather(Later())
    notes.stamp(0.0)
    answer(notes)
    notes.stamp(86400.0 * 365)
    answer(notes)
    notes.flush()
    assert b"/1970:" in log[0] or b"/1969:" in log[0]
    assert b"/1971:" in log[1] or b"/1970:" in log[1]


def test_whoever_asks_for_the_counters_gets_all_of_them():
    notes = Notes(METERED, None)
    notes.gather(Later())
    answer(notes, 3)
    counts = notes.counts()
    assert counts["requests"] == 3
    assert counts["protocols"] == [0, 3, 0]
    assert counts["upstreams"][""]["classes"][2] == 3


def test_nobody_watches():
    notes = Notes(Config(), None)
    notes.gather(Later())
    answer(notes)
    assert (notes.counters.requests, notes._ended) == (1, [])
