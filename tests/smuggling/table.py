"""The comparison as Markdown. Pure: from the corpus and the recorded verdicts to `TABLE.md`."""

import hashlib
import json
import pathlib
from typing import Any

from tests.pointers import pointers

from .cases import Answer, Case
from .requests_h1 import CASES as H1_CASES
from .requests_h2 import CASES as H2_CASES
from .responses import ANSWERS
from .rules import RULES

FOLDER = pathlib.Path(__file__).parent
VERDICTS, TABLE = FOLDER / "verdicts.json", FOLDER / "TABLE.md"
CORPUS: list[Case | Answer] = [*H1_CASES, *H2_CASES, *ANSWERS]
NAMES = ("rawproxy", "nginx", "HAProxy", "Caddy")
PEERS = NAMES[1:]

HEAD = """\
# Rules, their tests, and what others do with the same bytes

Written by `make rules`; do not edit. Each case of the corpus beside this file is sent to rawproxy
and to {versions}, each in front of an upstream that writes down byte by byte
what it is asked (configurations: `configs/`). `verdict.py` says what the words mean; a dash: not
run. `(h2)` marks frames of HTTP/2, `(answer)` a response of the upstream; everything else is a
request of HTTP/1.1. A case forwarded by rawproxy is checked against the exact bytes that the
upstream, or the client, must see: `test_requests.py`, `test_responses.py`.

| of {count} cases | {names} |
|---|{rule}|
| refused | {refused} |
| of those that rawproxy refuses, let through | {through} |
| of those that rawproxy lets through, refused | {strict} |
"""


def load() -> dict[str, Any]:
    """What was recorded: the peers' versions, and the verdicts of each case by its id."""
    return dict(json.loads(VERDICTS.read_text()))


def digest(case: Case | Answer) -> str:
    """Tells whether the bytes are still those that were judged."""
    return hashlib.sha256(case.raw).hexdigest()[:12]


def refuses(verdict: str) -> bool:
    """Whether these words mean that nothing was let through."""
    return verdict.startswith("refused")


def lets_through(verdict: str) -> bool:
    """Whether these words mean that something was."""
    return verdict.startswith(("forwarded", "passed", "poisoned"))


def render(recorded: dict[str, Any]) -> str:
    """The whole file."""
    verdicts = recorded["cases"]
    ours = {case.id: verdicts[case.id]["rawproxy"] for case in CORPUS}

    def counted(name: str, judge: Any, among: Any) -> str:
        return str(sum(judge(verdicts[i].get(name, "")) for i in ours if among(ours[i])))

    rows = {
        "refused": [counted(name, refuses, bool) for name in NAMES],
        "through": [counted(name, lets_through, refuses) for name in NAMES],
        "strict": [counted(name, refuses, lets_through) for name in NAMES],
    }
    versions = ", ".join(f"{name} {recorded['versions'].get(name, '-')}" for name in PEERS)
    text = HEAD.format(
        versions=versions,
        count=len(CORPUS),
        names=" | ".join(NAMES),
        rule="|".join(["--:"] * len(NAMES)),
        **{key: " | ".join(row) for key, row in rows.items()},
    )
    return text + _defended(verdicts) + "".join(_rule(rule, verdicts) for rule in RULES)


def _defended(verdicts: dict[str, Any]) -> str:
    """What rawproxy lets through although another refuses it, and why."""
    lines = [
        "\n## Let through, and defended\n\n| case | refused by | why it is right |\n|---|---|---|\n"
    ]
    for case in CORPUS:
        against = [name for name in PEERS if refuses(verdicts[case.id].get(name, ""))]
        if against and lets_through(verdicts[case.id]["rawproxy"]):
            lines.append(f"| {_name(case, True)} | {', '.join(against)} | {case.defence} |\n")
    return "".join(lines)


def _rule(rule: Any, verdicts: dict[str, Any]) -> str:
    cases = [case for case in CORPUS if case.rule == rule.number]
    lines = [f"\n## {rule.number}. {rule.text[0].upper()}{rule.text[1:]}\n\n"]
    tests = [f"`{file}::{name}`" if name else f"`{file}`" for file, name in pointers(rule.tests)]
    if tests:
        lines.append(f"{'Also' if cases else 'Tests'}: {', '.join(tests)}.\n\n")
    if cases:
        lines.append(f"| case | {' | '.join(NAMES)} |\n|---|---|---|---|---|\n")
    for case in cases:
        words = [verdicts[case.id].get(name, "-") for name in NAMES]
        lines.append(f"| {_name(case)} | {' | '.join(words)} |\n")
    return "".join(lines)


def _name(case: Case | Answer, numbered: bool = False) -> str:
    kind = " (answer)" if isinstance(case, Answer) else " (h2)" if case.front == "h2" else ""
    name = (
        case.name.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("`", "\\`")
    )
    return f"{case.rule}: {name}{kind}" if numbered else name + kind
