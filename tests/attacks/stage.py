"""The proxies that attacks are mounted against, each in front of the same upstream."""

import contextlib
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from rawproxy import __version__
from rawproxy.proxy import exchange
from tests.process import LEAF, Program, RawProxy, free_port, wait_for_port
from tests.smuggling.peers import PATH, PEERS, Peer

CONFIGS = pathlib.Path(__file__).parent / "configs"
NAMES = ("rawproxy", *(peer.name for peer in PEERS))


class Target(NamedTuple):
    """One proxy."""

    name: str
    plain: int  # proxies
    tls: int  # proxies, HTTP/2 and HTTP/1.1
    local: int  # answers by itself: a redirect, or 421 to an unknown Host
    host: bytes  # which it is asked for there
    programs: tuple[Program, ...]
    keep: contextlib.ExitStack  # closed behind the attack

    def rss(self) -> int:
        """Resident memory, in bytes."""
        return sum(program.rss() for program in self.programs)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return sum(program.cpu() for program in self.programs)


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """What stands behind; its port."""
    command = [sys.executable, "-m", "tests.attacks.upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def descriptors() -> None:
    """As many as there may be, for us and for what we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def rawproxy(port: int) -> Iterator[Target]:
    """It answers 421 by itself to an unknown Host: with redirects, no plain port would proxy."""
    options = ["--upstream", f"http://127.0.0.1:{port}", "--access-log", "off", "--no-redirect"]
    with RawProxy(*options, "--server-name", "localhost") as proxy, contextlib.ExitStack() as keep:
        yield Target("rawproxy", proxy.http, proxy.https, proxy.http, b"elsewhere", (proxy,), keep)


@contextlib.contextmanager
def peer(one: Peer, port: int) -> Iterator[Target]:
    """One of the others."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pem = stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
        plain, tls, redirect = free_port(), free_port(), free_port()
        facts = {
            "FOLDER": folder, "PEM": pem, "PLAIN": plain, "TLS": tls, "REDIRECT": redirect,
            "UPSTREAM": port,
        }  # fmt: skip
        config = pathlib.Path(folder, one.config)
        template = (CONFIGS / one.config).read_text()
        config.write_text(re.sub(r"@([A-Z]+)@", lambda found: str(facts[found[1]]), template))
        command = [word.format(config=config, folder=folder) for word in one.command]
        program = Program(command, env=os.environ | {"PATH": PATH, "HOME": folder})
        stack.callback(program.stop)
        for number in (plain, tls, redirect):
            wait_for_port(number, program.process)
        keep = stack.enter_context(contextlib.ExitStack())
        yield Target(one.name, plain, tls, redirect, b"localhost", (program,), keep)


@contextlib.contextmanager
def running(name: str) -> Iterator[Target]:
    """The proxy of this name, fresh."""
    with upstream() as port:
        if name == "rawproxy":
            with rawproxy(port) as target:
                yield target
            return
        one = next(one for one in PEERS if one.name == name)
        with peer(one, port) as target:
            yield target


def versions() -> dict[str, str]:
    """Of what is installed; who is not is left out."""
    build = "plain Python" if str(exchange.__file__).endswith(".py") else "compiled by mypyc"
    found = {"rawproxy": f"{__version__} ({build})"}
    for one in PEERS:
        if version := one.installed():
            found[one.name] = version
    return found
