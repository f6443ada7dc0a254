"""The TOML files are read by the parser that reads an administrator's."""

import tomllib

import pytest

from rawproxy import cli
from tests.examples import EXAMPLES

FILES = sorted(EXAMPLES.glob("*.toml"))


def load(name: str):
    return cli.reread(["--config", str(EXAMPLES / name)])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_a_configuration(path):
    config = load(path.name)
    assert config.https and config.http, "each example has the listeners of a server in the open"
    assert all(site.certificates for site in config.sites)
    assert path.read_text().startswith("# "), "it says what it is for"


def test_there_is_one_for_each_of_the_usual_wishes():
    names = {path.stem for path in FILES}
    assert names == {"authentik", "sites", "websockets", "client-certificates", "group"}


def test_every_name_is_an_example():
    """RFC 2606: names that belong to nobody."""
    for path in FILES:
        for site in load(path.name).sites:
            assert all(name.endswith("example.com") for name in site.names), path.name


def test_authentik_is_short():
    text = (EXAMPLES / "authentik.toml").read_text()
    assert len(tomllib.loads(text)) == 7
    config = load("authentik.toml")
    assert config.deadlines.wait == 60, "its restart fails no request"
    (group,) = config.groups
    assert [(one.host, one.port) for one in group.upstreams] == [("authentik.internal", 9443)]


def test_sites_have_routes_of_their_own():
    sso, www = load("sites.toml").sites
    assert [route.group for route in sso.routes] == ["authentik"]
    assert [route.path for route in www.routes] == ["/", "/api", "/old"]
    assert www.routes[1].limits.body == 1 << 20
    assert www.routes[2].redirect.status == 308


def test_a_websocket_finds_room_everywhere():
    """A tunnel needs a client's connection and a place among the tunnels."""
    config = load("websockets.toml")
    assert config.limits.tunnels <= config.limits.connections
    assert (config.deadlines.tunnel_idle, config.deadlines.drain) == (86400, 120)


def test_client_certificates_are_asked_for_where_they_should_be():
    sites = {site.names[0]: site.client_verify for site in load("client-certificates.toml").sites}
    assert sites == {
        "sso.example.com": "off",
        "machines.example.com": "require",
        "staff.example.com": "optional",
    }


def test_the_group_watches_its_upstreams():
    (group,) = load("group.toml").groups
    assert [(one.weight, one.backup) for one in group.upstreams] == [
        (1, False),
        (3, False),
        (1, True),
    ]
    assert group.active.path == "/-/health/ready/" and group.passive.max_fails == 3
