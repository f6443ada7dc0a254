"""tests/PYTHONS.md of the results: which Python passed what, and what was not to be had.

Pure but for `read` and `write`. Invariant: the page says of each row which tests it is about.
"""

from __future__ import annotations

import json
import pathlib
import re
from dataclasses import asdict
from typing import Any

from tests.pythons.matrix import KINDS, Result

RESULTS = pathlib.Path(__file__).parent / "results.json"
PAGE = pathlib.Path(__file__).parents[1] / "PYTHONS.md"
NONE = "\u2013"  # an en dash: no figure
WANTED = ("3.11", "3.12", "3.13", "3.14")
HEAD = """# Every Python

`make test-pythons` writes this page. With each Python it runs the tests named below over the plain
and over the compiled build, makes the wheel, and installs it where there is no compiler (`make
wheel-check`); *demo* says whether `rawproxy demo` answered over https there, plain and compiled.
Counts are of tests passed / skipped / failed.

"""


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _counts(found: dict[str, int]) -> str:
    return " / ".join(f"{found[kind]:,}" for kind in KINDS) if found else NONE


def _row(one: Result) -> str:
    demo = ", ".join("yes" if one.demo[build] else "no" for build in one.demo) or NONE
    tag = re.search(r"(many|musl)linux_\d+_\d+", one.wheel)
    cells = (
        one.python, one.where, one.openssl, _counts(one.plain), _counts(one.compiled), demo,
        tag[0] if tag else NONE,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def page(results: list[Result]) -> str:
    """The whole text."""
    ordered = sorted(results, key=lambda one: [int(n) for n in re.findall(r"\d+", one.python)])
    lines = [
        "| Python | from | OpenSSL | plain build | compiled build | demo | wheel |",
        "|---|---|---|--:|--:|---|---|",
        *map(_row, ordered),
    ]
    missing = [minor for minor in WANTED if minor not in {_minor(one.python) for one in results}]
    if missing:
        lines += ["", f"Not had, or not run yet: {', '.join(missing)}."]
    for selection in dict.fromkeys(one.selection for one in ordered):
        which = [one.python for one in ordered if one.selection == selection]
        lines += ["", f"The tests of {', '.join(which)}: `{selection}`."]
    failed = [(one, line) for one in ordered for line in one.failures]
    if failed:
        lines += ["", "What failed:", ""]
        lines += [f"* {one.python}, {one.where}: `{line[:200]}`" for one, line in failed]
    again = [(one, name) for one in ordered for name in one.again]
    if again:
        lines += ["", "What passed only when its file ran by itself:", ""]
        lines += [f"* {one.python}, {one.where}: `{name}`" for one, name in again]
    reasons = sorted({_reason(line) for one in ordered for line in one.skips})
    if reasons:
        lines += ["", "Why tests were skipped:", "", *(f"* {reason}" for reason in reasons)]
    return HEAD + "\n".join(lines) + "\n"


def _reason(line: str) -> str:
    """Of "tests/x.py:12: needs the Debian package nginx" what stands behind the place."""
    return re.sub(r"^[\w./-]+\.py(?::\d+)?: ", "", line)


def read() -> list[Result]:
    """What earlier runs have left."""
    if not RESULTS.exists():
        return []
    return [Result(**one) for one in json.loads(RESULTS.read_text())]


def merged(results: list[Result], new: Result) -> list[Result]:
    """`new` takes the place of what was known of its Python there."""

    def key(one: Result) -> tuple[Any, ...]:
        return one.where, _minor(one.python)

    return [one for one in results if key(one) != key(new)] + [new]


def write(results: list[Result]) -> None:
    text = json.dumps([asdict(one) for one in results], indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n")
    PAGE.write_text(page(results))
