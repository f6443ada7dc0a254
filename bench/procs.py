"""The processes of a bench run: start them pinned, watch CPU time and memory, stop them by pid.

This module never knows what a process does. Invariant: what `spawn` has started is stopped when its
`Proc` is closed, or at the latest when the interpreter exits.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 5.0  # from SIGTERM till SIGKILL
FILES = 20_000  # descriptors wanted for thousands of idle WebSockets on both sides

_alive: dict[int, Proc] = {}


class BenchError(Exception):
    """Something a measurement needs is missing or failed; the text is for the user."""


@contextlib.contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Children that are started inside get these cores, and so do the threads that they start."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Proc:
    """A child process with its descendants, and what they have used."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    exited: bool = field(default=False)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def check(self) -> None:
        """Raise `BenchError` with the end of the log if the process has died."""
        if self.popen.poll() is not None:
            tail = self.log.read_text(errors="replace")[-800:].strip()
            raise BenchError(f"{self.name} exited with {self.popen.returncode}: {tail}")

    def tree(self) -> list[int]:
        """The pids of the process and of all its descendants."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                    todo.extend(int(child) for child in children.split())
        return found

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree. That of reaped children is counted in ticks."""
        return sum(cpu_of(pid) for pid in self.tree())

    def pin(self, cores: Sequence[int]) -> None:
        """Move every thread of the tree to these cores."""
        for pid in self.tree():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), cores)

    def memory_kib(self, key: str = "VmHWM") -> int:
        """`VmHWM` (peak) or `VmRSS` (now) of the tree, in KiB."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(key + ":"):
                        total += int(line.split()[1])
        return total

    def private_kib(self) -> int:
        """Memory of the tree with shared pages counted once (PSS), in KiB."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total

    def close(self) -> None:
        """Ask the process and its descendants to end, wait, then kill them by pid."""
        if self.exited:
            return
        self.exited = True
        _alive.pop(self.pid, None)
        children = self.tree()[1:]
        self.popen.terminate()
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(STOP_SECONDS)
        for pid in children:
            with contextlib.suppress(OSError):
                if _parent_is_gone(pid, self.name):
                    os.kill(pid, signal.SIGKILL)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of the children that it has reaped; 0 if it is gone.

    The process's POSIX clock (`clock_getcpuclockid`) is the scheduler's sum in nanoseconds, over
    all threads, with those that ended. `/proc/PID/task/*/schedstat` has the same of living threads
    only. Without such a clock, the ticks of `/proc/PID/stat` serve.
    """
    ticks = [0, 0, 0, 0]
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        # The name may hold blanks: the fields are counted from the last bracket on.
        ticks = [int(value) for value in stat.rpartition(")")[2].split()[11:15]]
    try:
        own = time.clock_gettime(clock_of(pid))
    except OSError:
        own = sum(ticks[:2]) / TICK
    return own + sum(ticks[2:]) / TICK


def clock_of(pid: int) -> int:
    """The kernel's number of a process's CPU clock, as clock_getcpuclockid(3) gives it."""
    return (~pid << 3) | 2


def _parent_is_gone(pid: int, name: str) -> bool:
    """Whether this is a worker that outlived its master: adopted, and not a pid in use again."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return stat[1] == "1" and _group(pid) == name


def _group(pid: int) -> str:
    """What `spawn` has put into the environment of all that it started."""
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    for item in environ.split(b"\0"):
        if item.startswith(b"BENCH_PROC="):
            return item[11:].decode()
    return ""


def raise_file_limit() -> None:
    """Allow as many descriptors as the system lets us. Children inherit the limit."""
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(FILES, hard), hard):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return


def spawn(
    name: str,
    argv: Sequence[str],
    cores: Sequence[int],
    log: Path,
    env: dict[str, str] | None = None,
) -> Proc:
    """Start `argv` pinned to `cores`; its output goes to `log`."""
    mark = f"{name}-{os.getpid()}-{time.monotonic_ns()}"
    environment = {**os.environ, **(env or {}), "BENCH_PROC": mark}
    with pinned(cores), log.open("wb") as out:
        popen = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    proc = Proc(mark, popen, log)
    _alive[proc.pid] = proc
    return proc


MARKS = ("WARM", "END")  # lines by which a load client says when counting begins and stops


def run(
    argv: Sequence[str],
    cores: Sequence[int],
    seconds: float,
    env: dict[str, str],
    on_mark: Callable[[str, int], None] | None = None,
) -> str:
    """Run a load generator to its end and return what it printed.

    `on_mark` gets each of `MARKS` and the generator's pid as soon as the line is there.
    """
    with tempfile.TemporaryFile() as trouble:
        with pinned(cores):
            popen = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=trouble,
                env={**os.environ, **env},
            )
        assert popen.stdout is not None
        timer = threading.Timer(seconds, popen.kill)
        timer.start()
        lines = []
        try:
            for raw in popen.stdout:
                lines.append(raw.decode(errors="replace"))
                if on_mark and lines[-1].strip() in MARKS:
                    on_mark(lines[-1].strip(), popen.pid)
            popen.wait()
        finally:
            late = not timer.is_alive()
            timer.cancel()
            popen.kill()
            popen.wait()
            popen.stdout.close()
        out = "".join(lines)
        if late:
            raise BenchError(f"{Path(argv[0]).name} did not finish within {seconds:.0f} s")
        if popen.returncode:
            trouble.seek(0)
            text = (trouble.read().decode(errors="replace") or out).strip()[-400:]
            raise BenchError(f"{Path(argv[0]).name} exited with {popen.returncode}: {text}")
        return out


_ports = itertools.cycle(range(18_000 + os.getpid() % 9_000, 32_000))  # below the ephemeral ones


def free_ports(count: int) -> list[int]:
    """Consecutive ports of the loopback that nobody listens on. No port is given again soon."""
    ports: list[int] = []
    for port in itertools.islice(_ports, 20_000):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                ports = []
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise BenchError("no free ports on 127.0.0.1")


def wait_for_port(proc: Proc, port: int, seconds: float = 15.0) -> None:
    """Return once `port` accepts; raise if the process dies or takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        proc.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise BenchError(f"{proc.name} did not open its port within {seconds:.0f} s")


def insecure_context(alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """A client's context that accepts our certificate, with TLS 1.3 only as everywhere here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@atexit.register
def _stop_all() -> None:
    for proc in list(_alive.values()):
        proc.close()
