"""The TOML file: every key, where its mistakes are, and who wins."""

import json
import pathlib
import tomllib

import click
import jsonschema
import pytest
from click.testing import CliRunner

import rawproxy
from rawproxy import cli
from rawproxy.config import json_schema
from rawproxy.config import options as config_options
from rawproxy.config.model import (
    Active,
    Address,
    Certificate,
    Edits,
    Passive,
    Redirect,
    Respond,
    ResponseMapping,
    Route,
)
from rawproxy.config.toml_file import Document
from rawproxy.errors import ConfigError
from rawproxy.routing.route_targets import RouteTarget

VALIDATOR = jsonschema.Draft202012Validator(json.loads(json_schema.schema()))
SCHEMA = pathlib.Path(rawproxy.__file__).with_name("config") / "rawproxy.schema.json"


@pytest.fixture
def load(tmp_path):
    """Text of a file, and options beside it, to the `Config`."""

    def load(text: str, *arguments: str, **environment: str):
        path = tmp_path / "rawproxy.toml"
        path.write_text(text)
        with CliRunner(env=environment).isolation():
            words = ["--config", str(path), *arguments]
            return cli.configure(cli.check_command.make_context("check", words))

    return load


@pytest.fixture
def refused(load, tmp_path):
    """What is said of a bad file, without the folder."""

    def refused(text: str, *arguments: str, **environment: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, *arguments, **environment)
        return [message.removeprefix(f"{tmp_path}/") for message in caught.value.messages]

    return refused


# ── precedence ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_line_wins_over_the_file_and_that_over_the_environment(load):
    text = "upstream = 'file:1'\nkeepalive = 7\n"
    config = load(text, "--keepalive", "8", RAWPROXY_KEEPALIVE="9", RAWPROXY_KEEPALIVE_IDLE="5")
    (group,) = config.groups
    assert [one.host for one in group.upstreams] == ["file"]
    assert (group.keepalive, group.keepalive_idle, group.max_upstream) == (8, 5, 1024)
    assert load(text, RAWPROXY_KEEPALIVE="9").groups[0].keepalive == 7
    line = load(text, "--upstream", "line:1", RAWPROXY_UPSTREAM="env:1")
    assert [one.host for one in line.groups[0].upstreams] == ["line"]
    assert config.file.endswith("rawproxy.toml")


def test_the_file_may_be_named_by_the_environment(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("upstream = 'a:1'")
    with CliRunner(env={"RAWPROXY_CONFIG": str(path)}).isolation():
        config = cli.configure(cli.check_command.make_context("check", []))
    assert config.groups[0].upstreams[0].host == "a"


def test_limits_and_timeouts_are_set_one_by_one(load):
    config = load(
        "upstream = 'a:1'\nlimit = ['head=8k', 'body=1m']\nhttp2-streams = 7\n"
        "[limits]\nbody = '2m'\nrate = 5\n[timeouts]\nconnect = 2.5\ndrain = 3\n",
        *["--limit", "rate=6", "--timeout", "drain=4"],
        RAWPROXY_TIMEOUT="connect=9 linger=8",
    )
    limits, deadlines = config.limits, config.deadlines
    assert (limits.head, limits.body, limits.rate, limits.h2_streams) == (64 * 1024, 2 << 20, 6, 7)
    assert (deadlines.connect, deadlines.drain, deadlines.linger) == (2.5, 4, 5)
    config = load("upstream = 'a:1'\n[timeouts]\nconnect = 1\n", RAWPROXY_TIMEOUT="connect=9")
    assert config.deadlines.connect == 1


def test_hsts_and_no_hsts_come_from_anywhere(load, refused):
    on = "upstream = 'a:1'\nhsts = 'max-age=1'\n"
    assert load(on).sites[0].hsts == "max-age=1"
    assert load(on, "--no-hsts").sites[0].hsts is None
    assert load(on, RAWPROXY_NO_HSTS="1").sites[0].hsts == "max-age=1"
    off = "upstream = 'a:1'\nno-hsts = true\n"
    assert load(off).sites[0].hsts is None
    assert load(off, "--hsts", "max-age=2").sites[0].hsts == "max-age=2"
    assert load(off + "[[site]]\nhsts = 'max-age=3'").sites[0].hsts == "max-age=3"
    assert refused(on + "no-hsts = true") == [
        "rawproxy.toml:2: hsts and no-hsts exclude each other: leave one of them out"
    ]


# ── what the tables come to ─────────────────────────────────────────────────────────────────────


def test_groups(load):
    config = load(
        """
        keepalive = 5
        upstream-verify = "off"
        [group.app]
        upstream = ["a:1", { url = "b:2", weight = 3, backup = true }]
        policy = "cookie"
        cookie = "stick"
        queue = 9
        slow-start = 30
        keepalive = 6
        upstream-verify = "ca.pem"
        upstream-name = "app.test"
        upstream-cert = "c.pem"
        upstream-key = "/etc/c.key"
        send-proxy = "v2"
        passive = { max-fails = 1, back-off-max = 5, status = ["500-599"] }
        active = { path = "/-/health/ready/", status = [200, "300-399"], host = "h:1", rise = 1 }
        [group.other]
        upstream = "https://o"
        max-upstream = 3
        [[site]]
        [[site.route]]
        group = "app"
        """,
    )
    app, other = config.groups
    assert [(one.host, one.weight, one.backup) for one in app.upstreams] == [
        ("a", 1, False),
        ("b", 3, True),
    ]
    assert (app.policy, app.cookie, app.queue, app.slow_start) == ("cookie", "stick", 9, 30)
    assert (app.keepalive, app.server_name, app.send_proxy) == (6, "app.test", 2)
    folder = pathlib.Path(config.file).parent
    assert app.verify == str(folder / "ca.pem"), "a path begins at the file's own folder"
    assert app.client_cert == Certificate(str(folder / "c.pem"), "/etc/c.key")
    assert app.passive == Passive(max_fails=1, back_off_max=5, status=((500, 599),))
    assert app.active == Active("/-/health/ready/", "GET", ((200, 200), (300, 399)), "h:1", rise=1)
    assert (other.name, other.verify, other.keepalive, other.max_upstream) == ("other", "off", 3, 3)
    assert other.queue == 1024 and other.client_cert is None


def test_the_default_group_may_have_a_table(load, refused):
    text = "[group.default]\nkeepalive = 3\n"
    (group,) = load(text, "--upstream", "a:1").groups
    assert (group.name, group.keepalive, group.upstreams[0].host) == ("default", 3, "a")
    text += "upstream = 'b:1'\n"
    assert load(text).groups[0].upstreams[0].host == "b"
    assert refused(text, "--upstream", "a:1") == [
        "rawproxy.toml:3: [group.default] upstream is given twice: here, and outside of the table;"
        " leave one of them out"
    ]


def test_sites_and_routes(load):
    config = load(
        """
        upstream = "a:1"
        https = [":8443", ":9443"]
        cert = "all.pem"
        key = "all.key"
        hsts = "max-age=1"
        [limits]
        body = 5
        head = "2k"
        [group.api]
        upstream = "b:1"
        [[site]]
        server-name = ["A.test", "*.a.test"]
        cert = "a.pem"
        key = "a.key"
        client-ca = "ca.pem"
        listen = ":9443"
        [[site.route]]
        path = "/api"
        group = "api"
        limits = { body = "1k", rate = 0, replay = "2k" }
        timeouts = { response-head = 2, request-body = 3, wait = 0 }
        request-headers = { set = { X-A = "1" }, add = { X-B = ["2", "3"] }, remove = "X-C" }
        response-headers.remove = ["Server", "X-Powered-By"]
        [[site.route]]
        path = "/old"
        exact = true
        redirect = "https://$host/new"
        status = 308
        [[site.route]]
        [[site]]
        no-hsts = true
        """,
    )
    one, two = config.sites
    folder = pathlib.Path(config.file).parent
    assert one.names == ("a.test", "*.a.test")
    assert one.certificates == (Certificate(str(folder / "a.pem"), str(folder / "a.key")),)
    assert (one.client_ca, one.client_verify) == (str(folder / "ca.pem"), "require")
    assert one.listeners == (Address(None, 9443),)
    assert (one.hsts, two.hsts, two.names, two.client_verify) == ("max-age=1", None, (), "off")
    assert two.certificates == (Certificate(str(folder / "all.pem"), str(folder / "all.key")),)
    api, old, rest = one.routes
    assert (api.path, api.exact, api.group, api.redirect) == ("/api", False, "api", None)
    assert (api.limits.body, api.limits.head) == (1024, 2048), "the others stay"
    assert (api.limits.rate, api.limits.replay) == (0, 2048)
    assert (api.deadlines.response_head, api.deadlines.request_body) == (2, 3)
    assert api.deadlines.wait == 0 and api.deadlines.queue == 10
    assert api.request_headers == Edits(("X-C",), (("X-A", "1"),), (("X-B", "2"), ("X-B", "3")))
    assert api.response_headers == Edits(("Server", "X-Powered-By"))
    assert old == Route("/old", True, group=None, redirect=Redirect(308, "https://$host/new"))
    assert rest == Route("/", group="default") == two.routes[0]


def test_the_only_group_is_meant_where_none_is_named(load, refused):
    text = "[group.app]\nupstream = 'a:1'\n[[site]]\n"
    assert load(text).sites[0].routes == (Route("/", group="app"),)
    assert refused("[group.b]\nupstream = 'b:1'\n" + text + "server-name = 'x'\n") == [
        "rawproxy.toml:5: [[site.route]] group is missing: type the name of a [group.NAME]"
    ]


def test_several_groups_need_a_site(refused):
    text = "[group.a]\nupstream = 'a:1'\n[group.b]\nupstream = 'b:1'\n"
    assert refused(text) == [
        "rawproxy.toml: [[site]] is missing: nothing says which group serves what"
    ]


def test_a_certificate_of_a_site_opens_8443(load):
    text = "upstream = 'a:1'\n[[site]]\ncert = 'a'\nkey = 'b'\n"
    assert load(text).https == (Address(None, 8443),)


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("upstraem = 'a:1'", "1: upstraem: not known; did you mean upstream?"),
        ("\nroute = 1", "2: route: not known here; it belongs in [[site]]"),
        ("zzzz = 1", "1: zzzz: not known; known are upstream, "),
        ("config = 'x'", "1: config: not known; "),
        ("upstream = 1", "1: upstream 1: type text in quotes"),
        ("upstream = 'h'", "1: upstream h: no port; type h:9443 or https://h"),
        ("upstream = [\n'a:1',\n'h']", "3: upstream h: no port"),
        ("cert = ''\nkey = 'k'", "1: cert: empty; type the path of a file"),
        ("access-log = ''", "1: access-log: empty; type -, off or the path of a file"),
        ("no-http2 = 'yes'", "1: no-http2 'yes': type true or false, without quotes"),
        ("keepalive = 1.5", "1: keepalive 1.5: type a whole number, without quotes"),
        ("keepalive = true", "1: keepalive True: type a whole number"),
        ("keepalive = -1", "1: keepalive -1: type a whole number from 0"),
        ("keepalive-idle = 0", "1: keepalive-idle 0: type a number above 0"),
        ("keepalive-idle = inf", "1: keepalive-idle inf: type a number above 0"),
        ("keepalive-idle = nan", "1: keepalive-idle nan: type a number above 0"),
        ("http2-streams = 100001", "1: http2-streams 100001: type a whole number from 1 up to"),
        ("keepalive = 9\nmax-upstream = 8", "1: keepalive 9: type a number from 0 to max-up"),
        ("tls = 'modrn'", "1: tls modrn: did you mean modern? known are modern, interm"),
        ("tls = 'x'", "1: tls x: known are modern, intermediate"),
        ("cert = ['a', 'b']\nkey = 'a'", "2: key is missing: each cert FILE goes with a key FILE"),
        ("limits = 1", "1: limits: type a table"),
        ("[limits]\nbody = true", "2: [limits] body True: type text in quotes"),
        ("[limits]\nbody = '1t'", "2: [limits] body 1t: type body=N, 0 or more"),
        ("[limits]\nhaed = 1", "2: [limits] haed: not known; did you mean head?"),
        ("[timeouts]\ndrain = '1'", "2: [timeouts] drain '1': type a number, without quotes"),
        ("limit = 'x=1'", "1: limit x=1: known are start-line"),
        ("group = 1", "1: group: type [group.NAME]"),
        ("site = 1", "1: site: type [[site]]"),
        ("[site]", "1: site: type [[site]]"),
        ("[group.a]", "1: [group.a] upstream is missing: type upstream = 'host:9443', say"),
        ("[group.'a b']\nupstream = 'a:1'", "1: [group] a b: type letters, digits"),
        ("[group.a]\nupstream = [{}]", "2: [[group.a.upstream]] url is missing: type url ="),
        ("[group.a]\nupstream = 'x'", "2: [group.a] upstream x: no port"),
        ("[group.a]\nupstream = 'x:1'\npolicy = 1", "3: [group.a] policy 1: type text"),
        ("[group.a]\nupstream = 'x:1'\ncert = 'c'", "3: [group.a] cert: not known here; it belongs at the top or in [[site]]"),
        ("[group.a]\nupstream = 'x:1'\nupstream-cert = 'c'", "1: [group.a] upstream-key is missing: each upstream-cert"),
        ("[group.a]\nupstream = 'x:1'\nactive = { path = 'x' }", "3: [group.a.active] path x: type a path"),
        ("[group.a]\nupstream = 'x:1'\nactive.status = ['2xx', 200]", "3: [group.a.active] status 2xx: type a status"),
        ("[group.a]\nupstream = 'x:1'\nactive.host = 'a b'", "3: [group.a.active] host a b: 'a b' is not a host name"),
        ("[[site]]\nserver-name = 'a b'", "2: [[site]] server-name a b: not a host name"),
        ("server-name = 'a'\n[[site]]", "1: server-name belongs in [[site]] where there is one"),
        ("[[site]]\n[[site]]", "2: [[site]] server-name: missing, and in another site too"),
        ("[[site]]\nclient-verify = 'require'", "2: [[site]] client-verify needs client-ca FILE"),
        ("[[site]]\nlisten = ':1'", "2: [[site]] listen: not a listener yet; type it under http"),
        ("[[site]]\n[[site.route]]\npath = 'x'", "3: [[site.route]] path x: type a plain path"),
        ("[[site]]\n[[site.route]]\ngroup = 'x'", "3: [[site.route]] group x: there is no such group"),
        ("[[site]]\n[[site.route]]\n[[site.route]]", "3: [[site.route]] path /: another route"),
        ("[[site]]\n[[site.route]]\nredirect = 'x'", "3: [[site.route]] redirect x: type https://"),
        ("[[site]]\n[[site.route]]\nredirect = '/x'\ngroup = 'default'", "3: [[site.route]] redirect answers by itself: leave group out"),
        ("[[site]]\n[[site.route]]\nstatus = 301", "3: [[site.route]] status is that of a redirect"),
        ("[[site]]\n[[site.route]]\nwhen = { '$arg_x' = '~(.*)' }\nredirect = 'https://$1/'", "4: [[site.route]] redirect https://$1/: type https://host/path"),
        ("[[site]]\n[[site.route]]\nwhen = { '$host' = '~(.*)' }\nredirect = 'https://$1@x/'", "4: [[site.route]] redirect https://$1@x/: type https://host/path"),
        ("[[site]]\n[[site.route]]\nredirect = 'https://x$host/'", "3: [[site.route]] redirect https://x$host/: type https://host/path"),
        ("[[site]]\n[[site.route]]\nwhen = { method = 'GET' }", "3: [site.route.when] method: type what differs"),
        ("[[site]]\n[[site.route]]\nwhen = { '$nothing' = 'x' }", "3: [site.route.when] $nothing: $nothing is not known"),
        ("[[site]]\n[[site.route]]\nwhen = { '$1' = 'x' }", "3: [site.route.when] $1: $1 is what the path-regex"),
        ("[[site]]\n[[site.route]]\nwhen = { '$host' = '~(' }", "3: [site.route.when] $host = ~(: missing"),
        ("[[site]]\n[[site.route]]\nrespond = { status = 444, body = 'x' }", "3: [[site.route]] respond 444 hangs up"),
        ("[[site]]\n[[site.route]]\nstatus = 305", "3: [[site.route]] status 305: did you mean 308? known are 301, 302"),
        ("[[site]]\n[[site.route]]\nlimits.body = 'x'", "3: [site.route.limits] body x: type body=N"),
        ("[[site]]\n[[site.route]]\nlimits.head = 1", "3: [site.route.limits] head: not known"),
        ("[[site]]\n[[site.route]]\nrequest-headers.set = 1", "3: [site.route.request-headers] set: type a table"),
        ("[[site]]\n[[site.route]]\nrequest-headers.set.X = 1", "3: [site.route.request-headers.set] X 1: type text in quotes"),
        ("[[site]]\n[[site.route]]\nrequest-headers.set.TE = 'x'", "3: [site.route.request-headers.set] TE: TE is written by rawproxy itself"),
        ("[[site]]\n[[site.route]]\nrequest-headers.set.X = '$hots'", "3: [site.route.request-headers.set] X '$hots': $hots is not known; did you mean $host?"),
        ("[[site]]\n[[site.route]]\nresponse-headers.add.X = '5$'", "3: [site.route.response-headers.add] X '5$': a $ that names nothing; for a dollar itself type $$"),
        ("[[site]]\n[[site.route]]\nrespond.body = 'x'", "3: [[site.route]] respond: status is missing"),
        ("[[site]]\n[[site.route]]\nrespond = { status = 204, body = 'x' }", "3: [site.route.respond] body: a 204 has no body"),
        ("[[site]]\n[[site.route]]\nrespond = { status = 199 }", "3: [site.route.respond] status 199: type a whole number from 200"),
        ("[[site]]\n[[site.route]]\nrespond = { status = 200, body = '$x' }", "3: [site.route.respond] body $x: $x is not known"),
        ("[[site]]\n[[site.route]]\nrespond = { status = 200, type = 'x' }", "3: [site.route.respond] type x: type a media type"),
        ("[[site]]\n[[site.route]]\nrespond = { status = 200 }\ngroup = 'default'", "3: [[site.route]] respond answers by itself: leave group out"),
        ("[[site]]\n[[site.route]]\nrespond = { status = 200 }\nstrip-prefix = true", "3: [[site.route]] respond leaves no path to be changed"),
        ("[[site]]\n[[site.route]]\nstrip-prefix = true\nrewrite = '/'", "3: [[site.route]] strip-prefix says what the path becomes: leave rewrite out"),
        ("[[site]]\n[[site.route]]\nreplace-prefix = 'v1'", "3: [[site.route]] replace-prefix v1: type a plain path"),
        ("[[site]]\n[[site.route]]\nreplace-prefix = '/../v1'", "3: [[site.route]] replace-prefix /../v1: type a plain path"),
        ("client-field = 'a b'", "1: client-field a b: type the name of a field"),
        ("client-field = 'Host'", "1: client-field Host: type the name of a field"),
        ("[[site]]\n[[site.route]]\ncache-control = 'a;b'", "3: [[site.route]] cache-control a;b: type directives"),
        ("[[site]]\n[[site.route]]\nmap-location = { '~(' = '/' }", "3: [site.route.map-location] ~( ~(: missing )"),
        ("[[site]]\n[[site.route]]\nmap-location = { '~a' = '/$1' }", "3: [site.route.map-location] ~a: /$1: $1 is what"),
        ("[[site]]\n[[site.route]]\nintercept = true", "3: [[site.route]] intercept is for error pages: type error-page too"),
        ("[[site]]\n[[site.route]]\nnamed = '@a'\npath = '/'", "3: [[site.route]] named is found by no path"),
        ("[[site]]\n[[site.route]]\nnamed = 'a'", "3: [[site.route]] named a: type a name behind an @"),
        ("[[site]]\n[[site.route]]\nerror-page = { 302 = '/x' }", "3: [site.route.error-page] 302: type a status from 400 on"),
        ("[[site]]\n[[site.route]]\nerror-page = { a = '/x' }", "3: [site.route.error-page] a: type a status"),
        ("[[site]]\n[[site.route]]\nerror-page = { 404 = '=204 /x' }", "3: [site.route.error-page] 404: type a status of a page"),
        ("[[site]]\n[[site.route]]\nerror-page = { 404 = '@' }", "3: [site.route.error-page] 404 @: type a name"),
        ("[[site]]\n[[site.route]]\nerror-page = { 404 = '@a' }", "3: [[site.route]] error-page: no route of this site has named = '@a'"),
        ("[[site]]\n[[site.route]]\nagain = true", "3: [[site.route]] again is for a rewrite: type rewrite too"),
        ("[[site]]\n[[site.route]]\nagain = true\nrewrite = '/'\ngroup = 'a'", "3: [[site.route]] again leads to another route: leave group out"),
        ("[[site]]\n[[site.route]]\nrewrite = 'v1'", "3: [[site.route]] rewrite v1: type a path that begins with /"),
        ("[[site]]\n[[site.route]]\nrewrite = '/$1'", "3: [[site.route]] rewrite /$1: $1 is what the path-regex"),
        ("[[site]]\n[[site.route]]\nmap-back = false", "3: [[site.route]] map-back is for a prefix"),
        ("[[site]]\n[[site.route]]\npath-regex = '('", "3: [[site.route]] path-regex (: missing )"),
        ("[[site]]\n[[site.route]]\npath-regex = '/'\npath = '/'", "4: [[site.route]] path is of a path, and path-regex has none"),
        ("[[site]]\n[[site.route]]\nmap-location.x = '/'", "3: [site.route.map-location] x: type how it begins"),
        ("[[site]]\n[[site.route]]\nmap-cookie-path.x = '/'", "3: [site.route.map-cookie-path] x: type how the path begins"),
        ("[[site]]\n[[site.route]]\nmap-cookie-domain.x = 'a;b'", "3: [site.route.map-cookie-domain] x: 'a;b': type printable ASCII without blanks, and without ;"),
        ("[[site]]\n[[site.route]]\nredirect = '/$1'", "3: [[site.route]] redirect /$1: $1 is what the path-regex"),
        ("[[site]]\n[[site.route]]\nrequest-headers.remove = 'a b'", "3: [site.route.request-headers] remove: 'a b' is not the name"),
    ],
)  # fmt: skip
def test_a_mistake_has_file_line_and_key(refused, text, beginning):
    own = text.startswith("upstream =") or "[group.a]" in text
    (said,) = refused(text, **({} if own else {"RAWPROXY_UPSTREAM": "a:1"}))
    assert said.startswith(f"rawproxy.toml:{beginning}")
    assert " --" not in said


def test_all_mistakes_are_said_in_the_order_of_the_file(refused):
    said = refused(
        "keepalve = 1\n[[site]]\nserver-name = 'a b'\n[[site.route]]\npath = 'x'\n"
        "[group.app]\nupstream = ['h']\nkeepalive = 2000\n",
        *["--trusted-proxy", "ten"],
    )
    assert [message.partition(": ")[0] for message in said] == [
        "--trusted-proxy ten",
        *[f"rawproxy.toml:{line}" for line in (1, 3, 5, 7, 8)],
    ]


def test_what_the_command_line_says_wrong_is_its_own(refused):
    (said,) = refused("upstream = 'a:1'\nkeepalive = 3", "--max-upstream", "2")
    assert said.startswith("rawproxy.toml:2: keepalive 3: type a number from 0 to max-upstream, 2")
    (said,) = refused("upstream = 'a:1'\nmax-upstream = 3", "--keepalive", "4")
    assert said.startswith("--keepalive 4: type a number from 0 to --max-upstream, 3")


def test_no_toml(refused, tmp_path):
    assert refused("a = 1\nb = \n") == ["rawproxy.toml:2: not TOML: Invalid value"]
    assert refused("a = '''\n")[0].startswith("rawproxy.toml:2: not TOML: ")
    (tmp_path / "latin").write_bytes(b"\xff")
    for path, why in (("nowhere", "No such file"), ("latin", "not UTF-8"), ("", "Is a directory")):
        with pytest.raises(ConfigError, match=f"^--config .*: {why}"):
            cli.read(str(tmp_path / path))


def test_trace(load):
    config = load("""
        upstream = "http://u:1"
        allow-trace = true
        [[site]]
        [[site.route]]
        [[site.route]]
        path = "/closed"
        allow-trace = false
    """)
    route_targets = [
        RouteTarget(config, config.sites[0], route) for route in config.sites[0].routes
    ]
    assert [route_target.trace for route_target in route_targets] == [True, False]
    assert not load('upstream = "http://u:1"').allow_trace


def test_trailers_and_underscores(load, refused):
    config = load("""
        upstream = "http://u:1"
        underscores = "pass"
        send-via = true
        trusted-proxy = ["unix:", "10.0.0.0/8"]
        accept-proxy = true
        [[site]]
        [[site.route]]
        request-trailers = ["X-Checksum", "grpc-x"]
    """)
    assert (config.underscores, config.send_via, config.trust_unix) == ("pass", True, True)
    assert [str(one) for one in config.trusted_proxies] == ["10.0.0.0/8"]
    assert config.sites[0].routes[0].request_trailers == ("x-checksum", "grpc-x")
    assert not load('upstream = "http://u:1"').trust_unix
    assert load('upstream = "http://u:1"\naccept-proxy = true\ntrusted-proxy = "unix:"').trust_unix
    for name, why in (
        ("X_Real_IP", "frames, forwards"),
        ("Content-Length", "frames, forwards"),
        ("SSL-Client-Cert", "identifies"),
        ("a b", "is not the name of a field"),
    ):
        said = refused(
            f'upstream = "http://u:1"\n[[site]]\n[[site.route]]\nrequest-trailers = "{name}"'
        )
        assert why in str(said) and ":4: " in str(said)


def test_gather(load, refused):
    config = load("""
        upstream = "http://u:1"
        [[site]]
        [[site.route]]
        gather = "1m"
        [[site.route]]
        path = "/b"
        gather = 5
        gather-over = "pass"
        [[site.route]]
        path = "/c"
    """)
    route_targets = [
        RouteTarget(config, config.sites[0], route) for route in config.sites[0].routes
    ]
    assert [route_target.gather for route_target in route_targets] == [1 << 20, 5, 0]
    assert [route_target.gather_passes for route_target in route_targets] == [False, True, False]
    text = 'upstream = "http://u:1"\n[[site]]\n[[site.route]]\n'
    for value in ('"0"', '"17m"', '"1.5m"', '"much"', '"16777217"', "-1"):
        (said,) = refused(f"{text}gather = {value}")
        assert said.startswith("rawproxy.toml:4: [[site.route]] gather "), said
        assert "type bytes, from 1 to 16m" in said
    assert load(f'{text}gather = "16m"').sites[0].routes[0].gather == 16 << 20
    (said,) = refused(f'{text}gather = 1\ngather-over = "drop"')
    assert ":5: " in said and "known are refuse, pass" in said
    assert refused(f'{text}gather-over = "pass"') == [
        "rawproxy.toml:4: [[site.route]] gather-over is for what is gathered: type gather too"
    ]


# ── the schema ──────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_schema_is_the_parsers():
    assert SCHEMA.read_text() == json_schema.schema(), (
        "run: rawproxy schema > rawproxy/config/rawproxy.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads(json_schema.schema()))
    assert CliRunner().invoke(cli.rawproxy, ["schema"]).output == json_schema.schema()


def test_every_option_is_a_key_and_every_key_at_the_top_an_option_or_a_table():
    options = {param.opts[0].removeprefix("--") for param in cli.rawproxy.params}
    options -= {"version", "config", "nginx"}
    tables = {"limits", "timeouts", "group", "site", "auth", "certificates", "discovery"}
    properties = set(json.loads(json_schema.schema())["properties"])
    assert properties == set(config_options.TOP) == options | tables


def samples(attributes):
    """Values that the parser takes for a key, and some that it does not."""
    kind = attributes.get("type")
    if "table" in attributes:
        return [{}], [1, "x", []]
    if "tables" in attributes:
        return [[], [{}]], [1, {}, [1]]
    if "each" in attributes:
        return [{}], [1, []]
    if "names" in attributes:
        return [{}, {"X": "1"}, {"X": ["1"]}], [1, {"X": 1}]
    if attributes.get("is_flag"):
        return [True], [1, "x"]
    if kind == "size":
        return [2000, "2k"], [True, 1.5]
    if kind == "status":
        return [200, "200-299"], [True, 1.5]
    if isinstance(kind, click.Choice):
        good = [int(one) if one.isdigit() else one for one in kind.choices]
        return good, ["zzz", True, 7]
    if isinstance(kind, click.IntRange):
        return [kind.min or 1, (kind.max or 9999)], [kind.min - 1, 1.5, "1", True]
    if isinstance(kind, click.FloatRange):
        return [1, 2.5], [-1, "1", True, *([0] if kind.min_open else [])]
    if "false" in attributes:
        return ["x", False], [1, True]
    return ["x"], [1, True]


def everything(table, path=()):
    """Every key of every table, with the document that has it alone."""
    for name, attributes in table.items():
        yield (*path, name), attributes
        for inner, step in (("table", ()), ("tables", (0,)), ("each", ("x",))):
            if inner in attributes:
                yield from everything(attributes[inner], (*path, name, *step))


def alone(path, value):
    for part in reversed(path):
        value = [value] if part == 0 else {part: value}
    return value


@pytest.mark.parametrize(
    ("path", "attributes"), list(everything(config_options.TOP)), ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else ""
)  # fmt: skip
def test_schema_and_parser_agree_on_every_key(path, attributes):
    def judge(data):
        document = Document("f", written(data))
        errors = list(VALIDATOR.iter_errors(data))
        assert bool(document.mistakes) == bool(errors), (data, document.mistakes, errors)
        return not errors

    good, bad = samples(attributes)
    many = attributes.get("multiple")
    for value in good:
        assert judge(alone(path, value))
        assert not many or judge(alone(path, [value, value]))
    for value in bad:
        assert not judge(alone(path, value))
    assert not judge(alone((*path[:-1], path[-1] + "x"), good[0])), "an unknown key"


def written(value) -> str:
    """TOML of a document as inline tables."""

    def inline(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(inline, value)) + "]"
        return json.dumps(value)

    return "".join(f"{name} = {inline(inner)}\n" for name, inner in value.items())


def test_the_pages_example(load):
    """It is good, and it says what the text around it says that it says."""
    page = (pathlib.Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    config = load(example)
    assert not list(VALIDATOR.iter_errors(tomllib.loads(example)))
    authentik, api = config.groups
    assert [one.backup for one in authentik.upstreams] == [False, False, True]
    assert (authentik.policy, authentik.active.path) == ("least-connections", "/-/health/ready/")
    sso, machines = config.sites
    assert [route.group for route in sso.routes] == ["authentik", "api", None]
    assert (sso.routes[1].limits.body, config.limits.body) == (1 << 20, 100 << 20)
    assert sso.hsts == "max-age=63072000; includeSubDomains"
    assert (machines.hsts, machines.client_verify, machines.routes[0].group) == (
        None,
        "require",
        api.name,
    )


def test_paths_that_change_and_answers(load):
    config = load(r"""
        upstream = "http://u:1"
        [[site]]
        [[site.route]]
        path = "/app"
        strip-prefix = true
        map-back = false
        map-location = { "http://u:1/" = "/app/" }
        map-cookie-path = { "/" = "/app/" }
        map-cookie-domain = { "u" = "app.test" }
        [[site.route]]
        path = "/api"
        before-regex = true
        replace-prefix = "/v1"
        [[site.route]]
        path-regex = '^/u/(\d+)'
        rewrite = "/user/$1?a"
        request-headers.set.X-Id = "$1"
        [[site.route]]
        path-regex = "^/old/(.*)$"
        redirect = "/new/$1"
        [[site.route]]
        path = "/health"
        respond = { status = 200, body = "<p>$host", type = "text/html" }
        [[site.route]]
        path = "/none"
        respond.status = 204
    """)
    app, api, user, old, health, none = config.sites[0].routes
    pairs = ((("http://u:1/", "/app/"),), (("/", "/app/"),), (("u", "app.test"),))
    assert (app.replace_prefix, app.mapping) == ("/", ResponseMapping(*pairs, False))
    assert (api.before_regex, api.replace_prefix) == (True, "/v1")
    assert (user.path_regex, user.rewrite) == (r"^/u/(\d+)", "/user/$1?a")
    assert (old.group, old.redirect) == (None, Redirect(302, "/new/$1"))
    assert health.respond == Respond(200, "<p>$host", "text/html")
    assert (none.group, none.respond) == (None, Respond(204))
