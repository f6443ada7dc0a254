"""What runs a target: inputs one after the other, verdicts counted, failures made small and kept.

Invariant: an input that fails is in the corpus before the run goes on.
"""

import collections
import hashlib
import pathlib
import random
import time
import traceback

from .grammar import Source
from .targets import TARGETS, Target
from .targets_h2 import TARGETS_H2

ALL: dict[str, Target] = TARGETS | TARGETS_H2
CORPUS = pathlib.Path(__file__).with_name("corpus")
FAILURES = 5  # of one run: whoever has so many has seen enough
PROGRESS = 60.0  # seconds between two lines of a long run


def seeds(name: str) -> list[bytes]:
    """The corpus of one target, oldest name first."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))]


def fuzz(name: str, seed: str, seconds: float, count: int) -> tuple[collections.Counter[str], int]:
    """Verdicts, and how many inputs failed. Until `seconds` are over or `count` inputs done."""
    target = ALL[name]
    source = Source(random.Random(seed), target.grow, seeds(name))
    verdicts: collections.Counter[str] = collections.Counter()
    check, draw = target.check, source.next
    began = said = time.monotonic()
    failures = done = 0
    while failures < FAILURES and (done < count if count else time.monotonic() < began + seconds):
        for _ in range(min(count - done, 1000) if count else 100):
            data = draw()
            done += 1
            try:
                verdicts[check(data)] += 1
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                failures += 1
                verdicts["FAILED"] += 1
                keep(name, data, error)
                if failures >= FAILURES:
                    break
        if time.monotonic() > said + PROGRESS:
            said = time.monotonic()
            print(f"  {name}: {done:,} in {said - began:.0f} s", flush=True)
    return verdicts, failures


def keep(name: str, data: bytes, error: Exception) -> None:
    """Write a failing input down, as small as it can be made, and say what it does."""
    small = shrink(ALL[name].check, data, type(error))
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"crash-{hashlib.sha256(small).hexdigest()[:12]}.bin"
    path.write_bytes(small)
    print(f"{path}: {small!r}", flush=True)
    try:
        ALL[name].check(small)
    except Exception:  # noqa: BLE001 - shown, not handled
        traceback.print_exc()


def shrink(check, data: bytes, kind: type[Exception]) -> bytes:
    """Drop pieces for as long as the same kind of exception stays."""
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            less = data[:at] + data[at + size :]
            try:
                check(less)
            except kind:
                data = less
            except Exception:  # noqa: BLE001 - another failure is not this one
                at += size
            else:
                at += size
        size //= 2
    return data
