"""nginx and rawproxy beside each other with configurations that are put together at random.

    python -m tests.nginx.pairs [--pairs 100000] [--requests 500] [--seed 1] [--write]

Each configuration runs in both; each of its requests goes to both, and what the upstream and the
client saw is compared byte by byte, less the differences that `compare.ALLOWED` lists. `--write`
leaves tests/nginx/PAIRS.md. Exit code 1 where anything else differs. `make nginx-pairs` calls it.
"""

import asyncio
import pathlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field

import click
from hypothesis import HealthCheck, Phase, given, seed, settings

from rawproxy.cli import reread
from rawproxy.errors import ConfigError
from tests.nginx.asking import Asker
from tests.nginx.compare import ALLOWED, difference
from tests.nginx.generator import Configuration, configurations
from tests.nginx.stand import Request, Stand
from tests.nginx.wires import Client, Upstream, seen

PAGE = pathlib.Path(__file__).parent / "PAIRS.md"
LANES = 4  # clients of each proxy at once
SHOWN = 3  # examples of each kind of difference


@dataclass
class Found:
    """What came of a run."""

    pairs: int = 0
    configurations: int = 0
    locations: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    allowed: Counter[str] = field(default_factory=Counter)
    differences: list[tuple[str, Request, Configuration]] = field(default_factory=list)
    proxied: int = 0


def compare(configuration: Configuration, number: int, requests: int, found: Found) -> None:
    """Run one configuration, and ask both sides `requests` times."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "trial.conf")
        path.write_text(configuration.text)
        try:
            reread(["--nginx", str(path)])
        except ConfigError as error:
            found.refused[error.messages[0].partition(": ")[2]] += 1
            return
        asyncio.run(_both(configuration, number, requests, found, pathlib.Path(folder)))
    found.configurations += 1
    found.locations += configuration.text.count("location ")


async def _both(
    configuration: Configuration, number: int, requests: int, found: Found, folder: pathlib.Path
) -> None:
    upstream = Upstream()
    await upstream.open()
    stand = Stand(configuration.text, folder, (upstream, upstream))
    with await asyncio.to_thread(stand.__enter__):
        asker = Asker(configuration, number, f"127.0.0.1:{upstream.port}")
        asked = [asker.asked() for _ in range(requests)]
        upstream.planned = {str(at): answer for at, (_, answer) in enumerate(asked)}
        came: dict[str, list[tuple[bytes, bytes]]] = {}
        lanes = []
        for who in ("nginx", "rawproxy"):
            came[who] = [(b"", b"")] * requests
            for first in range(LANES):
                client = Client(who, stand.ports[who], stand.tls)
                lanes.append(_lane(client, asked, range(first, requests, LANES), came[who]))
        await asyncio.gather(*lanes)
        ports = stand.ports["nginx"], stand.ports["rawproxy"]
        for at, (request, _) in enumerate(asked):
            theirs, ours = [
                seen(*came[who][at], upstream.noted.get(f"{who[0]}{at}", [])) for who in came
            ]
            what = difference(theirs, ours, ports, request, found.allowed)
            found.pairs += 1
            found.proxied += bool(ours.line)
            found.statuses[ours.status] += 1
            if what:
                found.differences.append((what, request, configuration))


async def _lane(client: Client, asked: list, mine: range, came: list[tuple[bytes, bytes]]) -> None:
    try:
        for at in mine:
            came[at] = await client.ask(at, asked[at][0])
    finally:
        client.close()


def run(pairs: int, requests: int, number: int, say=lambda found: None) -> Found:
    """Compare until there are `pairs` of request and configuration; `number` is the seed."""
    found = Found()

    @seed(number)
    @settings(
        max_examples=4 * pairs // requests + 8, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(configurations())
    def each(configuration: Configuration) -> None:
        if found.pairs < pairs:
            compare(configuration, number + found.configurations, requests, found)
            say(found)

    each()
    return found


def report(found: Found, number: int, took: float) -> str:
    """The page about a run."""
    lines = [
        "# nginx and rawproxy, the same file, the same requests",
        "",
        "Written by `make nginx-pairs`. Configurations and requests are put together at random"
        " (`generator`, `asking`); what upstream and client saw is compared byte by byte.",
        "",
        "| | |", "|---|---|",
        f"| pairs of request and configuration | {found.pairs:,} |",
        f"| configurations, with locations | {found.configurations:,}, {found.locations:,} |",
        f"| of the pairs, reached the upstream | {found.proxied:,} |",
        f"| configurations that were refused, and so not run | {found.refused.total():,} |",
        f"| seed, minutes | {number}, {took / 60:.1f} |",
        f"| **differences that are not on the list** | **{len(found.differences):,}** |",
        "",
        "| allowed difference | times | why |", "|---|---|---|",
        *(f"| {name} | {found.allowed[name]:,} | {why} |" for name, why in ALLOWED.items()),
        "",
        "Statuses: " + ", ".join(f"{one} {count:,}" for one, count in sorted(found.statuses.items())) + ".",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def examples(found: Found) -> str:
    """Each kind of difference with some of its requests, and the configurations of these."""
    kinds: dict[str, list[tuple[str, Request, Configuration]]] = {}
    for one in found.differences:
        kinds.setdefault(one[0].partition("'")[0].partition("None")[0], []).append(one)
    parts, shown = [], dict[str, str]()
    for kind, those in sorted(kinds.items(), key=lambda one: -len(one[1])):
        parts.append(f"== {kind}: {len(those)}")
        for what, request, configuration in sorted(those, key=lambda one: len(one[2].text))[:SHOWN]:
            name = shown.setdefault(configuration.text, f"configuration {len(shown) + 1}")
            parts.append(f"{what}\n  {name}: {request}")
    parts += [f"-- {name}\n{text}" for text, name in shown.items()]
    return "\n".join(parts)


@click.command()
@click.option("--pairs", default=100_000)
@click.option("--requests", default=500)
@click.option("--seed", "number", default=1)
@click.option("--write", is_flag=True)
def main(pairs: int, requests: int, number: int, write: bool) -> None:
    """Compare, print what differs, and write the page."""
    assert shutil.which("nginx", path="/usr/sbin:/usr/bin"), "needs the Debian package nginx-light"
    began = time.monotonic()

    def say(found: Found) -> None:
        text = f"\r{found.pairs} pairs, {len(found.differences)} differ, {found.refused.total()} refused "
        click.echo(text, nl=False, err=True)

    found = run(pairs, requests, number, say)
    took = time.monotonic() - began
    click.echo("", err=True)
    click.echo(examples(found))
    click.echo(report(found, number, took))
    for why, times in found.refused.most_common(8):
        click.echo(f"refused {times}: {why}", err=True)
    if write:
        PAGE.write_text(report(found, number, took))
    sys.exit(1 if found.differences else 0)


if __name__ == "__main__":
    main()
