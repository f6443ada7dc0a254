"""The Autobahn test-suite: a Python 2.7 for it, its packages, one run of it."""

import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LAUNCHER = HERE / "launch27.py"
REQUIREMENTS = HERE / "requirements27.txt"
# Masking and UTF-8 checks in C. Without a compiler the suite takes its own, four times slower.
ACCELERATOR = "wsaccel==0.6.2"
AGENT = "server"
INSTALL_TIMEOUT = 600
RELEASE = "0.8.2"


class UnavailableError(Exception):
    """There is no Python 2.7, or its packages could not be installed."""


def find_python() -> str | None:
    """A Python 2.7: $PYTHON27, then the PATH, then what pyenv keeps under the home."""
    if chosen := os.environ.get("PYTHON27"):
        return chosen if is_27(chosen) else None
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [path for name in ("python2.7", "python2") if (path := shutil.which(name))]
    found += sorted(glob.glob(str(root / "versions" / "2.7*" / "bin" / "python2.7")), reverse=True)
    return next((path for path in found if is_27(path)), None)


def is_27(path: str) -> bool:
    """Whether `path` runs and is one; a shim of pyenv may be neither."""
    command = [path, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
    try:
        return not subprocess.run(command, capture_output=True, timeout=30).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def install(python: str, reports: Path) -> Path:
    """The folder with the suite's packages, filled once for each list of pins."""
    pins = REQUIREMENTS.read_bytes() + ACCELERATOR.encode() + python.encode()
    library = reports / f"python2.7-{hashlib.sha256(pins).hexdigest()[:12]}"
    done = library / ".installed"
    if done.exists():
        return library
    for old in reports.glob("python2.7-*"):
        shutil.rmtree(old)
    print("installing the test-suite for Python 2.7 ...", flush=True)
    pip = [python, *pip_of(python), "install", "--no-deps", "--target", str(library)]
    env = os.environ | {"PIP_NO_PYTHON_VERSION_WARNING": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for packages, needed in ((["-r", str(REQUIREMENTS)], True), ([ACCELERATOR], False)):
        try:
            result = subprocess.run(
                [*pip, *packages], env=env, capture_output=True, text=True, timeout=INSTALL_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"pip took more than {INSTALL_TIMEOUT} seconds") from None
        if result.returncode and needed:
            raise UnavailableError(f"pip failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
        if result.returncode:
            print(f"{ACCELERATOR} could not be built: the runs take longer", flush=True)
    done.touch()
    return library


def pip_of(python: str) -> Sequence[str]:
    """How to call pip there; where it is missing, the copy that came with the interpreter."""
    if not subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        return ["-m", "pip"]
    code = "import ensurepip; print(ensurepip.__file__)"
    where = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()
    wheels = list(Path(where).parent.glob("_bundled/pip-*.whl")) if where else []
    if not wheels:
        raise UnavailableError(f"{python} has no pip")
    return [str(wheels[0] / "pip")]


@dataclass(frozen=True)
class Verdict:
    """What the suite said about one case."""

    behavior: str
    close: str
    code: int | None  # of the Close frame that came
    milliseconds: int

    def __str__(self) -> str:
        return f"{self.behavior} / {self.close} / {self.code or '-'}"

    @property
    def key(self) -> tuple[str, str, int | None]:
        """What has to be the same."""
        return self.behavior, self.close, self.code


@dataclass(frozen=True)
class Client:
    """How to run the fuzzing client."""

    python: str
    library: Path
    html: bool
    timeout: float

    def run(self, folder: Path, url: str, cases: Iterable[str]) -> dict[str, Verdict]:
        """Try `url` with `cases`; the suite's own report and its log stay in `folder`."""
        spec = folder / "spec.json"
        report = folder / "report"
        server = {"agent": AGENT, "url": url}
        wanted = {"outdir": str(report), "servers": [server], "cases": list(cases)}
        rest = {"exclude-cases": [], "exclude-agent-cases": {}, "html": self.html}
        spec.write_text(json.dumps(wanted | rest))
        command = [self.python, "-W", "ignore", "-u", str(LAUNCHER), str(self.library), str(spec)]
        with open(folder / "client.log", "wb") as log:
            try:
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=self.timeout,
                )
            except subprocess.TimeoutExpired:
                print(f"{folder.name}: cut after {self.timeout:g} seconds", file=sys.stderr)
        index = report / "index.json"
        if not index.exists():  # every case will count as missing
            return {}
        return {
            case: Verdict(
                one["behavior"], one["behaviorClose"], one["remoteCloseCode"], one["duration"]
            )
            for case, one in json.loads(index.read_text()).get(AGENT, {}).items()
        }

    def known_cases(self) -> list[str]:
        """All cases of the suite, in its order."""
        command = [self.python, "-W", "ignore", str(LAUNCHER), str(self.library), "--list"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if result.returncode:
            raise UnavailableError(f"the suite does not start:\n{result.stderr[-2000:]}")
        return result.stdout.split()
