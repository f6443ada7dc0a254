"""rawproxy, nginx and Caddy, each before the same application and the same guard.

Their configurations are in `configs/`: what people paste, and what docs/access.md says instead.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from rawproxy import __version__
from tests.process import Program, RawProxy, free_port, wait_for_port
from tests.smuggling.peers import PATH, PEERS, Peer

CONFIGS = pathlib.Path(__file__).parent / "configs"
OTHERS = {peer.name: peer for peer in PEERS if peer.name in ("nginx", "Caddy")}
NAMES = ("rawproxy", *OTHERS)


class Front(NamedTuple):
    """A proxy that runs."""

    name: str
    port: int
    program: Program


def filled(folder: str, name: str, facts: dict[str, object]) -> pathlib.Path:
    """`configs/name` with each @FACT@ filled in."""
    path = pathlib.Path(folder, name)
    text = (CONFIGS / name).read_text()
    path.write_text(re.sub(r"@([A-Z]+)@", lambda found: str(facts[found[1]]), text))
    return path


@contextlib.contextmanager
def running(name: str, app: int, guard: int) -> Iterator[Front]:
    """The proxy of this name before these ports."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # nginx's worker is another user where root starts it
        facts: dict[str, object] = {"FOLDER": folder, "APP": app, "GUARD": guard}
        if name == "rawproxy":
            path = filled(folder, "rawproxy.toml", facts)
            with RawProxy("--config", str(path), https=False) as proxy:
                yield Front(name, proxy.http, proxy)
            return
        with other(OTHERS[name], folder, facts) as front:
            yield front


@contextlib.contextmanager
def other(peer: Peer, folder: str, facts: dict[str, object]) -> Iterator[Front]:
    """One of the others."""
    port = free_port()
    config = filled(folder, peer.config, facts | {"PORT": port})
    command = [word.format(config=config, folder=folder) for word in peer.command]
    program = Program(command, env=os.environ | {"PATH": PATH, "HOME": folder})
    try:
        wait_for_port(port, program.process)
        yield Front(peer.name, port, program)
    finally:
        program.stop()


def versions() -> dict[str, str]:
    """Of what is installed; who is not is left out."""
    found = {name: peer.installed() for name, peer in OTHERS.items()}
    return {"rawproxy": __version__} | {name: one for name, one in found.items() if one}
