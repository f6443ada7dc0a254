"""nginx, HAProxy and Caddy in front of a recorder, with the configurations in `configs/`."""

import asyncio
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from tests.process import LEAF, Program, free_port, wait_for_port

from .judge import Target
from .recorder import Recorder

CONFIGS = pathlib.Path(__file__).parent / "configs"
PATH = os.environ["PATH"] + ":/usr/sbin"


class Peer(NamedTuple):
    """A proxy to compare with."""

    name: str
    config: str  # in `configs/`
    command: tuple[str, ...]  # {config} is the filled-in file, {folder} where it may write
    version: tuple[str, ...]

    def path(self) -> str | None:
        """The program; None where it is not installed."""
        return shutil.which(self.command[0], path=PATH)

    def installed(self) -> str:
        """Its version; empty where it is not installed."""
        program = self.path()
        if program is None:
            return ""
        done = subprocess.run([program, *self.version], capture_output=True, check=True, timeout=20)
        found = re.search(rb"[0-9]+\.[0-9]+\.[0-9]+", done.stdout + done.stderr)
        return found[0].decode() if found else "?"


PEERS = (
    Peer("nginx", "nginx.conf", ("nginx", "-p", "{folder}", "-e", "stderr", "-c", "{config}"), ("-v",)),
    Peer("HAProxy", "haproxy.cfg", ("haproxy", "-db", "-f", "{config}"), ("-v",)),
    Peer("Caddy", "Caddyfile", ("caddy", "run", "--adapter", "caddyfile", "--config", "{config}"),
         ("version",)),
)  # fmt: skip


@contextlib.contextmanager
def running(peer: Peer, runner: asyncio.Runner) -> Iterator[Target]:
    """`peer` in front of a recorder that lives in the runner's loop."""
    recorder = Recorder()
    runner.run(recorder.__aenter__())
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pem = stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
        plain, tls = free_port(), free_port()
        facts = {
            "FOLDER": folder,
            "PEM": pem,
            "PLAIN": plain,
            "TLS": tls,
            "UPSTREAM": recorder.port,
        }
        config = pathlib.Path(folder, peer.config)
        template = (CONFIGS / peer.config).read_text()
        config.write_text(re.sub(r"@([A-Z]+)@", lambda found: str(facts[found[1]]), template))
        command = [word.format(config=config, folder=folder) for word in peer.command]
        environment = os.environ | {"PATH": PATH, "HOME": folder}
        program = Program(command, env=environment)
        stack.callback(program.stop)
        for port in (plain, tls):
            wait_for_port(port, program.process)
        yield Target(peer.name, plain, tls, recorder)
    runner.run(recorder.__aexit__())
