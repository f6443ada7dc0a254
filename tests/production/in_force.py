"""How long a change takes to be in force in all workers, with 3,000 sites.

    python -m tests.production.in_force      `make in-force`

By `SIGHUP` and a file that has them all, and by a folder that has one file for each. Nothing else
should run beside it. Each change adds a site. It is in force when so many new connections in a row
have found that site. Meanwhile another process asks over kept connections, and tells its longest
wait. What it finds is written to IN_FORCE.md beside this file.
"""

import argparse
import asyncio
import pathlib
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from tests.process import PATIENCE, RawProxy, replace
from tests.wire.test_changes import longest_turns

from .longest_wait import watched
from .stage import upstream
from .trial import tried, write_page

SITES, TIMES, SEEN = 3000, 10, 12
WANTED = 1.0  # seconds
Row = tuple[str, list[float], float, float]  # how, seconds, longest waits at rest and meanwhile


def site(number: int) -> str:
    return (
        f'[[site]]\nserver-name = "s{number}.test"\n[[site.route]]\ngroup = "app"\n'
        f'[[site.route]]\npath = "/gone"\nrespond = {{ status = 410 }}\n'
    )


def answers(port: int, name: str) -> bool:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(f"GET /x HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(12)[9:] == b"200"


def until_in_force(port: int, name: str, began: float) -> float:
    """Seconds until all see it."""
    while not all(answers(port, name) for _ in range(SEEN)):
        assert time.monotonic() - began < PATIENCE, f"{name} is not in force"
        time.sleep(0.005)
    return time.monotonic() - began


def measured(name: str, proxy: RawProxy, change: Callable[[int], None]) -> Row:
    """`change` adds the site of that number."""
    took, meanwhile, at_rest = [], 0.0, 0.0
    with watched(proxy.http) as wait:
        for number in range(SITES + 1, SITES + 1 + TIMES):
            wait.since()
            time.sleep(1)
            at_rest = max(at_rest, wait.since())
            began = time.monotonic()
            change(number)
            took.append(until_in_force(proxy.http, f"s{number}.test", began))
            meanwhile = max(meanwhile, wait.since())
    return name, took, at_rest, meanwhile


def by_signal(folder: pathlib.Path, head: str) -> Row:
    file = folder / "all.toml"
    lines = [head, *map(site, range(SITES))]
    replace(file, "".join(lines))
    with tried("--config", str(file), https=False) as proxy:

        def change(number: int) -> None:
            lines.append(site(number))
            replace(file, "".join(lines))
            proxy.process.send_signal(signal.SIGHUP)

        return measured("`SIGHUP`, one file", proxy, change)


def by_folder(folder: pathlib.Path, head: str) -> Row:
    file, sites = folder / "some.toml", folder / "sites.d"
    sites.mkdir()
    replace(file, f'{head}[discovery]\nfolder = "{sites}"\n')
    for number in range(SITES):
        replace(sites / f"{number}.toml", site(number))
    with tried("--config", str(file), https=False) as proxy:
        replace(sites / "first.toml", site(SITES))  # from then on somebody watches
        until_in_force(proxy.http, f"s{SITES}.test", time.monotonic())
        return measured(
            "a folder, a file for each", proxy, lambda n: replace(sites / f"{n}.toml", site(n))
        )


def report(rows: list[Row]) -> str:
    """What came of it, for people."""
    lines = [
        f"{SITES:,} sites, two workers. Each of {TIMES} changes adds a site; it is in force when"
        f" {SEEN} new connections in a row have found it. Wanted: within {WANTED:g} s.",
        "",
        "| how | in force within (median) | the slowest | longest wait of a request meanwhile | at rest |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {statistics.median(took):.2f} s | {max(took):.2f} s"
        f" | {1000 * meanwhile:.0f} ms | {1000 * at_rest:.0f} ms |"
        for name, took, at_rest, meanwhile in rows
    ]
    one, all_of_them = asyncio.run(longest_turns(SITES))
    return "\n".join(
        [
            *lines,
            "",
            f"The longest turn of a worker's loop, by the processor time of its thread, and in the"
            f" plain build: {1000 * one:.1f} ms where one site is other,"
            f" {1000 * all_of_them:.1f} ms where all are. Wanted: less than 20 ms.",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--print", action="store_true", help="Write no page.")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as path, upstream() as port:
        folder = pathlib.Path(path)
        head = (
            f'workers = 2\naccess-log = "off"\n[group.app]\nupstream = "http://127.0.0.1:{port}"\n'
        )
        rows = [way(folder, head) for way in (by_signal, by_folder)]
    text = report(rows)
    print(text)
    if not told.print:
        write_page("IN_FORCE.md", "How soon a change is in force", "in-force", text)
    return 1 if max(max(took) for _, took, _, _ in rows) > WANTED else 0


if __name__ == "__main__":
    sys.exit(main())
