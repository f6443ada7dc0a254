"""What options and keys make of the configuration."""

import os

import pytest

from rawproxy.acme import reading
from rawproxy.acme.settings import LETS_ENCRYPT, AcmeSettings, Authority, DnsServer
from rawproxy.cli import reread
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config, KeptCertificate
from rawproxy.errors import ConfigError

UPSTREAM = ["--upstream", "http://127.0.0.1:1"]
MAIL = ["--acme", "me@a.test"]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/other")
    return str(tmp_path)


def told(config: Config) -> AcmeSettings:
    return from_json(AcmeSettings, dict(config.keepers)["acme"])


def of_file(tmp_path, text: str, *options: str) -> Config:
    path = tmp_path / "f.toml"
    path.write_text('upstream = "http://127.0.0.1:1"\n' + text)
    return reread(["--config", str(path), *options])


def test_one_command(state):
    config = reread([*UPSTREAM, *MAIL, "--server-name", "a.test", "--server-name", "b.test"])
    settings = told(config)
    assert settings == AcmeSettings(
        state, (Authority(LETS_ENCRYPT),), ("a.test", "b.test"), "me@a.test",
        ("http-01", "tls-alpn-01"),
    )  # fmt: skip
    assert config.kept() == (
        KeptCertificate("a.test", f"{state}/acme/live/a.test.pem"),
        KeptCertificate("b.test", f"{state}/acme/live/b.test.pem"),
    )
    assert config.watched == (f"{state}/acme/live", f"{state}/acme/answers")
    assert [one.port for one in config.https] == [8443], "as with any certificate"


def test_without_it_nothing_changes():
    config = reread([*UPSTREAM, "--server-name", "a.test"])
    assert not config.keepers and not config.kept() and not config.watched and not config.https


def test_where_state_is_kept(state, monkeypatch, tmp_path):
    names = [*UPSTREAM, *MAIL, "--server-name", "a.test"]
    assert told(reread([*names, "--state", "/x"])).state == "/x"
    assert told(reread([*names, "--state", "x"])).state == os.path.abspath("x")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/state")
    assert told(reread(names)).state == "/home/state/rawproxy"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert told(reread(names)).state == "/home/me/.local/state/rawproxy"
    config = of_file(tmp_path, 'acme = "m@a.test"\nstate = "here"\nserver-name = "a.test"\n')
    assert told(config).state == f"{tmp_path}/here", "as every path of the file"


SITES = """
[[site]]
server-name = ["a.test", "www.a.test"]
{first}
[[site]]
server-name = "b.test"
{second}
"""


@pytest.mark.parametrize(
    ("top", "first", "second", "names"),
    [
        ('acme = "m@a.test"', "", "", ("a.test", "www.a.test", "b.test")),
        ('acme = "m@a.test"', "acme = false", "", ("b.test",)),
        ('acme = "m@a.test"', "acme = true", "cert = 'c'\nkey = 'k'", ("a.test", "www.a.test")),
        ("", "acme = true", "", ("a.test", "www.a.test")),
        ("", "", "acme = true", ("b.test",)),
    ],
)
def test_which_sites_get_one(tmp_path, top, first, second, names):
    config = of_file(tmp_path, top + SITES.format(first=first, second=second))
    assert told(config).names == names
    assert tuple(one.name for one in config.kept()) == names


EVERYTHING = """
acme = "m@a.test"
acme-ca = "https://ca.test/dir"
acme-ca-root = "root.pem"
server-name = "*.a.test"
[certificates]
eab-key-id = "k1"
eab-key = "k1.key"
dns-settle = 1
[certificates.fallback]
ca = "https://other.test/dir"
ca-root = "other.pem"
eab-key-id = "k2"
eab-key = "k2.key"
[certificates.dns]
server = "127.0.0.1:5353"
zone = "a.test"
key-name = "n"
key-file = "n.key"
algorithm = "hmac-sha512"
"""


def test_everything_a_file_can_say(tmp_path):
    settings = told(of_file(tmp_path, EVERYTHING))
    here = str(tmp_path)
    assert settings.authorities == (
        Authority("https://ca.test/dir", f"{here}/root.pem", "k1", f"{here}/k1.key"),
        Authority("https://other.test/dir", f"{here}/other.pem", "k2", f"{here}/k2.key"),
    )
    assert settings.dns == DnsServer(
        "127.0.0.1", 5353, "n", f"{here}/n.key", "hmac-sha512", "a.test"
    )
    assert settings.challenges == ("dns-01", "http-01", "tls-alpn-01")
    assert settings.settle == 1.0


def test_a_plain_name_server_and_a_hook(tmp_path):
    begin = 'acme = "m@a.test"\nserver-name = "*.a.test"\n[certificates]\n'
    settings = told(of_file(tmp_path, begin + 'dns = { server = "192.0.2.1" }\n'))
    assert settings.dns == DnsServer("192.0.2.1")
    settings = told(of_file(tmp_path, begin + 'dns-hook = "set-txt"\nchallenges = ["dns-01"]\n'))
    assert settings.hook == f"{tmp_path}/set-txt" and settings.challenges == ("dns-01",)
    plain = begin.replace("*.a", "a") + 'fallback = { ca = "https://o.test/" }\n'
    assert told(of_file(tmp_path, plain)).authorities[1] == Authority("https://o.test/")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([*MAIL], "--acme: there is no name to have a certificate for: type --server-name NAME"),
        (["--acme", "me", "--server-name", "a.test"], "--acme me: type an e-mail address"),
        (
            [*MAIL, "--server-name", "*.a.test"],
            "--server-name *.a.test: only DNS proves a wildcard",
        ),
        (
            [*MAIL, "--acme-ca", "http://x", "--server-name", "a.test"],
            "--acme-ca http://x: type the",
        ),
        (["--acme-ca", "https://x/"], "--acme-ca is for certificates by themselves: type --acme"),
        (["--acme-ca-root", "x"], "--acme-ca-root is for certificates by themselves"),
    ],
)
def test_what_is_wrong_with_options(options, said):
    with pytest.raises(ConfigError) as refused:
        reread([*UPSTREAM, *options])
    assert any(one.startswith(said) for one in refused.value.messages), refused.value.messages


NAMED = 'acme = "m@a.test"\nserver-name = "a.test"\n[certificates]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[certificates]\n", ":2: certificates: type acme = 'you@domain.tld' too"),
        ("[[site]]\nacme = true\n", ":3: [[site]] acme: type server-name too"),
        (
            "[[site]]\nserver-name = '*.a.test'\nacme = true\n",
            ":3: [[site]] server-name *.a.test: ",
        ),
        (NAMED + "eab-key = 'x'\n", ":5: [certificates] eab-key needs eab-key-id too"),
        (NAMED + "eab-key-id = 'x'\n", "eab-key-id needs eab-key too: type it"),
        (NAMED + "store-key = 'x'\n", "store-key is for what machines share: type store too"),
        (NAMED + "fallback = {}\n", "fallback: ca is missing: type the URL"),
        (NAMED + "fallback = { ca = 'x' }\n", "ca x: type the https:// URL"),
        (NAMED + f"fallback = {{ ca = '{LETS_ENCRYPT}' }}\n", "ca is the first authority itself"),
        (NAMED + "challenges = ['x']\n", "challenges x: type one of http-01, tls-alpn-01, dns-01"),
        (NAMED + "challenges = ['dns-01']\n", "challenges dns-01 needs dns or dns-hook"),
        (NAMED + "dns = {}\n", "dns: server is missing: type the name server's"),
        (NAMED + "dns = { server = 'ns.test' }\n", "nobody could resolve its name"),
        (NAMED + "dns = { server = '::1', key-name = 'x' }\n", "key-name needs key-file too"),
        (NAMED + "dns = { server = '127.0.0.1', key-file = 'x' }\n", "key-file needs key-name too"),
        (NAMED + "dns-hook = 'x'\ndns = { server = '127.0.0.1' }\n", "dns-hook and dns: leave one"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        of_file(tmp_path, text)
    assert any(said in one for one in refused.value.messages), refused.value.messages


def test_what_machines_share(tmp_path):
    settings = told(of_file(tmp_path, NAMED + "store-key = 'k'\n", "--store", f"file:{tmp_path}/s"))
    assert (settings.store, settings.store_key) == (f"file:{tmp_path}/s", f"{tmp_path}/k")
    assert told(of_file(tmp_path, NAMED)).store is None


ON_DEMAND = 'acme = "m@a.test"\n[certificates]\nask = "http://127.0.0.1:1/may"\n'


def test_names_on_demand(tmp_path):
    config = of_file(tmp_path, ON_DEMAND + "ask-rate = 3\n")
    settings = told(config)
    assert (settings.ask, settings.ask_rate, settings.names) == ("http://127.0.0.1:1/may", 3.0, ())
    assert not config.kept() and [one.port for one in config.https] == [8443]
    config = of_file(tmp_path, ON_DEMAND + "[[site]]\nserver-name = 'a.test'\n[[site]]\n")
    assert told(config).names == ("a.test",)
    config = of_file(tmp_path, ON_DEMAND.partition("\n")[2] + "[[site]]\nacme = true\n")
    assert told(config).ask_rate == 10.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ON_DEMAND + "[[site]]\nserver-name = 'a.test'\n", "ask: no site would serve such names"),
        (ON_DEMAND.replace("http://", "ftp://"), "ask ftp://127.0.0.1:1/may: type the http://"),
    ],
)
def test_what_is_wrong_with_names_on_demand(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        of_file(tmp_path, text)
    assert any(said in one for one in refused.value.messages), refused.value.messages


def test_a_socket_file_proves_nothing():
    with pytest.raises(ConfigError):
        reread([*UPSTREAM, *MAIL, "--server-name", "*.a.test", "--http", "unix:/x"])
    options = [*UPSTREAM, *MAIL, "--server-name", "a.test", "--http", "unix:/x"]
    assert told(reread(options)).challenges == ("tls-alpn-01",)
    options += ["--https", "unix:/y", "--http", ":8080"]
    assert told(reread(options)).challenges == ("http-01",)


def test_without_the_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(reading.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as refused:
        reading.amend(*_settings())
    assert "pip install 'acme" in str(refused.value)


def _settings():
    from rawproxy import cli
    from rawproxy.config.build import _sites, _top

    words = [*UPSTREAM, *MAIL, "--server-name", "a.test"]
    with cli.rawproxy.make_context("rawproxy", words) as ctx:
        settings = cli.settings(ctx)
    config = _top(settings)

    class Raising:
        def __getattr__(self, name):
            return getattr(settings, name)

        def mistake(self, key, text):
            raise ConfigError(f"{key}{text}")

    from dataclasses import replace

    return Raising(), replace(config, sites=_sites(settings, config))
