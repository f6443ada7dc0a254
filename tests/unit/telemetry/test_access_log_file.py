"""The access log's thread: a full disk, a pipe nobody reads."""

import contextlib
import errno
import logging
import os
import time

import pytest

from rawproxy.telemetry import access_log_file
from tests.process import PATIENCE


@contextlib.contextmanager
def complaints():
    """What it says, in a list."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    access_log_file.log.addHandler(handler)
    try:
        yield said
    finally:
        access_log_file.log.removeHandler(handler)


def until(check) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_disk_without_room_is_said_once():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with complaints() as said:
        log = access_log_file.LogSink("/dev/full")
        for _ in range(4):
            log.write(b"line\n")
            time.sleep(1.5 * access_log_file.INTERVAL)
        log.close()
    assert len(said) == 1 and "No space left on device; 1 lines lost" in said[0]
    assert log._lost == 3


def test_a_cut_line_stays_alone(tmp_path, monkeypatch):
    room = [7]

    def write(fd, data, really=os.write):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = really(fd, bytes(data[: room[0]]))
        room[0] -= count
        return count

    path = tmp_path / "log"
    monkeypatch.setattr(access_log_file.os, "write", write)
    with complaints() as said:
        log = access_log_file.LogSink(str(path))
        log.write(b"one\n")
        log.write(b"two\n")
        until(lambda: said)
        log.write(b"three\n")
        until(lambda: log._lost)
        room[0] = 100
        log.write(b"four\n")
        until(lambda: path.read_bytes().endswith(b"four\n"))
        log.close()
    assert path.read_bytes() == b"one\ntwo\nfour\n"


def test_more_than_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(access_log_file, "LIMIT", 1)
    with complaints() as said:
        log = access_log_file.LogSink(str(tmp_path / "log"))
        for _ in range(3):
            log.write(b"line\n")
        until(lambda: said)
        log.close()
    assert said == ["the disk or the reader of the access log is too slow: 2 lines lost"]


def test_after_a_rotation_lines_go_to_the_new_file(tmp_path):
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = access_log_file.LogSink(str(path))
    log.write(b"one\n")
    until(lambda: path.read_bytes())
    path.rename(old)
    log.reopen()
    log.write(b"two\n")
    until(path.exists)
    log.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_a_rotation_that_fails_loses_nothing(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = access_log_file.LogSink(str(folder / "log"))
    folder.rename(tmp_path / "gone")
    with complaints() as said:
        log.reopen()
        log.write(b"one\n")
        until(lambda: said)
        log.close()
    assert "stays in its old file" in said[0]
    assert (tmp_path / "gone" / "log").read_bytes() == b"one\n"
    assert log.lost == 0


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(monkeypatch, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = access_log_file.LogSink(str(path))
    os.set_blocking(log._fd, False)
    data = b"x" * 99 + b"\n"
    log.write(data * 2000)  # more than a pipe takes
    got = b""
    end = time.monotonic() + PATIENCE
    while len(got) < 200_000:
        assert time.monotonic() < end
        with contextlib.suppress(BlockingIOError):
            got += os.read(reader, 65536)
    assert log.lost == 0
    log.write(data * 2000)
    time.sleep(2 * access_log_file.INTERVAL)
    log.close()  # and nobody reads
    os.close(reader)
