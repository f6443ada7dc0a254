"""Names that nobody has listed."""

import os
import ssl

import pytest
import trustme

from rawproxy.acme import contexts, on_demand
from rawproxy.acme.on_demand import PAUSE, WAITING, OnDemand, is_name
from rawproxy.acme.settings import AcmeSettings, served_file
from rawproxy.config.json_codec import to_json
from rawproxy.config.model import Config, Site
from rawproxy.tls.server import ServerContext, server_context
from tests.unit.acme.test_leases import Watch
from tests.unit.tls.test_kept import subject

CA = trustme.CA()


def fresh():
    return ServerContext(ssl.PROTOCOL_TLS_SERVER)


def settings(folder, rate=3.0):
    return AcmeSettings(str(folder), (), ask="http://127.0.0.1:1/", ask_rate=rate)


def issue(folder, name):
    os.makedirs(folder / "acme" / "live", exist_ok=True)
    path = served_file(str(folder), name)
    CA.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path)


def asked(folder):
    path = folder / "acme" / "asks"
    return sorted(os.listdir(path)) if path.exists() else []


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a.test", True), ("a.b.c.test", True), ("xn--bcher-kva.test", True),
        ("", False), ("localhost", False), ("*.a.test", False), ("A.test", False),
        ("127.0.0.1", False), ("a.test.", False), ("../x.y", False), ("a/b.test", False),
        (".part.x", False), ("b\xfc.test", False), ("a" * 64 + ".test", False),
        ("a." * 127 + "test", False), ("a b.test", False), ("\0.test", False),
    ],
)  # fmt: skip
def test_what_is_a_name(name, good):
    assert is_name(name) == good


def test_a_name_is_put_down_once_in_a_while_and_not_too_many(tmp_path):
    watch = Watch()
    one = OnDemand(settings(tmp_path), watch)
    assert one.ask("a.test") and not one.ask("a.test") and not one.ask("127.0.0.1")
    assert one.ask("b.test") and one.ask("c.test")
    assert not one.ask("d.test"), "three a minute"
    assert asked(tmp_path) == ["a.test", "b.test", "c.test"]
    watch.now += max(PAUSE, 20)
    assert one.ask("a.test") and not one.ask("d.test")
    watch.now += 600
    assert [one.ask(f"n{at}.test") for at in range(5)].count(True) == 3, "nothing is saved up"


def test_the_folder_does_not_fill_up(tmp_path):
    one = OnDemand(settings(tmp_path, 1e9), Watch())
    assert sum(one.ask(f"n{at}.test") for at in range(WAITING + 20)) == WAITING


def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path):
    (tmp_path / "acme").write_text("")
    assert not OnDemand(settings(tmp_path), Watch()).ask("a.test")


def test_what_is_remembered_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(on_demand, "CONTEXTS", 2)
    one = OnDemand(settings(tmp_path, 1e9), Watch())
    first = None
    for name in ("a.test", "b.test", "a.test", "c.test"):
        issue(tmp_path, name) if name not in asked(tmp_path) else None
        assert one.context(name, fresh) is not None
        one.ask(name)
        first = first or one.context("a.test", fresh)
    assert list(one._names) == ["a.test", "c.test"] and len(one._asked) == 2
    assert one.context("d.test", fresh) is None


def config(folder, **told):
    keepers = (("acme", to_json(settings(folder))),)
    return Config(sites=(Site(**told),), keepers=keepers)


def test_a_handshake_waits_for_nothing_and_shows_what_is_there(tmp_path):
    context = server_context(config(tmp_path))
    assert subject(context, "a.test") == "localhost" and asked(tmp_path) == ["a.test"]
    issue(tmp_path, "a.test")
    assert subject(context, "a.test") == "a.test"
    assert subject(context, "b.test") == "localhost"
    issue(tmp_path, "b.test")
    again = server_context(config(tmp_path))
    assert subject(again, "b.test") == "b.test" and subject(again, "a.test") == "a.test"


def test_listed_names_come_first_and_strict_ones_are_refused(tmp_path):
    from rawproxy.config.model import KeptCertificate

    issue(tmp_path, "listed.test")
    kept = (KeptCertificate("listed.test", served_file(str(tmp_path), "listed.test")),)
    sites = (Site(names=("listed.test",), kept=kept), Site())
    keepers = (("acme", to_json(settings(tmp_path))),)
    context = server_context(Config(sites=sites, keepers=keepers, strict_sni=True))
    assert subject(context, "listed.test") == "listed.test"
    with pytest.raises(ssl.SSLError):
        subject(context, "c.test")
    assert "c.test" in asked(tmp_path)
    contexts._demands.clear()
