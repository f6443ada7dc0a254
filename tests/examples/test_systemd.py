"""The systemd units: systemd itself accepts them, and they agree with the file that they name."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from rawproxy import cli
from tests.examples import EXAMPLES

UNITS = EXAMPLES / "systemd"
BINARY = "/usr/local/bin/rawproxy"


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


@pytest.fixture
def verify(tmp_path):
    """What `systemd-analyze verify` says of the units, with a program that exists in them."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is missing: apt install systemd")

    def verify(extra: str = "") -> tuple[int, str]:
        units = []
        for path in sorted(UNITS.iterdir()):
            text = path.read_text().replace(BINARY, sys.executable)
            (tmp_path / path.name).write_text(text.replace("[Service]\n", f"[Service]\n{extra}"))
            units.append(str(tmp_path / path.name))
        words = ["systemd-analyze", "verify", "--man=no", *units]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    return verify


def test_systemd_accepts_the_units(verify):
    assert verify() == (0, "")


def test_systemd_would_have_found_a_mistake(verify):
    assert "PrivateTmpp" in verify("PrivateTmpp=yes\n")[1]


def test_the_sockets_are_the_listeners_of_the_file():
    (command,) = values("rawproxy.service", "ExecStart")
    assert command.startswith(f"{BINARY} --config /etc/rawproxy/rawproxy.toml ")
    config = cli.reread(["--config", str(EXAMPLES / "authentik.toml")])
    ports = [str(address.port) for address in (*config.http, *config.https)]
    assert values("rawproxy.socket", "ListenStream") == ports


def test_systemd_waits_for_the_drain():
    (patience,) = values("rawproxy.service", "TimeoutStopSec")
    drain = cli.reread(["--upstream", "a:1"]).deadlines.drain
    assert int(patience) > drain


def test_the_service_has_no_privilege():
    assert values("rawproxy.service", "CapabilityBoundingSet") == [""]
    assert values("rawproxy.service", "NoNewPrivileges") == ["yes"]
    assert values("rawproxy.service", "DynamicUser") == ["yes"]
    assert not pathlib.Path(UNITS / "rawproxy.service").read_text().count("User=root")
