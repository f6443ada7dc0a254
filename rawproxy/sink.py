"""Where access-log lines go: a file or standard output, written by a thread of its own.

A pipe that nobody reads or a disk that is full must not stop the event loop, so the loop only
appends to a list. It never formats. Invariant: at most `LIMIT` lines wait; beyond that they are
dropped and the number dropped is said once there is room again.
"""

from __future__ import annotations

import logging
import os
import threading

log = logging.getLogger("rawproxy")
LIMIT = 100_000  # lines, about 20 MB: some seconds of full load while a disk recovers
INTERVAL = 0.1  # seconds that lines are gathered for one write


class LogSink:
    """One access log. `path` is a file name, or `-` for standard output. Raises `OSError`."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._fd = os.dup(1) if path == "-" else os.open(path, flags, 0o640)
        self._lines: list[bytes] = []
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line; called in the event loop, never blocks."""
        if len(self._lines) < LIMIT:
            self._lines.append(line)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued (for a second at most) and stop."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(INTERVAL)
            lines, self._lines = self._lines, []
            if self._dropped:
                log.warning("the access log could not keep up: %d lines lost", self._dropped)
                self._dropped = 0
            if lines:
                self._write(memoryview(b"".join(lines)), len(lines))
        os.close(self._fd)

    def _write(self, data: memoryview, count: int) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            log.error("the access log cannot be written: %s; %d lines lost", error, count)
