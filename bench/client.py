"""The compiled load client: built once in a run's work folder, then started for each measurement.

`client.c` and `origin.c` say what it does. Invariant: within a run no two measurements send the
same numbers, until the eight digits are used up after some two hundred measurements.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

from bench.procs import BenchError

SOURCES = tuple(Path(__file__).parent / name for name in ("client.c", "origin.c"))
FIRST, STEP, LAST = 10_000_000, 400_000, 99_000_000  # numbers have eight digits

_numbers = itertools.cycle(range(FIRST, LAST, STEP))


def build(folder: Path) -> None:
    """Compile it as `folder/client`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise BenchError("no C compiler for the load client: `make bench-peers` installs one")
    argv = [compiler, "-O2", "-o", str(folder / "client"), *map(str, SOURCES), "-lssl", "-lcrypto"]
    done = subprocess.run(argv, capture_output=True, timeout=120, check=False)
    if done.returncode:
        text = done.stderr.decode(errors="replace")[:400]
        raise BenchError(f"the load client does not compile (is libssl-dev there?): {text}")


def command(
    folder: Path,
    port: int,
    templates: str,
    *,
    tls: bool,
    connections: int,
    seconds: float,
    warm: float,
    rate: float = 0.0,
    chaos: int = 0,
    origin: int = 0,
) -> list[str]:
    """The command line of one measurement.

    `rate` 0 is a closed loop; `origin` a port on which it answers as well.
    """
    argv = [str(folder / "client"), str(port), "tls" if tls else "plain", str(connections)]
    argv += [f"{rate:.1f}", str(warm), str(seconds), str(folder / f"{templates}.templates")]
    return [*argv, str(next(_numbers)), str(chaos), *([str(origin)] if origin else [])]
