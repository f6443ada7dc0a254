"""From the file to the rules: what holds where, and what is said of mistakes."""

import pytest
from click.testing import CliRunner

from rawproxy import cli
from rawproxy.access.rules import AccessRules, AuthRule, PasswordRule, RateRule
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config, Route
from rawproxy.errors import ConfigError
from rawproxy.process.order import order, unpack_config, unpacked

TOP = 'upstream = "http://127.0.0.1:8000"\n'
SSO = '[auth.sso]\nkind = "authentik"\nupstream = "https://authentik.internal:9443"\n'
SITE = '[[site]]\nserver-name = "app.tld"\n'
HASH = "$apr1$salt$Xxd1irWT9ycqoYxGFn4cb."


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> Config:
        path = tmp_path / "rawproxy.toml"
        path.write_text(TOP + text)
        with CliRunner().isolation():
            return cli.configure(cli.check_command.make_context("check", ["--config", str(path)]))

    return load


@pytest.fixture
def refused(load, tmp_path):
    def refused(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        return [one.replace(f"{tmp_path}/", "") for one in caught.value.messages]

    return refused


def rules(route: Route) -> AccessRules:
    assert route.access is not None
    return from_json(AccessRules, route.access)


def by_path(config: Config) -> dict[str, Route]:
    return {route.path: route for route in config.sites[0].routes}


def test_one_line_guards_a_site_and_brings_the_outposts_own_paths(load):
    config = load(SSO + SITE + 'auth = "sso"\n')
    routes = by_path(config)
    assert list(routes) == ["/", "/outpost.goauthentik.io"]
    auth = rules(routes["/"]).auth
    assert auth == AuthRule(
        "sso", "authentik", "auth.sso", "/outpost.goauthentik.io/auth/caddy",
        copied=("X-authentik-*", "Authorization"), own_path="/outpost.goauthentik.io",
    )  # fmt: skip
    own = routes["/outpost.goauthentik.io"]
    assert own.group == "auth.sso" and routes["/"].group == "default"
    assert rules(own) == AccessRules(identity=("X-authentik-*",))
    (upstream,) = config.group("auth.sso").upstreams
    assert (upstream.host, upstream.port, upstream.tls) == ("authentik.internal", 9443, True)
    assert unpack_config(unpacked(order(config).packed())) == config


def test_a_routes_own_word_takes_the_place_of_the_sites(load):
    config = load(
        SSO
        + '[auth.other]\nkind = "authelia"\nupstream = "http://127.0.0.1:9091"\n'
        + SITE
        + 'auth = "sso"\ndeny = ["10.0.0.1"]\nrequest-rate = { requests = 5 }\nconnections = 7\n'
        + "[[site.route]]\n"
        + '[[site.route]]\npath = "/health"\nauth = false\nconnections = 0\n'
        + '[[site.route]]\npath = "/a"\nauth = "other"\nallow = ["!10.0.0.7", "10.0.0.0/8", "unix:"]\n'
        + "request-rate = { requests = 10, per = 60, burst = 5, key = '$http_x_key' }\n"
    )
    routes = by_path(config)
    first, health, other = (rules(routes[path]) for path in ("/", "/health", "/a"))
    assert (first.auth.name, health.auth, other.auth.name) == ("sso", None, "other")
    assert first.rate == health.rate == RateRule(5, 1.0, 4, "client", "app.tld *")
    assert other.rate == RateRule(10, 60.0, 5, "$http_x_key", "app.tld /a")
    assert (first.connections, health.connections, other.connections) == (7, 0, 7)
    assert first.addresses == health.addresses and first.address_rest
    assert [rule.allow for rule in other.addresses] == [False, True, True]
    assert not other.address_rest
    everybody = ("X-authentik-*", "Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email")
    assert all(one.identity == everybody for one in (first, health, other)), "cut everywhere"
    own = rules(routes["/outpost.goauthentik.io"])
    assert own.auth is None and own.rate == first.rate and own.addresses == first.addresses


def test_lists_are_asked_in_the_order_of_the_file(load):
    config = load(SITE + 'deny = ["10.0.0.7"]\nallow = ["10.0.0.0/8"]\n')
    (route,) = config.sites[0].routes
    assert [rule.allow for rule in rules(route).addresses] == [False, True]
    assert not rules(route).address_rest


def test_a_site_without_rules_has_none(load):
    config = load(SSO + SITE + '[[site.route]]\n[[site]]\nserver-name = "b"\nauth = "sso"\n')
    assert config.sites[0].routes == (Route(),)
    assert load("").sites[0].routes == (Route(),)


def test_an_own_route_at_the_outposts_path_stays(load):
    config = load(
        SSO + SITE + 'auth = "sso"\n[[site.route]]\n'
        '[[site.route]]\npath = "/outpost.goauthentik.io"\nauth = false\nlimits = { body = 100 }\n'
    )
    assert list(by_path(config)) == ["/", "/outpost.goauthentik.io"]
    assert by_path(config)["/outpost.goauthentik.io"].group == "default"


def test_every_key_of_a_guard(load):
    config = load(
        '[group.check]\nupstream = "http://127.0.0.1:1"\n'
        "[auth.own]\nkind = 'request'\ngroup = 'check'\npath = '/check?u=$request_uri'\n"
        "method = 'HEAD'\nheaders = { X-Key = 'k', Host = 'auth.tld' }\ncopy = ['X-User', 'X-Org-*']\n"
        "require = 'X-User'\nstatus = [204, '300-399']\nsign-in = 'https://login.tld/?a=b'\n"
        "timeout = 2.5\ncache = 3\nrecheck = 60\n"
        + SITE
        + 'auth = "own"\n[[site.route]]\ngroup = "check"\n'
    )
    assert rules(config.sites[0].routes[0]).auth == AuthRule(
        "own", "request", "check", "/check?u=$request_uri", "HEAD",
        (("X-Key", "k"), ("Host", "auth.tld")), ("X-User", "X-Org-*"), ("X-User",),
        ((204, 204), (300, 399)), "https://login.tld/?a=b", "", 2.5, 3, 60,
    )  # fmt: skip


def test_a_password_file_is_read_beside_the_configuration(load, tmp_path):
    (tmp_path / "members.htpasswd").write_text(f"alice:{HASH}\n")
    config = load(SITE + 'basic-auth = "members.htpasswd"\n')
    path = str(tmp_path / "members.htpasswd")
    assert rules(config.sites[0].routes[0]).password == PasswordRule(
        path, (("alice", HASH),), "app.tld"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[auth.sso]\nupstream = 'h:1'\n", "rawproxy.toml:2: [auth.sso] kind is missing: type one of authentik, authelia"),
        ("[auth.sso]\nkind = 'authentic'\n", "did you mean authentik?"),
        ("[auth.sso]\nkind = 'authentik'\n", "rawproxy.toml:2: [auth] sso: upstream is missing: type upstream ="),
        ("[auth.sso]\nkind = 'authentik'\nupstream = 'h'\n", "rawproxy.toml:4: [auth.sso] upstream h: no port"),
        ("[auth.sso]\nkind = 'authentik'\ngroup = 'x'\n", "rawproxy.toml:4: [auth.sso] group x: there is no such group"),
        (SSO + "group = 'default'\n", "[auth.sso] group and upstream: leave one of them out"),
        ("[group.a]\nupstream='h:1'\n[auth.x]\nkind = 'authelia'\ngroup = 'b'\n", "group b: there is no such group"),
        ("[group.'auth.sso']\nupstream='h:1'\n" + SSO, "the group auth.sso, which exists"),
        ("[auth.'a b']\nkind = 'authelia'\nupstream = 'h:1'\n", "type letters, digits, dots and dashes"),
        ("[auth.x]\nkind = 'request'\nupstream = 'h:1'\n", "path is missing: what is it asked for?"),
        (SSO + "path = 'x'\n", "path x: type a path in ASCII"),
        (SSO + "path = '/$nothing'\n", "$nothing is not known"),
        (SSO + "copy = 'Content-Length'\n", "Content-Length is written by rawproxy itself"),
        (SSO + "copy = 'X-*'\n", "copy X-*: some of these are written by rawproxy itself"),
        (SSO + "copy = 'X_Forwarded*'\n", "some of these are written by rawproxy itself"),
        (SSO + "require = 'a b'\n", "is not the name of a header field"),
        (SSO + "headers = { Upgrade = 'x' }\n", "Upgrade is written by rawproxy itself"),
        (SSO + "sign-in = 'login.tld'\n", "sign-in login.tld: type https://login.tld/path, or /path"),
        (SSO + "sign-in = '//login.tld'\n", "type https://login.tld/path, or /path"),
        (SSO + "sign-in = '//a?b=c'\n", "type https://login.tld/path, or /path"),
        (SITE + "auth = 'ssso'\n" + SSO, "auth ssso: there is no [auth.ssso]; did you mean sso?"),
        (SITE + "auth = 'x'\n", "rawproxy.toml:4: [[site]] auth x: there is no [auth.x]: write its table"),
        (SITE + "auth = true\n", "auth True: type text in quotes"),
        (SITE + "allow = ['10.0.0.0/8', 'x']\n", "rawproxy.toml:4: [[site]] allow x: not an address or network"),
        (SITE + "basic-auth = 'nowhere'\n", "basic-auth nowhere: No such file or directory"),
        (SITE + "request-rate = { per = 1 }\n", "requests is missing: type { requests = 10, per = 60 }"),
        (SITE + "request-rate = { requests = 0 }\n", "requests 0: type a whole number from 1"),
        (SITE + "request-rate = { requests = 1, key = '$host' }\n", "key $host: type client, site, $http_NAME"),
        (
            SSO + SITE + "auth = 'sso'\n[[site.route]]\npath = '/outpost.goauthentik.io'\n",
            "that is where visitors sign in; type auth = false beside it",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(refused, text, said):
    assert any(said in one for one in refused(text)), refused(text)


def test_a_password_file_with_a_mistake_is_named_with_both_lines(refused, tmp_path):
    (tmp_path / "m").write_text("alice:plain\n")
    (message,) = refused(SITE + "basic-auth = 'm'\n")
    assert message.startswith("rawproxy.toml:4: [[site]] basic-auth m:1: plain text or DES crypt")
    (tmp_path / "m").write_bytes(b"#" * (1 << 20) + b"\n")
    assert "larger than 1048576 bytes" in refused(SITE + "basic-auth = 'm'\n")[0]


def test_realm_zone_and_any(load, tmp_path):
    (tmp_path / "m").write_text(f"alice:{HASH}\n")
    rate = 'request-rate = { requests = 1, zone = "login" }\n'
    own = '[[site.route]]\npath = "/a"\nrealm = "Two"\n' + rate
    config = load(
        SITE
        + 'basic-auth = "m"\nrealm = "One"\nsatisfy = "any"\nallow = ["10.0.0.0/8"]\n'
        + rate
        + own
        + '[[site.route]]\npath = "/b"\nsatisfy = "all"\n'
    )
    routes = {path: rules(one) for path, one in by_path(config).items()}
    assert routes["/a"].password.realm == "Two" and routes["/b"].password.realm == "One"
    assert routes["/a"].rate == routes["/b"].rate and routes["/a"].rate.zone == "login"
    assert routes["/a"].any and not routes["/b"].any


def test_what_is_wrong_with_names_and_with_any(refused, tmp_path):
    (tmp_path / "m").write_text(f"alice:{HASH}\n")
    both = SSO + SITE + 'auth = "sso"\nbasic-auth = "m"\nsatisfy = "any"\n'
    assert "leave basic-auth or auth out" in refused(both)[0]
    rate = SITE + "request-rate = { requests = 1, zone = 'a b' }\n"
    assert "zone a b: type letters" in refused(rate)[0]
    own = '[auth.own]\nkind = "request"\npath = "/"\nupstream = "http://a:1"\n'
    ours = own + "copy-as = { X-Forwarded-For = 'X-A' }\n"
    assert "X-Forwarded-For: rawproxy writes that itself" in refused(ours)[0]
    sign_in = own + "sign-in = 'https://a.tld/?rd=$nothing'\n"
    assert "$nothing is not known" in refused(sign_in)[0]
