"""The configuration as a whole: what one part of it cannot know of another."""

import ipaddress
import math
from dataclasses import replace

import pytest

from rawproxy.config.addresses import parse_address
from rawproxy.config.model import (
    Address,
    Certificate,
    Config,
    Group,
    Limits,
    Redirect,
    Route,
    Site,
    Upstream,
    single,
)
from rawproxy.config.problems import check
from rawproxy.errors import ConfigError

TLS = Upstream("h:1", tls=True, host="h", port=1)
PLAIN = Upstream("http://h", tls=False, host="h", port=80)
GOOD = single(upstreams=(TLS,), http=(Address(None, 80),))


def grouped(**options):
    """The same with another default group."""
    return replace(GOOD, groups=(replace(GOOD.groups[0], **options),))


def test_check_accepts():
    assert check(GOOD) is GOOD
    plain = grouped(upstreams=(PLAIN,))
    assert check(plain) is plain
    full = single(
        upstreams=(TLS, PLAIN),
        https=(Address(None, 443),),
        certificates=(Certificate("c", "k"),),
        upstream_verify="system",
    )
    assert check(full) is full


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (single(upstreams=()), "--upstream is missing"),
        (single(upstreams=(TLS,), https=(Address(None, 443),)), "--https needs a certificate"),
        (single(upstreams=(TLS,)), "--http is missing, so there is nothing to listen on"),
        (
            single(
                upstreams=(TLS,),
                http=GOOD.http,
                upstream_pins=frozenset("a"),
                upstream_verify="off",
            ),
            "leave --upstream-verify out",
        ),
        (
            single(upstreams=(PLAIN,), http=GOOD.http, upstream_verify="system"),
            "--upstream-verify is for https upstreams",
        ),
        (single(upstreams=(PLAIN,), http=GOOD.http, upstream_name="x"), "--upstream-name is for"),
        (single(upstreams=(PLAIN,), http=GOOD.http, upstream_tls="legacy"), "--upstream-tls is fo"),
        (
            single(upstreams=(TLS,), http=GOOD.http, upstream_name="$host"),
            r"--upstream-name \$host: .* type --upstream-verify system",
        ),
        (
            single(upstreams=(PLAIN,), http=GOOD.http, upstream_pins=frozenset("a")),
            "--upstream-pin is for https",
        ),
        (grouped(keepalive=9, max_upstream=8), "--keepalive 9: .* 0 to --max-upstream, 8"),
        (grouped(keepalive=-1), "--keepalive -1"),
        (grouped(max_upstream=0), "--max-upstream 0: type 1"),
        (grouped(keepalive_idle=0), "--keepalive-idle 0"),
        (grouped(keepalive_idle=math.nan), "--keepalive-idle nan"),
        (grouped(keepalive_idle=math.inf), "--keepalive-idle inf"),
    ],
)
def test_check_refuses(bad, hint):
    with pytest.raises(ConfigError, match=hint):
        check(bad)


def test_the_proxy_protocol_needs_trusted_peers():
    one = single((TLS,), http=(Address(port=1),), accept_proxy=True)
    with pytest.raises(ConfigError, match="type --trusted-proxy"):
        check(one)
    check(replace(one, trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"),)))


def test_the_command_line_is_one_group_and_one_site():
    config = single(
        (TLS,), server_names=("a.test",), hsts=None, limits=Limits(queue=3), keepalive=7, workers=2
    )
    assert config.groups == (Group("default", (TLS,), keepalive=7, queue=3),)
    assert config.sites == (Site(("a.test",), hsts=None),)
    assert config.sites[0].routes == (Route("/", group="default"),)
    assert config.group("default") is config.groups[0]
    assert config.workers == 2


def test_what_sites_have_is_gathered():
    one, two = Certificate("c", "k"), Certificate("d", "l")
    config = Config(
        sites=(Site(("a",), certificates=(one,)), Site(("b",), certificates=(two, one)))
    )
    assert config.certificates() == (one, two)
    assert config.server_names() == ("a", "b")


def test_all_mistakes_are_said_at_once():
    elsewhere = Route("/", group=None, redirect=Redirect(301, "https://a.test/"))
    config = Config(
        groups=(
            Group("default", (PLAIN,), verify="off"),
            Group("app", (TLS,), keepalive=9, max_upstream=8, policy="cookie", cookie=""),
        ),
        sites=(Site(client_verify="require"), Site(routes=(Route("/x", group="ap"), elsewhere))),
        http=(Address(None, 80),),
    )
    with pytest.raises(ConfigError) as caught:
        check(config)
    messages = caught.value.messages
    assert str(caught.value) == "\n".join(messages)
    assert [message.partition(":")[0] for message in messages] == [
        "--upstream-verify is for https upstreams and none is given",
        "[group.app] cookie",
        "[group.app] keepalive 9",
        "--client-verify needs --client-ca FILE",
        "--server-name",
        "--group ap",
    ]


@pytest.mark.parametrize(
    ("admin", "public", "refused"),
    [
        ("127.0.0.1:9900", ":8080", False),
        ("127.0.0.1:8080", ":8080", True),
        ("127.0.0.1:8080", "127.0.0.1:8080", True),
        ("127.0.0.1:8080", "192.0.2.1:8080", False),
        ("0.0.0.0:8080", "192.0.2.1:8080", True),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("unix:/run/a", ":8080", False),
        ("unix:/run/a", "unix:/run/a", True),
    ],
)
def test_admin_is_a_listener_of_its_own(admin, public, refused):
    one = replace(
        GOOD,
        http=(parse_address("--http", public),),
        admin=parse_address("--admin", admin),
    )
    if refused:
        with pytest.raises(ConfigError, match=r"--admin .*public listener --http: type"):
            check(one)
    else:
        assert check(one) is one


def test_sites_and_routes_must_differ():
    here, there = Address(None, 80), Address(None, 81)
    config = Config(
        groups=(Group("a", (TLS,)), Group("b")),
        sites=(
            Site(("x.test",), listeners=(here,)),
            Site(("x.test", "y.test"), routes=(Route("/", group="a"), Route("/", group="bb"))),
            Site(("y.test",), routes=(Route("/", group="a"), Route("/", exact=True, group="a"))),
            Site(listeners=(there,), routes=(Route(group="zzz"),)),
        ),
        http=(here,),
    )
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert caught.value.messages == (
        "[group.b] upstream is missing: type upstream = 'host:9443', say",
        "--group is missing: type the name of a [group.NAME]",
        "--group bb: there is no such group; did you mean b? known are a, b",
        "--path /: another route of this site has it too; leave one of them out",
        "--server-name y.test: another site has it too; type other names for each site",
        "--listen: not a listener yet; type it under http or https too",
        "--group zzz: there is no such group; known are a, b",
    )
