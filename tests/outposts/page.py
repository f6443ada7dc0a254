"""What people read of the results: blocks of docs/access.md, and tests/GUARDS.md.

A block stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; a test holds all of it to
`results.json`.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

from .beside import ANSWERS, CASES, PITFALLS
from .failing import CLIENTS, KINDS
from .fronts import NAMES

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results.json"
TABLE = HERE.parent / "GUARDS.md"
PAGE = HERE.parents[1] / "docs" / "access.md"
Results = dict[str, Any]


def known() -> Results:
    """What was found so far."""
    found: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {"versions": {}, "beside": {}, "failing": {}, "rates": {}} | found


def _versions(results: Results) -> str:
    return ", ".join(f"{name} {text}" for name, text in results["versions"].items())


def beside(results: Results, table: str) -> str:
    """One of the two tables of docs/access.md."""
    lines = [
        f"Written by `make guards`, with {_versions(results)} and the configurations in",
        "[tests/outposts/configs](../tests/outposts/configs). `served as`: the application has",
        "answered, and takes the client for that user.\n",
        f"| {'the guard answers' if table == ANSWERS else 'somebody tries'} | {' | '.join(NAMES)} |"
        f" {'why' if table == ANSWERS else 'why, and the test'} |",
        "|---|---|---|---|---|",
    ]
    for one in CASES:
        if one.table == table:
            words = [results["beside"].get(name, {}).get(one.title, "not run") for name in NAMES]
            same = len(set(words)) == 1
            told = "the same" if same else one.why
            if table == PITFALLS:
                told = f"{told}: `{one.test}`"
            lines.append(f"| {one.title} | {' | '.join(words)} | {told} |")
    return "\n".join(lines) + "\n"


def _failing(results: Results) -> list[str]:
    lines = [
        "## A guard that fails under load\n",
        f"{CLIENTS} clients ask a guarded site without a pause. A bystander in a process of its own",
        "asks a site of the same proxy that has no guard, every five milliseconds. rawproxy's",
        "`timeout` is 1 s here; nginx and Caddy have what is pasted, so nginx waits 60 s for a guard",
        f"and Caddy without end: `no answer` counts clients that were given up. {results['failing_seconds']:g}"
        " seconds each, on a",
        "machine of two cores where load, guard, upstream and proxy are together, and other work too.\n",
    ]
    for kind, what in KINDS.items():
        lines += [
            f"### {kind[0].upper()}{kind[1:]}: the guard {what}\n",
            "| proxy | guarded requests: answers | longest ms | memory grown by MB | bystander:"
            " requests | refused | p50 ms | longest ms |",
            "|---|---|--:|--:|--:|--:|--:|--:|",
        ]
        for name in NAMES:
            row = results["failing"].get(name, {}).get(kind)
            if row is not None:
                answers = ", ".join(
                    f"{many:,} times {status}" for status, many in row["answers"].items()
                )
                met = row["bystander"]
                lines.append(
                    f"| {name} | {answers} | {row['longest']:,} | {row['grown']:.1f} |"
                    f" {met['requests']:,} | {met['refused']:,} | {met['p50']:.1f} | {met['most']:.0f} |"
                )
        lines.append("")
    return lines


def _rates(rates: Results) -> list[str]:
    many = rates["addresses"]
    lines = [
        "## Rates\n",
        f"{many['addresses']:,} addresses, half of them of IPv6, asked once each in {many['seconds']:.0f} s."
        f" {many['served']:,} were served and {many['refused']:,} refused. The proxy's memory grew by"
        f" {many['grown']:.1f} MB. One more had asked for 20 before, where 10 may pass: it got"
        f" {many['greedy']}, and behind all the others it was still refused ({many['afterwards']}).\n",
        "Two workers, one client with 16 connections that asks for more than it may have:\n",
        "| requests a second, and a tenth of it at once | may pass | served | refused | served ÷ may |",
        "|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['limit']:,} | {row['may']:,} | {row['served']:,} | {row['refused']:,} | {row['ratio']:.3f} |"
        for row in rates["workers"]
    ]
    lines += [
        "\nOne address floods over 32 connections, at a rate of 100 a second; another one asks 50 times a",
        "second, in a process of its own:\n",
        "| | flood: answers | the other one: requests | refused | p50 ms | p99 ms | longest ms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rates["flood"]:
        answers = ", ".join(
            f"{many:,} times {status}" for status, many in sorted(row["flood"].items())
        )
        lines.append(
            f"| {row['what']} | {answers or 'none'} | {row['requests']:,} | {row['refused']:,} |"
            f" {row['p50']:.1f} | {row['p99']:.1f} | {row['most']:.0f} |"
        )
    return [*lines, ""]


def render(results: Results) -> str:
    """tests/GUARDS.md."""
    lines = [
        "# Guards that fail, and rates\n",
        "`make guards` writes this. What becomes of single requests behind rawproxy, nginx and Caddy",
        "is in [docs/access.md](../docs/access.md).\n",
        f"{_versions(results)}; rawproxy is {results['build']}.\n",
    ]
    if results["failing"]:
        lines += _failing(results)
    if results["rates"]:
        lines += _rates(results["rates"])
    return "\n".join(lines)


def quoted(text: str, results: Results) -> str:
    """docs/access.md with both tables as they are now."""
    for table in (ANSWERS, PITFALLS):
        block = f"<!-- {table}:begin -->\n{beside(results, table)}<!-- {table}:end -->"
        pattern = rf"<!-- {table}:begin -->\n.*?<!-- {table}:end -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.S)
    return text


def write(results: Results) -> None:
    """All files."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    TABLE.write_text(render(results))
    PAGE.write_text(quoted(PAGE.read_text(), results))
