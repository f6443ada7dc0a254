"""The longest wait of requests over kept connections, one after the other, by a process of its own.

    python -m tests.production.longest_wait PORT

It opens `CONNECTIONS` and asks on each in turn. For every line of standard input it writes one: the
longest wait since the line before, in seconds. It ends with its input.
"""

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from .stage import ask

CONNECTIONS = 8  # with two workers, none of both is left out but once in a hundred runs
PAUSE = 0.001  # seconds between two requests


class LongestWait:
    """That process."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def since(self) -> float:
        """Seconds of the longest wait since this was last asked."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextlib.contextmanager
def watched(port: int) -> Iterator[LongestWait]:
    """It asks from here on."""
    command = [sys.executable, "-m", "tests.production.longest_wait", str(port)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        found = LongestWait(process)
        found.since()  # once it has begun
        yield found
        process.stdin.close()


def main(port: int) -> None:
    with contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(CONNECTIONS)
        ]
        for sock in socks:
            ask(sock, host="s0.test")
        longest = 0.0
        while True:
            for sock in socks:
                began = time.monotonic()
                ask(sock, host="s0.test")
                longest = max(longest, time.monotonic() - began)
                if select.select([sys.stdin], [], [], PAUSE)[0]:
                    if not sys.stdin.readline():
                        return
                    print(longest, flush=True)
                    longest = 0.0


if __name__ == "__main__":
    main(int(sys.argv[1]))
