"""Programs that tests start: rawproxy as people run it, nginx, ASGI servers."""

import contextlib
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import psutil
import pytest
import trustme

from .pipes import Copied

CA = trustme.CA()
LEAF = CA.issue_cert("localhost", "127.0.0.1", "::1")
# Seconds before what hangs fails the test. It measures nothing: a machine that is busy with something
# else may take its time. It is longer than some of the proxy's own deadlines, so what has to happen
# without one is tested with a longer one: LATER here, `NO_DEADLINE` in `wire.rig`.
PATIENCE = 60
LOWEST_PORT = 12_000  # below are those of known services
LATER = 10 * PATIENCE  # seconds of a deadline that no test reaches


def free_port() -> int:
    """A port for a program that is about to listen; nobody else gets it meanwhile.

    The kernel deals out those of its own range, to listeners and to every connection of a client:
    one of them may be gone by then. So it is one below that range, at random.
    """
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = LOWEST_PORT + secrets.randbelow(max(first - LOWEST_PORT, 10_000))
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def replace(path: pathlib.Path, text: str) -> None:
    """Write a file that a running program may read at this very moment: it sees all or nothing."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    os.replace(new, path)


def wait_for_port(port: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, "it ended instead of listening"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)  # polling another program: there is nothing to wait on
    raise AssertionError(f"nothing listens on {port}")


def needs(program: str, package: str | None = None) -> pytest.MarkDecorator:
    """Skip where a Debian package is missing; CI installs them."""
    there = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    return pytest.mark.skipif(
        there is None, reason=f"needs the Debian package {package or program}"
    )


class Program:
    """A child process, its output in files, ended by its own process id.

    `piped`: standard error comes by a pipe, that it may be left full (`pipe.deafen`).
    """

    def __init__(self, command: list[str], *, piped: bool = False, **options) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.out_path = pathlib.Path(self.folder.name, "out")
        self.err_path = pathlib.Path(self.folder.name, "err")
        self.pipe = Copied(self.err_path) if piped else None
        with self.out_path.open("wb") as out, self.err_path.open("ab") as err:
            to = err if self.pipe is None else self.pipe.writer
            self.process = subprocess.Popen(command, stdout=out, stderr=to, **options)
        self.said: tuple[str, str] | None = None  # once it has ended

    def out(self) -> str:
        return self.said[0] if self.said else self.out_path.read_text()

    def err(self) -> str:
        return self.said[1] if self.said else self.err_path.read_text()

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for it on standard error: a thread writes that, behind what a client sees."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.err())):
            assert time.monotonic() < end, f"no {pattern!r} in {self.err()}"
            time.sleep(0.02)  # polling another program
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.pipe is not None:
            self.pipe.hear()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.said is None:
                if self.pipe is not None:
                    self.pipe.close()
                self.said = self.out(), self.err()
                self.folder.cleanup()

    def cpu(self) -> float:
        """Seconds of user and system time so far, of it and its children."""
        return sum(self._of_each(lambda one: sum(one.cpu_times()[:2])))

    def rss(self) -> int:
        """Resident memory of it and its children, in bytes."""
        return int(sum(self._of_each(lambda one: one.memory_info().rss)))

    def _of_each(self, asked: Callable[[psutil.Process], float]) -> Iterator[float]:
        """Of all but those that have just ended: a loader, a worker of before a reload."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                yield asked(process)

    def family(self) -> list[psutil.Process]:
        """It and its children."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]


SOURCE = (sys.executable, "-m", "rawproxy")  # or the build, where the tests run beside one


class RawProxy(Program):
    """rawproxy on free ports: `https` where a certificate is given, `http` always."""

    def __init__(
        self,
        *arguments: str,
        https: bool = True,
        http: str = "127.0.0.1:0",
        piped: bool = False,
        program: Sequence[str] = SOURCE,
    ) -> None:
        command = [*program, "--http", http, *arguments]
        self._stack = contextlib.ExitStack()
        if https:
            pem = self._stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
            port = free_port()
            command += ["--https", f"127.0.0.1:{port}", "--https", f"[::1]:{port}"]
            command += ["--cert", pem, "--key", pem]
        super().__init__(command, piped=piped)
        self._wait_until_ready()
        self.http = self._port("http")
        self.https = self._port("https") if https else 0

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        while "rawproxy ready" not in self.err():
            assert self.process.poll() is None, self.err()
            assert time.monotonic() < end, self.err()
            time.sleep(0.02)  # polling another program

    def _port(self, scheme: str) -> int:
        found = re.search(rf"listening on {scheme}://\S+:(\d+)", self.err())
        assert found is not None, self.err()
        return int(found[1])

    def __enter__(self) -> "RawProxy":
        return self

    def __exit__(self, kind, error, trace) -> None:
        code = self.stop()
        self._stack.close()
        err = self.err()
        if kind is None:
            assert code == 0, err
            assert "Traceback" not in err, err
            assert "internal error" not in err, err
