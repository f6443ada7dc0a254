"""Writes access log lines to a file or to standard output, in a thread of its own.

A pipe that nobody reads, or a full disk, must not stop the event loop. So the loop only appends
lines to a list. This module never makes a line. Invariants: at most `LIMIT` bytes wait. Lines
beyond that are lost, and so are those that a full disk does not take. A message says how many, at
most every `SILENCE` seconds. A line that the end of the disk has cut is never continued by another
line. After `reopen` each line goes to the file that has the name now, and none is lost by that.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time

log = logging.getLogger("rawproxy")
LIMIT = 20 << 20  # bytes, 100,000 lines: some seconds of full load while a disk recovers
SILENCE = 10.0  # seconds between two messages: a full disk must not fill the error log as well
INTERVAL = 0.1  # seconds in which lines are gathered for one write


class LogSink:
    """One access log. `path` is a file name, or `-` for standard output. Raises `OSError`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = self._open()
        self._lines: list[bytes] = []
        self._size = 0  # of these
        self._dropped = 0
        self._lost = 0  # lines that could not be written
        self._cause: OSError | None = None
        self._cut = False  # the last line in the file is not whole
        self._said = -SILENCE
        self.lost = 0  # lines that will never be there, for the metrics
        self._reopen = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Queue whole lines. The event loop calls this; it never blocks."""
        if self._size < LIMIT:
            self._size += len(lines)
            self._lines.append(lines)
        else:
            count = lines.count(b"\n")
            self._dropped += count
            self.lost += count

    def reopen(self) -> None:
        """Use a new file from now on: the old one was renamed (logrotate)."""
        self._reopen = True

    def close(self) -> None:
        """Write what is queued, for a second at most, and stop."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(INTERVAL)
            reopen, self._reopen = self._reopen, False
            lines, self._lines, self._size = self._lines, [], 0
            if reopen:
                self._switch()
            if lines:
                self._write(b"".join(lines))
            if (self._lost or self._dropped) and time.monotonic() >= self._said + SILENCE:
                self._complain()
        os.close(self._fd)

    def _open(self) -> int:
        if self._path == "-":
            return os.dup(1)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def _switch(self) -> None:
        """Open the path anew. If that fails, the old file stays in use."""
        try:
            new = self._open()
        except OSError as error:
            log.error(
                "the access log cannot be opened anew, and stays in its old file: %s: %s",
                self._path,
                error.strerror,
            )
            return
        os.close(self._fd)
        self._fd = new
        self._cut = False

    def _write(self, lines: bytes) -> None:
        """Write all lines, or as many bytes as there is room for."""
        data = memoryview(lines)
        done = 0
        try:
            if self._cut:
                os.write(self._fd, b"\n")
                self._cut = False
            while done < len(data):
                try:
                    done += os.write(self._fd, data[done:])
                except BlockingIOError:  # a pipe that came to us as a non-blocking one
                    if not select.select([], [self._fd], [], 1.0)[1] and self._stop.is_set():
                        raise
        except OSError as error:
            self._cause = error
            lost = lines.count(b"\n", done)
            self._lost += lost
            self.lost += lost
            self._cut = self._cut or (done > 0 and lines[done - 1 : done] != b"\n")

    def _complain(self) -> None:
        self._said = time.monotonic()
        lost, self._lost, dropped, self._dropped = self._lost, 0, self._dropped, 0
        if lost:
            log.error("the access log cannot be written: %s; %d lines lost", self._cause, lost)
        if dropped:
            log.warning(
                "the disk or the reader of the access log is too slow: %d lines lost", dropped
            )
