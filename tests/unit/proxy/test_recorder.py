"""The notes of one worker: gathered, counted, logged."""

import dataclasses

from rawproxy.config.model import Address, Config
from rawproxy.protocol.http.rewrite import context
from rawproxy.protocol.http1.parser import parse_request
from rawproxy.proxy.recorder import BATCH, WAIT, Recorder

CONTEXT = context(b"192.0.2.1", b"https", False, False, None)
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


def answer(recorder: Recorder, times: int = 1) -> None:
    for _ in range(times):
        recorder.record(HEAD, CONTEXT, 200, 1)


def test_without_a_loop_nothing_waits():
    log = []
    answer(Recorder(Config(), log.append), 2)
    assert [text.count(b"\n") for text in log] == [1, 1]


def test_a_batch_is_written_at_once_and_the_rest_after_a_while():
    log, later = [], Later()
    recorder = Recorder(Config(), log.append)
    recorder.gather(later)
    answer(recorder, BATCH + 2)
    assert [text.count(b"\n") for text in log] == [BATCH]
    later.over()
    assert [text.count(b"\n") for text in log] == [BATCH, 2]
    answer(recorder)
    later.over()
    assert len(log) == 3


def test_a_line_bears_the_time_of_its_request_not_of_its_batch():
    log = []
    recorder = Recorder(Config(), log.append)
    recorder.gather(Later())
    recorder.stamp(0.0)
    answer(recorder)
    recorder.stamp(86400.0 * 365)
    answer(recorder)
    recorder.flush()
    assert b"/1970:" in log[0] or b"/1969:" in log[0]
    assert b"/1971:" in log[1] or b"/1970:" in log[1]


def test_whoever_asks_for_the_counters_gets_all_of_them():
    recorder = Recorder(METERED, None)
    recorder.gather(Later())
    answer(recorder, 3)
    counts = recorder.counts()
    assert counts["requests"] == 3
    assert counts["protocols"] == [0, 3, 0]
    assert counts["upstreams"][""]["classes"][2] == 3


def test_nobody_watches():
    recorder = Recorder(Config(), None)
    recorder.gather(Later())
    answer(recorder)
    assert (recorder.counters.requests, recorder._ended) == (1, [])
