"""What people read of the figures: tests/ATTACKS.md, and where docs/threats.md quotes it.

A quotation is what stands behind a link to a heading of that page, up to the bracket:
`([figures](../tests/ATTACKS.md#tabs): …)`. It is written anew with each run; a test holds both pages
to the figures.
"""

import json
import pathlib
import re
from typing import Any

from .stage import NAMES

HERE = pathlib.Path(__file__).parent
FIGURES = HERE / "figures.json"
TABLE = HERE.parent / "ATTACKS.md"
THREATS = HERE.parents[1] / "docs" / "threats.md"
QUOTED = re.compile(r"(\(\[figures\]\(\.\./tests/ATTACKS\.md#([a-z0-9-]+)\)): [^)]*\)")
Figures = dict[str, Any]


def known() -> Figures:
    """The figures of the runs so far."""
    if not FIGURES.exists():
        return {"versions": {}, "what": {}, "attacks": {}}
    found: Figures = json.loads(FIGURES.read_text())
    return found


def _name(proxy: str, row: dict[str, Any], versions: dict[str, str]) -> str:
    """With its version, where that is not the one that stands above the table."""
    return proxy if row["version"] == versions[proxy] else f"{proxy} {row['version']}"


def render(figures: Figures) -> str:
    """The table as people read it."""
    lines = [
        "# Attacks by one client, and what others notice\n",
        "`python -m tests.attacks` writes this. Each attack is mounted against each proxy, with the",
        "configurations in [attacks/configs](attacks/configs). A bystander in a process of its own,",
        "with another address than the attacker, asks a small thing every five milliseconds.",
        "Attacker, bystander, upstream and proxy share one machine of two cores, and other work",
        "with them: hold the figures against the rows without an attack. What a proxy answers",
        "itself is a redirect, and for rawproxy a 421 (both are as cheap, and so the bystander asks",
        "the same process). `refused`: answers other than 200, and cut connections; after five",
        "seconds the bystander gives up. `grown`: the proxy's resident memory at the worst moment.\n",
        "; ".join(f"{name} {text}".strip() for name, text in figures["versions"].items()) + ".\n",
    ]
    for attack, rows in figures["attacks"].items():
        lines += [
            f"## {attack}\n",
            f"{figures['what'][attack]}.\n",
            "| proxy | requests | refused | p50 ms | longest ms | grown by MB | CPU s |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for proxy in NAMES:
            if proxy in rows:
                row = rows[proxy]
                name = _name(proxy, row, figures["versions"])
                lines.append(
                    f"| {name} | {row['requests']:,} | {row['refused']:,} | {row['p50']:.1f}"
                    f" | {row['most']:.0f} | {row['grown']:.1f} | {row['cpu']:.1f} |"
                )
        lines.append("")
    return "\n".join(lines)


def quote(text: str, figures: Figures) -> str:
    """`text` with what rawproxy's rows say where it quotes them."""

    def said(found: re.Match[str]) -> str:
        row = figures["attacks"][found[2]].get("rawproxy")
        if row is None:
            return f"{found[1]}: not measured yet)"
        refused = f"{row['refused']:,}" if row["refused"] else "nobody"
        return f"{found[1]}: {refused} refused, others waited {row['most']:.0f} ms at the most)"

    return QUOTED.sub(said, text)


def write(figures: Figures) -> None:
    """All three files."""
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    TABLE.write_text(render(figures))
    THREATS.write_text(quote(THREATS.read_text(), figures))
