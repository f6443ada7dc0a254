"""Labels of containers as configuration: what is made of them, and that nothing breaks out of it."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.config.toml_file import Document
from rawproxy.discovery.docker_labels import containers, fragments


def listed(
    name, labels, *, ip="172.20.0.2", ports=(8000,), created=1, status="Up 1 second", **more
):
    """One entry of GET /containers/json, as Docker 20 to 29 write it."""
    return {
        "Id": f"{name:0<64}",
        "Names": [f"/{name}"],
        "Image": "app",
        "Created": created,
        "Ports": [{"PrivatePort": port, "Type": "tcp"} for port in ports],
        "Labels": {f"rawproxy.{key}": value for key, value in labels.items()},
        "State": "running",
        "Status": status,
        "NetworkSettings": {"Networks": {"app_default": {"IPAddress": ip}}},
    } | more


def made(*entries, network=""):
    return fragments(containers(entries), network)


def data(fragment) -> dict:
    """What the file's own reader makes of it, which finds no mistake."""
    assert not fragment.wrong
    document = Document(fragment.where, fragment.text)
    assert not document.mistakes, document.mistakes
    return document.data


def wrong(found, name) -> str:
    assert not found[name].text
    return found[name].where + found[name].wrong


def test_a_host_is_all_that_is_needed():
    found = made(listed("web", {"host": "app.example.com"}))
    assert list(found) == ["group web", "site app.example.com"]
    assert data(found["group web"]) == {
        "group": {"web": {"upstream": [{"url": "http://172.20.0.2:8000"}]}}
    }
    assert data(found["site app.example.com"]) == {
        "site": [{"server-name": ["app.example.com"], "route": [{"group": "web"}]}]
    }


def test_who_has_no_labels_or_does_not_run_is_not_there():
    assert (
        made(
            listed("other", {}),
            listed("stopped", {"host": "a"}, State="exited"),
            listed("paused", {"host": "a"}, State="paused"),
            listed("plain", {}, Labels=None),
        )
        == {}
    )


def test_containers_of_a_service_are_one_group():
    service = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "web",
        "rawproxy.host": "shop.example.com, www.example.com",
    }
    found = made(
        listed("shop-web-2", {}, Labels=service, ip="172.20.0.3", created=2),
        listed("shop-web-1", {}, Labels=service, ip="172.20.0.2", created=1),
    )
    assert list(found) == ["group shop-web", "site shop.example.com", "site www.example.com"]
    urls = [one["url"] for one in data(found["group shop-web"])["group"]["shop-web"]["upstream"]]
    assert urls == ["http://172.20.0.2:8000", "http://172.20.0.3:8000"], "the oldest first"


def test_a_service_of_a_swarm_and_a_group_by_name():
    swarm = {"com.docker.swarm.service.name": "st_web", "rawproxy.host": "a.test"}
    assert "group st_web" in made(listed("x", {}, Labels=swarm))
    assert "group mine" in made(listed("x", {"host": "a.test", "group": "mine"}))
    only = made(listed("x", {"group": "mine"}))
    assert list(only) == ["group mine"], "without a host the file sends requests there"


def test_keys_of_routes_groups_and_sites():
    labels = {
        "host": "a.test",
        "port": "9443",
        "scheme": "https",
        "path": "/api",
        "auth": "sso",
        "strip-prefix": "true",
        "timeouts.response-head": "120",
        "limits.body": "100m",
        "request-headers.set.X-From": "docker $host",
        "upgrades": "websocket, tcp",
        "policy": "two-choices",
        "keepalive": "8",
        "slow-start": "2.5",
        "upstream-verify": "off",
        "active.path": "/healthz",
        "active.status": "200-299",
        "passive.max-fails": "5",
        "weight": "3",
        "backup": "true",
        "hsts": "max-age=1",
    }
    found = made(listed("web", labels, ports=()))
    group = data(found["group web"])["group"]["web"]
    assert group == {
        "upstream": [{"url": "https://172.20.0.2:9443", "weight": 3, "backup": True}],
        "policy": "two-choices",
        "keepalive": 8,
        "slow-start": 2.5,
        "upstream-verify": "off",
        "active": {"path": "/healthz", "status": ["200-299"]},
        "passive": {"max-fails": 5},
    }
    (site,) = data(found["site a.test"])["site"]
    assert site == {
        "server-name": ["a.test"],
        "hsts": "max-age=1",
        "route": [
            {
                "group": "web",
                "path": "/api",
                "auth": "sso",
                "strip-prefix": True,
                "timeouts": {"response-head": 120},
                "limits": {"body": "100m"},
                "request-headers": {"set": [("X-From", "docker $host")]},
                "upgrades": ["websocket", "tcp"],
            }
        ],
    }


def test_auth_may_be_false():
    found = made(listed("web", {"host": "a.test", "auth": "false"}))
    assert data(found["site a.test"])["site"][0]["route"][0]["auth"] is False


def test_paths_of_one_host_may_lead_to_several_groups():
    found = made(
        listed("web", {"host": "a.test"}, created=1),
        listed("api", {"host": "a.test", "path": "/api"}, created=2, ip="172.20.0.9"),
    )
    (site,) = data(found["site a.test"])["site"]
    assert site["route"] == [{"group": "api", "path": "/api"}, {"group": "web"}]


def test_two_groups_that_want_the_same_are_told():
    found = made(
        listed("blue", {"host": "a.test"}, created=1),
        listed("green", {"host": "a.test"}, created=2),
    )
    assert wrong(found, "site a.test") == (
        "docker:a.test: container green: blue has / of a.test too, in another group; give both the"
        " same rawproxy.group, or other paths"
    )
    assert data(found["group blue"]) and data(found["group green"])


def test_of_two_that_differ_the_newest_has_the_word():
    old = {"host": "a.test", "group": "g", "keepalive": "1", "auth": "old"}
    new = {"host": "a.test", "group": "g", "keepalive": "2", "auth": "new"}
    found = made(listed("n", new, created=9, ip="172.20.0.9"), listed("o", old, created=5))
    assert data(found["group g"])["group"]["g"]["keepalive"] == 2
    assert data(found["site a.test"])["site"][0]["route"][0]["auth"] == "new"


@pytest.mark.parametrize("status", ["Up 2 hours (unhealthy)", "Up 1 second (health: starting)"])
def test_who_is_not_healthy_serves_only_if_nobody_is(status):
    labels = {"host": "a.test", "group": "g"}
    ill = listed("ill", labels, ip="172.20.0.8", status=status)
    well = listed("well", labels, ip="172.20.0.9", status="Up 2 hours (healthy)")
    assert data(made(ill, well)["group g"])["group"]["g"]["upstream"] == [
        {"url": "http://172.20.0.8:8000", "backup": True},
        {"url": "http://172.20.0.9:8000"},
    ]
    urls = [one["url"] for one in data(made(ill)["group g"])["group"]["g"]["upstream"]]
    assert urls == ["http://172.20.0.8:8000"]


def test_who_is_not_healthy_does_not_stand_beside_backups():
    labels = {"host": "a.test", "group": "g"}
    ill = listed("ill", labels, ip="172.20.0.8", status="Up 2 hours (unhealthy)")
    spare = listed("spare", labels | {"backup": "true"}, ip="172.20.0.9", status="Up 2 hours")
    assert data(made(ill, spare)["group g"])["group"]["g"]["upstream"] == [
        {"url": "http://172.20.0.9:8000", "backup": True}
    ]


def networks(**addresses):
    told = {net: {"IPAddress": ip} for net, ip in addresses.items()}
    return {"NetworkSettings": {"Networks": told}}


@pytest.mark.parametrize(
    ("labels", "told", "network", "url"),
    [
        ({}, networks(b="10.0.0.2", a="10.0.0.1"), "", "http://10.0.0.1:8000"),
        ({}, networks(b="10.0.0.2", a="10.0.0.1"), "b", "http://10.0.0.2:8000"),
        ({"network": "a"}, networks(b="10.0.0.2", a="10.0.0.1"), "b", "http://10.0.0.1:8000"),
        ({}, networks(host=""), "", "http://127.0.0.1:8000"),
        (
            {},
            {"NetworkSettings": {"Networks": {"six": {"GlobalIPv6Address": "fd00::2"}}}},
            "",
            "http://[fd00::2]:8000",
        ),
    ],
)
def test_which_address_is_dialled(labels, told, network, url):
    found = made(listed("web", {"host": "a.test", **labels}, **told), network=network)
    assert data(found["group web"])["group"]["web"]["upstream"] == [{"url": url}]


@pytest.mark.parametrize(
    ("labels", "more", "why"),
    [
        ({"host": "a", "hostt": "b"}, {}, "hostt: not known; did you mean rawproxy.host?"),
        ({"host": "a", "qqqq": "b"}, {}, "qqqq: not known; see docs/docker.md"),
        ({"host": "a", "upstream": "b"}, {}, "upstream: not known; "),
        ({"host": "a", "timeouts": "b"}, {}, "timeouts: not known; "),
        ({"host": "a", "policy.x": "b"}, {}, "policy.x: not known; "),
        ({"host": "a", "request-headers.set": "b"}, {}, "request-headers.set: not known; "),
        ({"port": "80"}, {}, "host is missing: type the host that it serves"),
        ({"host": "a"}, {"ports": (80, 443)}, "port is missing: its image exposes 80 443; type one"),
        ({"host": "a"}, {"ports": ()}, "port is missing: its image exposes none"),
        ({"host": "a", "scheme": "ftp"}, {}, "scheme ftp: type http or https"),
        ({"host": "a", "network": "n"}, {}, "it has no address there; it is in app_default"),
        ({"host": "a", "network": "n"}, networks(), "it has no address there; it is in none"),
        ({"host": "a"}, networks(none=""), "it has no address; give it a network"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_the_container_and_what_to_type(labels, more, why):
    found = made(listed("web", labels, **more))
    assert wrong(found, "group web").startswith("docker:group web: container web: ")
    assert why in found["group web"].wrong


def test_a_value_that_does_not_fit_is_found_by_the_file_s_own_reader():
    (group, _) = made(listed("web", {"host": "a.test", "keepalive": "many"})).values()
    document = Document(group.where, group.text)
    assert [text for _, text in document.mistakes] == [
        "docker:group web:5: [group.web] keepalive 'many': type a whole number, without quotes"
    ]


TEXTS = st.text(min_size=1, max_size=30)
KEYS = (
    "host",
    "group",
    "path",
    "auth",
    "policy",
    "request-headers.set.X",
    "upgrades",
    "weight",
    "port",
    "hsts",
)


@given(st.dictionaries(st.sampled_from(KEYS), TEXTS), st.text(min_size=1, max_size=8))
def test_no_label_breaks_out_of_its_value(labels, name):
    found = made(listed(name, {"host": "a.test"} | labels))
    for fragment in found.values():
        if not fragment.wrong:
            tables = tomllib.loads(fragment.text)
            assert set(tables) <= {"group", "site"}
            for site in tables.get("site", ()):
                assert set(site) <= {"server-name", "route", "hsts"}
            for group in tables.get("group", {}).values():
                assert set(group) <= {"upstream", "policy"}


@pytest.mark.parametrize(
    "answer",
    [None, 5, {"message": "x"}, [None], [[]], [listed("a", {"host": "b"}) | {"Names": []}]],
)
def test_what_is_no_list_of_containers(answer):
    with pytest.raises(ValueError, match="not a list of containers"):
        containers(answer)
