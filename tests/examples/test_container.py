"""The Dockerfile and the compose file, as far as they can be judged without a daemon.

`python -m tests.docker` builds the image and runs it.
"""

import os
import shlex
import shutil
import subprocess

import pytest
import yaml

from rawproxy import cli
from tests.examples import EXAMPLES

FOLDER = EXAMPLES / "docker"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SECRETS = {"PG_PASS": "a", "AUTHENTIK_SECRET_KEY": "b"}


def instructions() -> list[tuple[str, str]]:
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def test_the_image_has_no_root_and_a_health_check():
    last = dict(instructions())
    assert last["USER"] == "10001:10001", "a number: Kubernetes judges nothing else"
    assert "/healthz" in last["HEALTHCHECK"]
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["ENTRYPOINT"] == '["/opt/rawproxy/bin/rawproxy"]'


def test_the_health_check_asks_the_address_that_the_image_sets():
    last = dict(instructions())
    (admin,) = [word for word in last["ENV"].split() if word.startswith("RAWPROXY_ADMIN=")]
    assert f"http://{admin.partition('=')[2]}/healthz" in last["HEALTHCHECK"]


def test_what_the_image_is_made_of_is_there():
    kept = [
        line[1:]
        for line in (EXAMPLES.parent / ".dockerignore").read_text().split()
        if line[0] == "!"
    ]
    assert {"rawproxy", "setup.py", "pyproject.toml"} <= set(kept)
    for name in kept:
        assert (EXAMPLES.parent / name).exists(), name


def test_compose_accepts_the_file():
    words = ["docker-compose", "--file", str(FOLDER / "compose.yaml"), "config", "--quiet"]
    if not shutil.which(words[0]):
        pytest.skip("docker-compose is missing: apt install docker-compose")
    done = subprocess.run(
        words, env=os.environ | SECRETS, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_proxy_stands_in_front_of_authentik():
    services = COMPOSE["services"]
    assert set(services) == {
        "rawproxy",
        "authentik-server",
        "authentik-worker",
        "postgresql",
        "redis",
    }
    assert [name for name, one in services.items() if "ports" in one] == ["rawproxy"]
    proxy = services["rawproxy"]
    words = shlex.split(proxy["command"])
    config = cli.reread(words)
    (upstream,) = config.groups[0].upstreams
    assert (upstream.host, upstream.port) == ("authentik-server", 9443)
    inner = [port.partition(":")[2] for port in proxy["ports"]]
    assert inner == [str(address.port) for address in (*config.http, *config.https)]
    assert int(proxy["stop_grace_period"].removesuffix("s")) > config.deadlines.drain
    assert proxy["read_only"] and proxy["cap_drop"] == ["ALL"]
