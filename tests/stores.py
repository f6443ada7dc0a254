"""A redis-server of our own, which tests start, kill and start again on the same port."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest

from rawproxy.store.opening import open_store
from tests.process import PATIENCE, free_port

# Skip where Debian's redis-server or the library is missing; CI has both.
NEEDS_REDIS = pytest.mark.skipif(
    not (shutil.which("redis-server") and importlib.util.find_spec("redis")),
    reason="needs the Debian package redis-server, and the library redis",
)


class RedisServer:
    """It keeps nothing on the disk: after `kill` and `start` it is empty, as the worst case is."""

    def __init__(self, folder: pathlib.Path, *before: str, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.host = host
        self.url = f"redis://{host}:{self.port}"
        self._folder = folder
        self._before = before  # words in front of the command: ip netns exec NAME
        self.start()

    def start(self) -> None:
        command = [*self._before, "redis-server", "--port", str(self.port), "--bind", self.host]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        command += ["--protected-mode", "no", "--unixsocket", f"{self._folder}/redis.sock"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
                sock.connect(f"{self._folder}/redis.sock")
                return
            assert self.process.poll() is None and time.monotonic() < end
            time.sleep(0.02)  # polling another program

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._folder}/redis.sock")

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> "RedisServer":
        return self

    def __exit__(self, *_) -> None:
        self.kill()


def known(url: str) -> str:
    """Have the store at `url` be one that was in use before: orders wait for a new one."""
    with open_store(url) as store:
        store.put("acme/memory", b"1")
    return url
