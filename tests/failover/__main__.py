"""Run every proxy through every fault, print the table, keep it: `python -m tests.failover`."""

import asyncio
import contextlib
import datetime
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from tests.process import free_port, wait_for_port

from .load import CLIENTS, PAUSE, Count, load
from .proxies import PROXIES, VARIANTS

HERE = pathlib.Path(__file__).parent
BEFORE, DURING, AFTER = 2.0, 6.0, 6.0  # seconds
FAULTS = {
    "dies": "SIGKILL; another process listens on the port six seconds later",
    "hangs": "SIGSTOP for six seconds: it accepts and says nothing",
    "answers 503": "for six seconds",
}


class Backends:
    """Three upstreams, the middle one of which fails."""

    def __init__(self) -> None:
        self.ports = [free_port() for _ in range(3)]
        self.processes = [self.at("127.0.0.1", port, "abc"[n]) for n, port in enumerate(self.ports)]

    @staticmethod
    def at(host: str, port: int, name: str) -> subprocess.Popen[bytes]:
        """One more, listening."""
        command = [sys.executable, "-m", "tests.failover.backend", host, str(port), name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
        return process

    def fail(self, fault: str) -> None:
        one = self.processes[1]
        numbers = {"dies": signal.SIGKILL, "hangs": signal.SIGSTOP, "answers 503": signal.SIGUSR1}
        one.send_signal(numbers[fault])
        if fault == "dies":
            one.wait()

    def heal(self, fault: str) -> None:
        if fault == "dies":
            self.processes[1] = self.at("127.0.0.1", self.ports[1], "b")
        else:
            number = signal.SIGCONT if fault == "hangs" else signal.SIGUSR2
            self.processes[1].send_signal(number)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


async def run(port: int, backends: Backends, fault: str) -> Count:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(load(port, BEFORE + DURING + AFTER))
    await asyncio.sleep(BEFORE)
    backends.fail(fault)
    await asyncio.sleep(DURING)
    await loop.run_in_executor(None, backends.heal, fault)
    return await task


def one(proxy: str, variant: str, fault: str) -> dict[str, object]:
    """One proxy, one fault."""
    backends = Backends()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(backends.stop)
        port = free_port()
        command = PROXIES[proxy](pathlib.Path(folder), port, backends.ports, variant)
        log = stack.enter_context((pathlib.Path(folder) / "log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_for_port(port, process)
        time.sleep(1.5)  # for first probes; nobody's clock starts before
        count = asyncio.run(run(port, backends, fault))
    return {
        "proxy": proxy, "health": variant, "fault": fault, "sent": count.sent,
        "failed": sum(count.failed.values()), "how": dict(count.failed),
        "slowest": round(count.slow, 2), "answered": dict(sorted(count.by.items())),
    }  # fmt: skip


def version(name: str, command: list[str]) -> str:
    """The name of a program and the first number that it says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[^\s]*", done.stdout + done.stderr)
    return f"{name} {found[0] if found else ''}".strip()


def table(rows: list[dict[str, object]], versions: list[str]) -> str:
    """The results for people."""
    cells = {(row["proxy"], row["health"], row["fault"]): row for row in rows}
    sent = max(int(str(row["sent"])) for row in rows)
    lines = [
        "# One of three upstreams fails: requests lost",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC. {'; '.join(versions)}.",
        "",
        f"{CLIENTS} clients, {CLIENTS / PAUSE:.0f} requests a second, a tenth of them POST;"
        f" {BEFORE:.0f} s of peace, {DURING:.0f} s of the fault, {AFTER:.0f} s after it;"
        f" up to {sent} requests in each cell. `make failover` measures anew; how each proxy is set"
        " up stands in [proxies.py](proxies.py). A cell is: lost (how), slowest request.",
        "",
        "| proxy, health | " + " | ".join(FAULTS) + " |",
        "|---|" + "---|" * len(FAULTS),
    ]
    for variant in VARIANTS:
        for proxy in PROXIES:
            found = [cells.get((proxy, variant, fault)) for fault in FAULTS]
            if not any(found):
                continue
            shown = []
            for row in found:
                how = ", ".join(f"{n}x {what}" for what, n in dict(row["how"]).items())
                shown.append(f"**{row['failed']}**{f' ({how})' if how else ''}, {row['slowest']} s")
            lines.append(f"| {proxy}, {variant} | " + " | ".join(shown) + " |")
    lines += ["", *(f"- *{fault}*: {what}" for fault, what in FAULTS.items()), ""]
    return "\n".join(lines)


def main() -> None:
    there = [name for name in PROXIES if name == "rawproxy" or shutil.which(name.lower())]
    says = {
        "rawproxy": [sys.executable, "-m", "rawproxy", "--version"],
        "HAProxy": ["haproxy", "-v"],
        "Caddy": ["caddy", "version"],
    }
    versions = [version(name, says[name]) for name in there]
    rows = []
    for fault in FAULTS:
        for variant in VARIANTS:
            for proxy in there:
                rows.append(one(proxy, variant, fault))
                print(json.dumps(rows[-1]), flush=True)
    (HERE / "results.json").write_text(
        json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n"
    )
    (HERE / "RESULTS.md").write_text(table(rows, versions))
    print(table(rows, versions))


if __name__ == "__main__":
    main()
