"""`make test` and `make test-fast`: pytest side by side; the few that fail are asked again, alone.

    python -m tests.alone [ARGUMENT ...]    the arguments are pytest's

Hundreds of the tests start programs, and four of them run at a time on two processors. One that
fails beside the others and passes alone was disturbed, or has found a race: its name is printed at
the end of both runs, and somebody has to look at it. More than `FEW` are not asked again.

It never changes what a test wants. Invariant: a test that fails alone too makes the run fail.
"""

import json
import pathlib
import subprocess
import sys

# With more than these, something is broken, and a second run only makes the answer late.
FEW = 5
CACHE = pathlib.Path(".pytest_cache/v/cache/lastfailed")
# pytest's exit codes: `FAILED` says that tests failed; any other, that it could not run them.
PASSED, FAILED = 0, 1


def failed_last() -> list[str]:
    """The names of those that failed, or whose preparation did."""
    try:
        return sorted(json.loads(CACHE.read_text()))
    except (OSError, ValueError):
        return []


def pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def main(arguments: list[str]) -> int:
    """An exit code of pytest."""
    CACHE.unlink(missing_ok=True)
    code = pytest(*arguments)
    names = failed_last()
    if code != FAILED or not 0 < len(names) <= FEW:
        return code
    print(f"\n{len(names)} failed beside the others; alone:\n", flush=True)
    code = pytest(*arguments, "--numprocesses", "0", "--last-failed")
    if code == PASSED:
        print("\nfailed beside the others, passed alone; somebody has to look at why:")
        print("".join(f"    {name}\n" for name in names))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
