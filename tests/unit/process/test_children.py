"""Back-off, and what is said of a process that has ended."""

import signal
import subprocess
import sys

import pytest

from rawproxy.process.children import (
    HEALTHY,
    LONGEST_PAUSE,
    PAUSE,
    Backoff,
    SignalPipe,
    how_it_ended,
)
from tests.process import PATIENCE


def test_the_first_death_costs_no_time_and_the_next_ones_ever_more():
    backoff = Backoff()
    pauses = [backoff.after(0.1) for _ in range(10)]
    assert pauses[:4] == [0, PAUSE, 2 * PAUSE, 4 * PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert backoff.after(HEALTHY) == 0, "it had lived"
    assert backoff.after(0.1) == PAUSE


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit(3)", "exited with 3"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    ],
)
def test_how_it_ended(program, words):
    process = subprocess.Popen([sys.executable, "-c", program])
    process.wait(20)
    assert how_it_ended(process) == words


def test_a_signal_without_a_name():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    process.returncode = -50
    assert how_it_ended(process) == "was killed by signal 50"


def test_signals_are_bytes_and_the_old_handlers_come_back():
    before = signal.getsignal(signal.SIGUSR1)
    with SignalPipe([signal.SIGUSR1]) as pipe:
        assert pipe.read() == b""
        signal.raise_signal(signal.SIGUSR1)
        pipe.sock.setblocking(True)
        pipe.sock.settimeout(PATIENCE)
        assert pipe.read() == bytes([signal.SIGUSR1])
    assert signal.getsignal(signal.SIGUSR1) == before
