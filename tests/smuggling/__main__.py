"""`make rules`: send the corpus to rawproxy and its peers; write `verdicts.json` and `TABLE.md`.

Peers that are not installed keep what was recorded of them. It takes about a minute.
"""

import asyncio
import json
import sys
from typing import Any

from . import judge, table, verdict
from .cases import Case
from .judge import Target
from .peers import PEERS, running
from .stand import stand

QUIET = 1.0  # seconds without a byte after which a proxy is said to wait


async def verdicts(target: Target, corpus: list[Any]) -> dict[str, str]:
    """The verdict of every case, by its id."""
    found = {}
    for case in corpus:
        if isinstance(case, Case):
            found[case.id] = verdict.of_case(case, await judge.request(case, target, QUIET))
        else:
            found[case.id] = verdict.of_answer(case, await judge.answer(case, target, QUIET))
    return found


def main() -> int:
    """Run everybody; the exit code."""
    old = table.load() if table.VERDICTS.exists() else {"versions": {}, "cases": {}}
    versions, columns = dict(old["versions"]), {}
    for parser in ("h11", "auto"):
        with stand(parser, "--no-hsts") as proxy:
            columns[parser] = proxy.runner.run(verdicts(proxy.target, table.CORPUS))
    if columns.pop("h11") != columns["auto"]:
        print("the two parsing lanes do not agree: see the tests", file=sys.stderr)
        return 1
    columns["rawproxy"] = columns.pop("auto")
    for peer in PEERS:
        version = peer.installed()
        if not version:
            print(f"{peer.name} is not installed: its verdicts stay as they were", file=sys.stderr)
            columns[peer.name] = {i: row.get(peer.name, "-") for i, row in old["cases"].items()}
            continue
        with asyncio.Runner() as runner, running(peer, runner) as target:
            columns[peer.name] = runner.run(verdicts(target, table.CORPUS))
        versions[peer.name] = version
        print(f"{peer.name} {version}: {len(columns[peer.name])} cases")
    cases = {
        case.id: {"raw": table.digest(case)}
        | {name: columns[name].get(case.id, "-") for name in table.NAMES}
        for case in table.CORPUS
    }
    recorded = {"versions": versions, "cases": cases}
    table.VERDICTS.write_text(json.dumps(recorded, indent=1) + "\n")
    table.TABLE.write_text(table.render(recorded))
    return 0


sys.exit(main())
