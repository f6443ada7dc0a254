"""Verdicts side by side: tables and differences; nothing here starts or opens anything."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .suite import Verdict

Run = Mapping[str, Verdict]
MISSING = "MISSING"

CATEGORIES = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits, performance",
    "10": "auto-fragmentation",
    "12": "compression: payloads",
    "13": "compression: parameters",
}


@dataclass
class Difference:
    """A case whose verdict through the proxy is another one, with what further tries said."""

    scheme: str
    case: str
    direct: list[Verdict | None]
    proxied: list[Verdict | None]
    log: str = field(default="")

    @property
    def by_itself(self) -> bool:
        """Whether straight to the server, too, each verdict was seen that was seen proxied."""
        straight = {key(one) for one in self.direct}
        return all(key(one) in straight for one in self.proxied)

    def lines(self) -> Iterable[str]:
        note = "  (varies direct, too: not counted)" if self.by_itself else ""
        yield f"{self.scheme} {self.case}{note}"
        yield f"    direct   {tally(self.direct)}"
        yield f"    proxied  {tally(self.proxied)}"
        if self.log:
            yield f"    see {self.log}"

    def as_json(self) -> dict[str, Any]:
        return {
            "scheme": self.scheme,
            "case": self.case,
            "counts": not self.by_itself,
            "direct": [show(one) for one in self.direct],
            "proxied": [show(one) for one in self.proxied],
        }


def key(verdict: Verdict | None) -> object:
    return verdict.key if verdict else None


def show(verdict: Verdict | None) -> str:
    return str(verdict) if verdict else MISSING


def tally(verdicts: Sequence[Verdict | None]) -> str:
    counts = Counter(show(one) for one in verdicts)
    return ", ".join(f"{text} x{count}" for text, count in counts.items())


def differences(scheme: str, cases: Iterable[str], direct: Run, proxied: Run) -> list[Difference]:
    """The cases that a proxy changed; one without a verdict on either side is one of them."""
    return [
        Difference(scheme, case, [direct.get(case)], [proxied.get(case)])
        for case in cases
        if not direct.get(case) or key(direct.get(case)) != key(proxied.get(case))
    ]


def counts(run: Run, cases: Iterable[str]) -> dict[str, int]:
    """How many cases got which verdict; of behaviour and closing the one that is not OK."""
    found: Counter[str] = Counter()
    for case in cases:
        verdict = run.get(case)
        if verdict is None:
            found[MISSING] += 1
        elif verdict.behavior == "OK" and verdict.close != "OK":
            found[f"close {verdict.close}"] += 1
        else:
            found[verdict.behavior] += 1
    return dict(found.most_common())


def table(runs: Mapping[str, Run], cases: Sequence[str]) -> Iterable[str]:
    """One line for each category, one column for each run."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[case.partition(".")[0]].append(case)
    rows = [["", "cases", *runs]]
    for number, group in groups.items():
        title = f"{number:>2} {CATEGORIES.get(number, '')}"
        rows.append([title, str(len(group)), *(cell(run, group) for run in runs.values())])
    rows.append(["   all", str(len(cases)), *(cell(run, cases) for run in runs.values())])
    seconds = (sum(one.milliseconds for one in run.values()) / 1000 for run in runs.values())
    rows.append(["   seconds in cases", "", *(f"{one:.0f}" for one in seconds)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def cell(run: Run, cases: Sequence[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts(run, cases).items())
