"""How long a change takes to be in force in all workers, with 3,000 sites.

    python -m tests.production.in_force

By `SIGHUP` and a file that has them all, and by a folder that has one file for each. Nothing else
runs beside it. Each change adds a site. It is in force when so many new connections in a row have
found that site.
"""

import pathlib
import signal
import socket
import sys
import tempfile
import time

from tests.process import PATIENCE, RawProxy

from .stage import upstream

SITES, TIMES, SEEN = 3000, 6, 12


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


def by_signal(folder: pathlib.Path, head: str) -> list[float]:
    file = folder / "all.toml"
    text = head + "".join(map(site, range(SITES)))
    file.write_text(text)
    took = []
    with RawProxy("--config", str(file), https=False) as proxy:
        for number in range(SITES, SITES + TIMES):
            text += site(number)
            file.write_text(text)
            began = time.monotonic()
            proxy.process.send_signal(signal.SIGHUP)
            took.append(until_in_force(proxy.http, f"s{number}.test", began))
            time.sleep(1)
    return took


def by_folder(folder: pathlib.Path, head: str) -> list[float]:
    file, sites = folder / "some.toml", folder / "sites.d"
    sites.mkdir()
    file.write_text(f'{head}[discovery]\nfolder = "{sites}"\n')
    for number in range(SITES):
        (sites / f"{number}.toml").write_text(site(number))
    took = []
    with RawProxy("--config", str(file), https=False) as proxy:
        (sites / "first.toml").write_text(site(SITES))  # from then on somebody watches
        until_in_force(proxy.http, f"s{SITES}.test", time.monotonic())
        for number in range(SITES + 1, SITES + 1 + TIMES):
            time.sleep(1)
            (sites / ".new").write_text(site(number))
            began = time.monotonic()
            (sites / ".new").rename(sites / f"{number}.toml")
            took.append(until_in_force(proxy.http, f"s{number}.test", began))
    return took


def main() -> int:
    with tempfile.TemporaryDirectory() as path, upstream() as port:
        folder = pathlib.Path(path)
        head = (
            f'workers = 2\naccess-log = "off"\n[group.app]\nupstream = "http://127.0.0.1:{port}"\n'
        )
        for name, measured in (("SIGHUP", by_signal), ("folder", by_folder)):
            took = sorted(measured(folder, head))
            print(
                f"{name}, {SITES:,} sites: in force within {took[len(took) // 2]:.2f} s (median),"
                f" {took[-1]:.2f} s (latest of {TIMES})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
