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
GET = b"GET /%b HTTP/1.1\r\nHost: %b\r\n\r\n"
NAMES = ("rawproxy", *(peer.name for peer in PEERS))


class Target(NamedTuple):
    """One proxy."""

    name: str
    plain: int  # proxies
    tls: int  # proxies, HTTP/2 and HTTP/1.1
    local: int  # answers by itself: a redirect, or 421 to an unknown Host
    host: bytes  # which it is asked for there
    refused: bytes  # a request on `plain` that is answered by an error, with a line in the log
    programs: tuple[Program, ...]
    keep: contextlib.ExitStack  # closed behind the attack

    def deafen(self) -> None:
        """From now on nobody reads its standard error, a pipe without room for another line."""
        for program in self.programs:
            assert program.pipe is not None
            program.pipe.deafen()

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
    options += ["--server-name", "localhost"]
    with RawProxy(*options, piped=True) as proxy, contextlib.ExitStack() as keep:
        http, https = proxy.http, proxy.https
        refused = GET % (b"", b"elsewhere")
        yield Target("rawproxy", http, https, http, b"elsewhere", refused, (proxy,), keep)


@contextlib.contextmanager
def peer(one: Peer, port: int) -> Iterator[Target]:
    """One of the others."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pem = stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
        plain, tls, redirect = free_port(), free_port(), free_port()
        facts = {
            "FOLDER": folder, "PEM": pem, "PLAIN": plain, "TLS": tls, "REDIRECT": redirect,
            "UPSTREAM": port, "CLOSED": free_port(),
        }  # fmt: skip
        config = pathlib.Path(folder, one.config)
        template = (CONFIGS / one.config).read_text()
        config.write_text(re.sub(r"@([A-Z]+)@", lambda found: str(facts[found[1]]), template))
        command = [word.format(config=config, folder=folder) for word in one.command]
        env = os.environ | {"PATH": PATH, "HOME": folder}
        program = Program(command, piped=True, env=env)
        stack.callback(program.stop)
        for number in (plain, tls, redirect):
            wait_for_port(number, program.process)
        keep = stack.enter_context(contextlib.ExitStack())
        refused = GET % (b"closed", b"localhost")
        yield Target(one.name, plain, tls, redirect, b"localhost", refused, (program,), keep)


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
