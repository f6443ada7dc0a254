"""Where a Python is, and how a command is run with it.

    Here      a Python of this machine, with a copy of the sources in a folder of its own
    Rooted    the Python of a Debian that debootstrap makes

It decides nothing about what is run. Invariant: of one place and another no file is shared but the
sources, which are copies; so a build of one Python never meets another's.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator

from tests.debian import ROOT, Debian, copy_sources

OLDEST, NEWEST = 11, 15  # of Python 3: pyproject.toml's, and one that may not be out yet
# Debian's suites, by the Python that is their own. `testing` is what becomes the next one.
SUITES = {"trixie": "Debian 13 (trixie)", "testing": "Debian testing (forky)"}
FOLDERS = {"trixie": ".debian13", "testing": ".debian14"}


class Place:
    """A Python and the sources for it."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name  # what a table calls where it comes from
        self.python = python
        self.project: pathlib.Path

    @contextlib.contextmanager
    def entered(self, *, fresh: bool = True) -> Iterator[None]:
        """Ready for commands; unless `fresh`, with the sources of last time."""
        yield

    def _started(self, script: str) -> subprocess.Popen[str]:
        raise NotImplementedError

    def run(self, script: str) -> tuple[int, str]:
        """Its exit code, and what it printed, which is also shown as it comes."""
        print(f"── {self.name}: {script}", flush=True)
        lines = []
        with self._started(script) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    print(line, end="", flush=True)
                    lines.append(line)
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        return process.returncode, "".join(lines)


class Here(Place):
    """One of this machine's."""

    def __init__(self, python: pathlib.Path, version: str) -> None:
        super().__init__("this machine", str(python))
        self.project = ROOT / ".pythons" / version

    @contextlib.contextmanager
    def entered(self, *, fresh: bool = True) -> Iterator[None]:
        if fresh:
            self.project.mkdir(parents=True, exist_ok=True)
            copy_sources(self.project)
        yield

    def _started(self, script: str) -> subprocess.Popen[str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MAKE"))}
        return _shell(["/bin/sh", "-c", script], keep, self.project)


class Rooted(Place):
    """The own one of a Debian."""

    def __init__(self, suite: str, folder: pathlib.Path | None = None) -> None:
        super().__init__(SUITES[suite], "python3")
        self.debian = Debian(folder or ROOT / FOLDERS[suite], suite)
        self.project = self.debian.project

    @contextlib.contextmanager
    def entered(self, *, fresh: bool = True) -> Iterator[None]:
        if fresh:
            self.debian.make()
        with self.debian.entered():
            yield

    def _started(self, script: str) -> subprocess.Popen[str]:
        return _shell(self.debian.command(script), self.debian.environment(), None)


def _shell(
    command: list[str], environment: dict[str, str], folder: pathlib.Path | None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def identified(python: pathlib.Path) -> tuple[str, pathlib.Path]:
    """As "3.12.1", and itself where `python` only stands for it (pyenv's shims do).

    Nothing where it does not run, or can make no environments.
    """
    asked = "import ensurepip, platform, sys; print(platform.python_version(), sys.executable)"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [str(python), "-I", "-c", asked],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if done.returncode == 0:
            version, _, path = done.stdout.strip().partition(" ")
            return version, pathlib.Path(path)
    return "", python


def on_this_machine(given: list[pathlib.Path]) -> list[Here]:
    """One of each minor version, the newest: those `given`, of PATH, and of pyenv."""
    names = [f"python3.{minor}" for minor in range(OLDEST, NEWEST + 1)]
    found = [*given, *(pathlib.Path(path) for name in names if (path := shutil.which(name)))]
    home = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    found += [path for name in names for path in home.glob(f"versions/3.*/bin/{name}")]
    best: dict[int, tuple[tuple[int, ...], pathlib.Path, str]] = {}
    for one in found:
        version, python = identified(one)
        numbers = tuple(map(int, re.findall(r"\d+", version)))
        if len(numbers) == 3 and numbers[0] == 3 and OLDEST <= numbers[1] <= NEWEST:
            minor = numbers[1]
            if minor not in best or numbers > best[minor][0]:
                best[minor] = numbers, python, version
    return [Here(python, version) for _, (_, python, version) in sorted(best.items())]
