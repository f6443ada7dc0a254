"""The error log: what the admin should know, on standard error, in lines.

    log, warnings, uncaught errors ──► Journal: which are said (`repeats`) ──► a thread ──► stderr

A pipe that nobody reads must not stop the code that logs. So that code only appends to a list, and
a thread writes; it starts with the first line. Lines of the same kind are said a few times a
second, and further ones are counted. All loggers, Python's warnings and uncaught errors go this
way, in every process.

It blocks only in `say`, in `cannot` and at the end, and there for `PATIENCE` at most. Invariants:
at most `LIMIT` bytes wait; further lines are lost, and a line says how many. Whatever a message
holds, it is one line; only a traceback has several. Lines of several processes never mix.
"""

from __future__ import annotations

import logging
import os
import re
import select
import sys
import threading
from time import monotonic
from types import TracebackType
from typing import Any

from rawproxy.telemetry.repeats import Repeats

log = logging.getLogger("rawproxy")

LIMIT = 1 << 20  # bytes, some 7,000 lines: as many as a reader that stalls will want to see after
WHOLE = 4096  # bytes in one write to a pipe that others' bytes cannot get into (PIPE_BUF of Linux)
LONGEST = 2048  # characters of a message: a target may have 16 KiB
PATIENCE = 1.0  # seconds for lines to be written before a process ends, or when it starts
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Journal(logging.Handler):
    """The lines of one process, written to the descriptor `fd`."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._times = logging.Formatter()
        self._wake = threading.Condition()
        self._repeats: Repeats[logging.LogRecord] = Repeats()
        self._lines: list[bytes] = []
        self._size = 0  # of these
        self._writing = False
        self._cut = False  # the last line that was written is not whole
        self._untold = 0  # lines lost since that was last said
        self._thread: threading.Thread | None = None
        self._closed = False
        self._stuck = False  # the last `flush` waited in vain
        self.lost = 0  # lines that nobody will see, for the metrics

    # ── the code that logs ──────────────────────────────────────────────────────────────────────

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle a record as any handler does, but with one lock only.

        A destructor may log in the middle of the thread's work. The thread must not wait for a lock
        whose owner waits for the thread.
        """
        try:
            self.emit(record)
        except (TypeError, ValueError):  # the arguments do not fit the message
            record.msg, record.args = "%s, of a message that cannot be made", (record.msg,)
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of a record, or count it."""
        # What a caller says in `extra`; else each text is a reason of its own.
        kind = (record.msg if isinstance(record.msg, str) else "", getattr(record, "kind", 0))
        reason = getattr(record, "reason", None) or record.getMessage()
        now = monotonic()
        with self._wake:
            if now >= self._repeats.ends:
                self._settle(now)
            if self._repeats.admit(kind, reason, record):
                self._put(self.line(record))
            else:
                record.exc_info = None  # the record may be kept for a second, but not its frames
                if self._repeats.over == 1:
                    self._start()  # to say how many, even if nobody logs any more

    def again(self, kind: tuple[str, object], reason: str) -> bool:
        """Whether a line would only be counted. It is, then, and need not be made."""
        with self._wake:
            return monotonic() < self._repeats.ends and self._repeats.again(kind, reason)

    def say(self, text: str) -> None:
        """Write lines that somebody waits for.

        They are written when this returns, if they can be.
        """
        with self._wake:
            self._put(text.encode("utf-8", "backslashreplace") + b"\n")
        self.flush()

    def line(self, record: logging.LogRecord, more: int = 0) -> bytes:
        """The line of a record. `more` records like it have no line."""
        message = record.getMessage()
        if len(message) > LONGEST:
            message = f"{message[:LONGEST]} [{len(message) - LONGEST} more characters]"
        message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], message)
        stamp = self._times.formatTime(record)
        text = f"{stamp} rawproxy {record.levelname} {message}"
        if more:
            text += f" ... and {more:,} more like it"
        if record.exc_info:
            text += "\n" + self._times.formatException(record.exc_info)
        return text.encode("utf-8", "backslashreplace") + b"\n"

    def _put(self, line: bytes) -> None:
        if self._size + len(line) > LIMIT:
            self.lost += 1
            self._untold += 1
            return
        self._size += len(line)
        self._lines.append(line)
        self._start()

    def _settle(self, now: float) -> None:
        for record, more in self._repeats.settle(now):
            self._put(self.line(record, more))

    def _start(self) -> None:
        """Start the thread if there is none, and wake it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="error-log", daemon=True)
            self._thread.start()
        self._wake.notify_all()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def flush(self) -> None:
        """Wait until all lines are written, for `PATIENCE` at most."""
        with self._wake:
            done = self._wake.wait_for(lambda: not self._lines and not self._writing, PATIENCE)
            self._stuck = not done

    def close(self) -> None:
        """Take no more lines, and say what was only counted. `logging` calls this at exit."""
        with self._wake:
            if not self._closed:
                self._settle(monotonic())
                self._closed = True
                self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(0.0 if self._stuck else PATIENCE)
        super().close()

    # ── the thread ──────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._lines and not self._closed:
                    wait = self._repeats.ends - monotonic() if self._repeats.over else None
                    if wait is not None and wait <= 0:
                        self._settle(monotonic())
                    else:
                        self._wake.wait(wait)
                lines, self._lines, self._size = self._lines, [], 0
                self._writing = bool(lines)
            if not lines:
                return
            taken = self._write(lines)
            with self._wake:
                if self._untold and taken:
                    lost, self._untold = self._untold, 0
                    text = "standard error could not take everything: %d lines of this log are lost"
                    # Not by the logger, where this thread would wait for the code that logs just
                    # now, and not by `_put`, which might lose this line too.
                    self._lines.append(self.line(_record(logging.WARNING, text, lost)))
                    self._size += len(self._lines[-1])
                self._writing = False
                self._wake.notify_all()

    def _write(self, lines: list[bytes]) -> bool:
        """Write in pieces that lines of other processes cannot cut.

        The result says whether all bytes were taken.
        """
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if piece and size + len(line) > WHOLE:
                self._write_piece(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        return self._write_piece(piece)

    def _write_piece(self, piece: list[bytes]) -> bool:
        data = (b"\n" if self._cut else b"") + b"".join(piece)
        done = 0
        while done < len(data):
            try:
                done += os.write(self._fd, memoryview(data)[done:])
            except BlockingIOError:  # the descriptor came to us as a non-blocking one
                select.select([], [self._fd], [], PATIENCE)
                if self._closed:
                    break
            except OSError:
                break
        lost = data.count(b"\n", done)
        self._cut = 0 < done < len(data) and data[done - 1 : done] != b"\n"
        with self._wake:
            self.lost += lost
            self._untold += lost
        return not lost


def _record(level: int, text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("rawproxy", level, "", 0, text, arguments, None)


_journal: Journal | None = None


def set_up(*, serving: bool = True) -> None:
    """Set up the log of a process. Call it once, before anything can log.

    `serving`: what Python itself would write to standard error goes to the log too.
    """
    global _journal
    if _journal is not None:
        return
    if sys.stderr is None:  # it is closed, and its number must not become that of a socket
        os.open(os.devnull, os.O_WRONLY)
    _journal = Journal()
    log.addHandler(_journal)
    log.setLevel(logging.INFO)
    log.propagate = False
    if not serving:
        return
    logging.getLogger().addHandler(_journal)  # asyncio's, Python's warnings, any library's
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread


def again(text: str, kind: object, reason: str) -> bool:
    """Whether a line of `text` (with its `%`) would only be counted: then it has been.

    `kind` and `reason` are what a caller says in `extra`. To make a line costs as much as serving
    two requests, and whoever is refused may come ten thousand times a second.
    """
    return _journal is not None and _journal.again((text, kind), reason)


def say(text: str) -> None:
    """Print lines for those who started the process, as they are, after all that was logged."""
    if _journal is None:
        print(text, file=sys.stderr, flush=True)
    else:
        _journal.say(text)


def cannot(reasons: list[str]) -> None:
    """Print why the process cannot start, in the form of the command line's errors."""
    for reason in reasons:
        say(f"rawproxy: error: {reason}")


def flush() -> None:
    """Write what is queued. Call it before the process ends by a signal."""
    if _journal is not None:
        _journal.flush()


def lost() -> int:
    """How many lines nobody will ever see."""
    return 0 if _journal is None else _journal.lost


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log the error that ends the process.

    Python itself would write it, and might wait for ever.
    """
    log.critical("internal error, which ends this process", exc_info=(kind, error, trace))


def _in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and told.exc_type is not SystemExit:
        where = told.thread.name if told.thread is not None else "a thread"
        facts = (told.exc_type, told.exc_value, told.exc_traceback)
        log.error("internal error in %s", where, exc_info=facts)


def _unraisable(told: Any) -> None:
    """Log an error that Python could not raise, as in a destructor."""
    facts = (told.exc_type, told.exc_value, told.exc_traceback)
    log.error("internal error: %s", told.err_msg or "in a destructor", exc_info=facts)
