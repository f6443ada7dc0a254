"""The error log: a pipe that nobody reads, what is lost, what is one line."""

import fcntl
import logging
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from rawproxy.telemetry import error_log
from rawproxy.telemetry.error_log import Journal
from rawproxy.telemetry.repeats import PER_REASON
from tests.process import PATIENCE


class Reader:
    """A pipe, and a logger that writes into it."""

    def __init__(self, blocking: bool = True) -> None:
        self.fd, self.end = os.pipe()
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.end, blocking)
        self.journal = Journal(self.end)
        self.log = logging.Logger("test")
        self.log.addHandler(self.journal)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)  # whoever still waits to write gets an error
        self.journal.close()
        os.close(self.end)

    def read(self, stop: bytes) -> list[str]:
        """The lines up to one that has `stop` in it."""
        data = b""
        end = time.monotonic() + PATIENCE
        while stop not in data or not data.endswith(b"\n"):
            assert time.monotonic() < end, data[-500:]
            data += os.read(self.fd, 65536)
        return data.decode().splitlines()

    def fill(self) -> int:
        """No room for a single byte more; how many bytes are in the way."""
        other = os.open(f"/proc/self/fd/{self.end}", os.O_WRONLY | os.O_NONBLOCK)
        size = 0
        try:
            while True:
                size += os.write(other, b"x" * 64)
        except BlockingIOError:
            return size
        finally:
            os.close(other)


def test_a_line_has_time_level_and_message():
    with Reader() as pipe:
        pipe.log.warning("%s %d", "a", 1)
        (line,) = pipe.read(b"a 1")
        assert line.endswith(" rawproxy WARNING a 1")


@pytest.mark.parametrize("text", ["a\nforged", "a\r\nforged", "a\x1b[31mred", "a\x9bm", "a\u2028b"])
def test_a_message_is_one_line_whatever_is_in_it(text):
    with Reader() as pipe:
        pipe.log.warning("%s", text)
        pipe.log.warning("end")
        lines = pipe.read(b"end")
        assert len(lines) == 2
        assert lines[0].isprintable() and "\\" in lines[0]


def test_a_long_message_is_cut_and_says_so():
    with Reader() as pipe:
        pipe.log.warning("%s", "x" * 50_000)
        (line,) = pipe.read(b"more characters")
        assert len(line) < 2200


def test_arguments_that_do_not_fit_are_no_error():
    with Reader() as pipe:
        pipe.log.warning("%d", "x")
        (line,) = pipe.read(b"cannot be made")
        assert line.endswith("WARNING %d, of a message that cannot be made")


def test_a_line_out_of_the_threads_own_work():
    """As a destructor might, while somebody else logs."""
    with Reader() as pipe:
        pipe.log.warning("first")
        pipe.read(b"first")
        with pipe.journal._wake:
            other = threading.Thread(target=pipe.log.warning, args=("second",))
            other.start()
            time.sleep(0.05)
            pipe.log.warning("third")
        other.join(10)
        lines = pipe.read(b"second")
        assert len(lines) == 2 and lines[0].endswith("third")


def test_a_traceback_comes_along():
    with Reader() as pipe:
        try:
            raise ValueError("why")
        except ValueError:
            pipe.log.exception("internal error")
        lines = pipe.read(b"ValueError: why")
        assert "internal error" in lines[0] and "Traceback" in lines[1]


def test_what_repeats_is_counted():
    with Reader() as pipe:
        for number in range(5000):
            same = {"kind": 400, "reason": "cause"}
            pipe.log.warning("%d 400 from somebody: cause", number, extra=same)
        lines = pipe.read(b"more like it")
        assert len(lines) == PER_REASON + 1
        assert lines[-1].endswith(
            f" 4999 400 from somebody: cause ... and {4999 - PER_REASON:,} more like it"
        )
        assert pipe.journal.lost == 0


def test_a_line_that_would_only_be_counted_is_not_made():
    with Reader() as pipe:
        made = 0
        for number in range(5000):
            if not pipe.journal.again(("%d 400: cause", 400), "cause"):
                made += 1
                same = {"kind": 400, "reason": "cause"}
                pipe.log.warning("%d 400: cause", number, extra=same)
        assert made == PER_REASON + 1
        lines = pipe.read(b"more like it")
        assert lines[-1].endswith(
            f"{PER_REASON} 400: cause ... and {4999 - PER_REASON:,} more like it"
        )
    assert not error_log.again("%d", 400, "cause"), "a process without a journal says all"


def test_the_count_comes_though_nobody_logs_any_more_and_at_the_end_too():
    with Reader() as pipe:
        for _ in range(20):
            pipe.log.warning("again")
        assert pipe.read(b"and 9 more")
        pipe.log.warning("other")
        for _ in range(20):
            pipe.log.warning("again")
        pipe.journal.close()
        assert pipe.read(b"and 9 more")
        pipe.journal.close()


def test_a_full_pipe_blocks_nobody_and_what_is_lost_is_said(monkeypatch):
    monkeypatch.setattr(error_log, "LIMIT", 5_000)
    with Reader() as pipe:
        in_the_way = pipe.fill()
        began = time.process_time()
        for number in range(3000):  # each of a kind of its own: none is merely counted
            pipe.log.warning(f"{number} " + 100 * "y")
        assert time.process_time() - began < 3.0
        assert pipe.journal._size <= 5_000
        assert pipe.journal.lost > 50
        assert len(os.read(pipe.fd, in_the_way)) == in_the_way
        told = 0
        while told < pipe.journal.lost:  # the counts of the second that is over may be lost too
            lines = pipe.read(b"of this log are lost")
            told += sum(int(n) for n in re.findall(r"(\d+) lines of this log", "\n".join(lines)))
        assert told == pipe.journal.lost
        pipe.log.warning("and on it goes")
        pipe.read(b"and on it goes")


def test_a_reader_that_is_slow_gets_whole_lines_in_order():
    with Reader() as pipe:
        for number in range(100):
            pipe.log.warning(f"{number} {'z' * 150} is a kind")
        lines = pipe.read(b"99 " + b"z" * 150)
        numbers = [int(line.split()[4]) for line in lines]
        assert numbers == sorted(numbers)
        assert all(line.endswith("is a kind") for line in lines)


def test_a_descriptor_that_somebody_made_non_blocking():
    with Reader(blocking=False) as pipe:
        in_the_way = pipe.fill()
        pipe.log.warning("patience")
        time.sleep(0.05)
        os.read(pipe.fd, in_the_way)
        pipe.read(b"patience")
        assert pipe.journal.lost == 0


def test_one_that_stays_full_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(error_log, "PATIENCE", 0.1)
    for blocking in (True, False):
        with Reader(blocking) as pipe:
            pipe.fill()
            pipe.journal.say("for nobody")
            began = time.monotonic()
            pipe.journal.close()
            assert time.monotonic() - began < 5.0


def test_a_reader_that_has_gone_costs_lines_and_nothing_else():
    with Reader() as pipe:
        os.close(pipe.fd)
        pipe.log.warning("one")
        pipe.journal.flush()
        assert pipe.journal.lost == 1
        pipe.fd = os.open(os.devnull, os.O_RDONLY)


def test_a_line_that_was_cut_is_not_continued(monkeypatch):
    room = [30]

    def write(fd, data, really=os.write):
        if not room[0]:
            raise OSError("no room")
        count = really(fd, bytes(data[: room[0]]))
        room[0] -= count
        return count

    monkeypatch.setattr(error_log.os, "write", write)
    with Reader() as pipe:
        pipe.log.warning("one")
        pipe.journal.flush()
        room[0] = 10_000
        pipe.log.warning("two")
        lines = pipe.read(b"are lost")
        assert (
            len(lines) == 3
            and lines[1].endswith("two")
            and lines[2].endswith("1 lines of this log are lost")
        )


CHILD = """
import logging, sys, threading, warnings
from rawproxy.telemetry import error_log as journal
journal.say("before")
journal.set_up()
journal.set_up()
journal.log.info("ours")
logging.getLogger("asyncio").error("a library's")
warnings.warn("a warning")
class Odd:
    def __del__(self):
        raise ValueError("in del")
del (lambda: Odd())().x if False else [Odd()][0:0]
thread = threading.Thread(target=lambda: 1 / 0, name="some-thread")
thread.start()
thread.join()
thread = threading.Thread(target=sys.exit)
thread.start()
thread.join()
journal.cannot(["why not"])
assert journal.lost() == 0
journal.flush()
raise RuntimeError("uncaught")
"""


def child(code: str, **options) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )
    return done.stderr


def test_everything_of_a_process_goes_this_way():
    said = child(CHILD.replace("del (lambda: Odd())().x if False else [Odd()][0:0]", "Odd()"))
    lines = said.splitlines()
    assert lines[0] == "before"
    for line in lines:
        plain = line in ("before", "rawproxy: error: why not")
        inner = line.startswith(
            (" ", "Traceback", "ValueError", "ZeroDivisionError", "RuntimeError")
        )
        assert plain or inner or " rawproxy " in line, line
    for text in (
        "INFO ours", "ERROR a library's", "WARNING <string>:", "UserWarning: a warning",
        "ValueError: in del", "ERROR internal error in some-thread", "ZeroDivisionError",
        "CRITICAL internal error, which ends this process", "RuntimeError: uncaught",
    ):  # fmt: skip
        assert text in said, text
    assert "SystemExit" not in said


def test_a_closed_standard_error_is_nobody_elses():
    code = "import os; from rawproxy.telemetry import error_log as journal; journal.set_up(); print(os.readlink('/proc/self/fd/2'))"
    shell = f'{sys.executable} -c "{code}" 2>&-'
    done = subprocess.run(
        shell, shell=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.strip() == "/dev/null"
