"""Pipes for what a program says, of which the reader may be somebody who does not read."""

import contextlib
import fcntl
import os
import pathlib
import select
import threading

SIZE = 4096  # bytes that it holds: the least that the kernel allows
LOOK = 0.05  # seconds until a reader notices that it is to stop


class Pipe:
    """A pipe that its reader leaves as it is until `drain`."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, SIZE)
        self.data = b""

    def until(self, text: bytes) -> None:
        while text not in self.data:
            self.data += os.read(self.reader, 65536)

    def fill(self) -> None:
        other = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(other, b"x" * 64)
        os.close(other)

    def drain(self) -> threading.Thread:
        """Read all from now on, until every writer has gone."""
        os.close(self.writer)

        def read() -> None:
            while data := os.read(self.reader, 65536):
                self.data += data
            os.close(self.reader)

        thread = threading.Thread(target=read)
        thread.start()
        return thread


class Copied(Pipe):
    """What comes is copied into a file, until `deafen`, and again from `hear` on."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = path
        self.stops = threading.Event()
        self.stops.set()
        self.hear()

    def hear(self) -> None:
        """Read, if nobody does."""
        if self.stops.is_set():
            self.stops.clear()
            self.thread = threading.Thread(target=self._copy)
            self.thread.start()

    def _copy(self) -> None:
        with self.path.open("ab", buffering=0) as file:
            while not self.stops.is_set():
                if select.select([self.reader], [], [], LOOK)[0]:
                    file.write(os.read(self.reader, 65536))

    def deafen(self) -> None:
        """From now on nobody reads, and there is no room for another line."""
        self.stop()
        self.fill()

    def stop(self) -> None:
        self.stops.set()
        self.thread.join()

    def close(self) -> None:
        """The program has ended: what it said last is in the file."""
        self.stop()
        os.close(self.writer)
        with self.path.open("ab") as file:
            while data := os.read(self.reader, 65536):
                file.write(data)
        os.close(self.reader)
