"""A capability is a room that can be left out: without its folder and its name, the rest serves."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest

import rawproxy
from rawproxy.config.options import CAPABILITIES
from tests.builds import plain_only
from tests.outposts.server import Recorder
from tests.process import PATIENCE, Program, free_port, wait_for_port

# By room: a key that each of them brings, and what its absence is called.
KEYS = {
    "access": ('[[site]]\nallow = "all"', "file.toml:3: [[site]] allow"),
    "acme": ('[[site]]\nacme = "all"', "file.toml:3: [[site]] acme"),
    "discovery": ("[discovery]\nfolder = 'x'", "file.toml:2: discovery"),
    "store": ('store = "file:/nowhere"', "file.toml:2: store"),
}
PACKAGE = pathlib.Path(rawproxy.__file__).parent


@plain_only("a copy of the sources is what serves here")
@pytest.mark.parametrize("room", CAPABILITIES)
def test_a_proxy_without_it_serves(tmp_path, room):
    copy = tmp_path / "rawproxy"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so", room))
    options = copy / "config" / "options.py"
    line = f"CAPABILITIES = {CAPABILITIES}\n".replace("'", '"')
    assert options.read_text().count(line) == 1
    others = tuple(one for one in CAPABILITIES if one != room)
    options.write_text(
        options.read_text().replace(line, f"CAPABILITIES: tuple[str, ...] = {others}\n")
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "COVERAGE_PROCESS_START": ""}
    command = [sys.executable, "-P", "-m", "rawproxy"]

    line, said = KEYS[room]
    (tmp_path / "file.toml").write_text(f'upstream = "http://127.0.0.1:1"\n{line}\n')
    check = [*command, "check", "--config", str(tmp_path / "file.toml")]
    done = subprocess.run(
        check, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert f"{said}: not known" in done.stderr, "its keys are gone with it"

    with Recorder() as upstream:
        port = free_port()
        serve = ["--upstream", f"http://127.0.0.1:{upstream.port}", "--http", f"127.0.0.1:{port}"]
        proxy = Program([*command, *serve], env=environment, cwd=tmp_path)
        try:
            wait_for_port(port, proxy.process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=PATIENCE) as answer:
                assert (answer.status, answer.read()) == (200, b"app")
            assert upstream.seen[-1].target == "/x"
        finally:
            assert proxy.stop(signal.SIGTERM) == 0
