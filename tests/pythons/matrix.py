"""What is run with each Python, and what of its output counts.

    plain       `make setup`, then pytest over the selection
    compiled    `make wheel`, then `make test-fast` over the selection
    demo        `make wheel-check`: both wheels installed where there is no compiler

Tests that fail run once more by themselves. A step that fails is told in the result and ends nothing: the others still say something.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.pythons.places import Here, Place

SELECTION = "tests/unit tests/property tests/wire"  # what `make test-fast` knows to compile for
# What `tests.alone`, by which `make test-fast` runs, prints before it asks a few again.
ALONE = re.compile(r"^\d+ failed beside the others; alone:$", re.M)
AGAIN = 8  # files with failures that are worth a second look: more are no accident
KINDS = ("passed", "skipped", "failed")
FACTS = (
    "import platform, ssl; print('facts', platform.python_version(),"
    " ssl.OPENSSL_VERSION.split()[1], platform.libc_ver()[1])"
)


@dataclass
class Result:
    """Of one Python."""

    where: str
    python: str = ""
    openssl: str = ""
    glibc: str = ""
    selection: str = SELECTION
    plain: dict[str, int] = field(default_factory=dict)  # tests by what became of them
    compiled: dict[str, int] = field(default_factory=dict)
    demo: dict[str, bool] = field(default_factory=dict)  # by build
    wheel: str = ""
    failures: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)  # tests that passed only the second time
    skips: list[str] = field(default_factory=list)  # their reasons

    def good(self) -> bool:
        """Everything ran, and nothing failed."""
        ran = self.plain.get("passed") and self.compiled.get("passed")
        return bool(ran and not self.failures and self.demo and all(self.demo.values()))


def counts(output: str) -> dict[str, int]:
    """Of pytest's closing line: passed, skipped and failed, errors among the latter."""
    lines = re.findall(r"^=*\s*((?:\d+ \w+,? ?)+) in [\d.]+s", output, re.M)
    found = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", lines[-1])} if lines else {}
    broken = found.get("failed", 0) + found.get("error", 0) + found.get("errors", 0)
    return {**{kind: found.get(kind, 0) for kind in KINDS}, "failed": broken} if found else {}


def told(output: str, kind: str) -> list[str]:
    """The lines of pytest's summary that begin with `kind`, without it."""
    return re.findall(rf"^{kind}S? (?:\[\d+\] )?(.+)$", output, re.M)


def plain_tests(place: Place, what: str) -> str:
    return f".venv/bin/python -m pytest -p no:cacheprovider -q {what}"


def compiled_tests(place: Place, what: str) -> str:
    return make(place, "test-fast", f" FAST_TESTS='{what}'")


COMMANDS = {"plain": plain_tests, "compiled": compiled_tests}


def tested(place: Place, result: Result, build: str) -> None:
    """Run the selection with one build and note what came of it."""
    code, output = place.run(COMMANDS[build](place, result.selection))
    beside, *alone = ALONE.split(output)
    found = counts(beside)
    setattr(result, build, found)
    result.failures += [f"{build}: {line}" for line in told(beside, "(?:FAILED|ERROR)")]
    result.skips += [line for line in told(beside, "SKIPPED") if line not in result.skips]
    if code and not (found and found["failed"]):
        result.failures.append(f"{build}: exit code {code}")
    for answer in alone:
        settle(result, build, answer)
    once_more(place, result, build)


def once_more(place: Place, result: Result, build: str) -> None:
    """The files of what failed, by themselves: a wait may have been too short in the whole run."""
    files = sorted({file_of(line) for line in failed_tests(result, build)})
    if 0 < len(files) <= AGAIN:
        _, output = place.run(COMMANDS[build](place, " ".join(files)))
        settle(result, build, ALONE.split(output)[-1])


def failed_tests(result: Result, build: str) -> list[str]:
    return [line for line in result.failures if line.startswith(f"{build}: tests/")]


def settle(result: Result, build: str, output: str) -> None:
    """What passes when it is run again counts as passed, and is named on the page."""
    if not counts(output):
        return
    found: dict[str, int] = getattr(result, build)
    still = {name_of(f"{build}: {line}") for line in told(output, "(?:FAILED|ERROR)")}
    for line in failed_tests(result, build):
        if name_of(line) not in still:
            result.failures.remove(line)
            result.again.append(name_of(line))
            found["failed"] -= 1
            found["passed"] += 1


def name_of(line: str) -> str:
    """Of "plain: tests/x.py::test - why" what stands in front of the reason."""
    return line.partition(" - ")[0]


def file_of(line: str) -> str:
    return name_of(line).partition(": ")[2].partition("::")[0]


def facts(place: Place, result: Result) -> None:
    """What it is. `SystemExit` where it does not even start."""
    code, output = place.run(f'{place.python} -c "{FACTS}"')
    line = re.search(r"^facts (\S+) (\S+) (\S*)$", output, re.M)
    if code or line is None:
        raise SystemExit(f"{place.name}: {place.python} does not run")
    result.python, result.openssl, result.glibc = line.groups()


def make(place: Place, target: str, more: str = "") -> str:
    """A call of make with the Python of the place."""
    python = f" PYTHON={place.python}" if isinstance(place, Here) else ""
    return f"make --silent {target}{python}{more}"


def test(place: Place, selection: str, note: Callable[[Result], None]) -> Result:
    """All steps with one Python; `note` hears of the result after each."""
    result = Result(place.name, selection=selection)
    with place.entered():
        facts(place, result)
        for step in (plain, compiled, demo):
            step(place, result)
            note(result)
    return result


def plain(place: Place, result: Result) -> None:
    code, _ = place.run(make(place, "setup"))
    if code:
        result.failures.append("plain: cannot be installed")
        return
    tested(place, result, "plain")


def compiled(place: Place, result: Result) -> None:
    code, _ = place.run(make(place, "wheel"))
    if code:
        result.failures.append("compiled: cannot be built")
        return
    wheels = sorted((place.project / "dist").glob("*linux*.whl"))
    result.wheel = wheels[0].name if len(wheels) == 1 else ""
    tested(place, result, "compiled")


def demo(place: Place, result: Result) -> None:
    """Whichever build's demo answered before something else was found wrong."""
    code, output = place.run(make(place, "wheel-check"))
    parts = re.split(r"^── (\w+)$", output, flags=re.M)[1:]
    sections = zip(parts[::2], parts[1::2], strict=True)
    heard = {build: "ok   demo over https" in text for build, text in sections}
    result.demo = {build: heard.get(build, False) for build in ("plain", "compiled")}
    result.failures += [f"wheel: {line}" for line in re.findall(r"^BAD +(.+)$", output, re.M)]
    if code and not result.failures:
        result.failures.append(f"wheel: exit code {code}")
