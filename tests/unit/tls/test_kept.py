"""Certificates that a capability keeps: each context made once, and none of them costs the others."""

import os
import ssl

import pytest
import trustme

from rawproxy.config.model import (
    Address,
    Certificate,
    Config,
    KeptCertificate,
    Site,
    Upstream,
    single,
)
from rawproxy.tls.kept import KeptContexts, missing
from rawproxy.tls.renewal import Renewal
from rawproxy.tls.server import ServerContext, server_context
from tests.unit.acme.test_answers import shaken

CA = trustme.CA()


def issue(path, name):
    CA.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))


def fresh():
    return ServerContext(ssl.PROTOCOL_TLS_SERVER)


def kept(folder, *names):
    return tuple(KeptCertificate(name, str(folder / f"{name}.pem")) for name in names)


def subject(context, name):
    """The name in the certificate that a client is shown."""
    from cryptography import x509

    found = shaken(context, name, ["http/1.1"])[0]
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


def test_a_context_is_made_once_for_each_file_and_policy(tmp_path):
    (one,) = kept(tmp_path, "a.test")
    contexts = KeptContexts()
    assert contexts.get(one, None, fresh) is None and contexts.told() == {}
    issue(tmp_path / "a.test.pem", "a.test")
    first = contexts.get(one, None, fresh)
    assert first is not None and contexts.get(one, None, fresh) is first
    assert contexts.get(one, ("ca", "require"), fresh) is not first
    assert contexts.took() == 2 and contexts.took() == 0
    issue(tmp_path / "new", "a.test")
    os.replace(tmp_path / "new", tmp_path / "a.test.pem")
    assert contexts.get(one, None, fresh) is not first
    assert contexts.told()["name"] == "a.test" and contexts.told()["missing"] == 0


@pytest.mark.parametrize("text", ["", "half", "-----BEGIN CERTIFICATE-----"])
def test_a_file_that_cannot_be_used_is_left_out(tmp_path, text):
    (one,) = kept(tmp_path, "a.test")
    issue(tmp_path / "a.test.pem", "a.test")
    contexts = KeptContexts()
    assert contexts.get(one, None, fresh) is not None
    (tmp_path / "a.test.pem").write_text(text)
    assert contexts.get(one, None, fresh) is None
    assert contexts.told() == {}, "and it is counted no more"


def test_a_key_with_a_password_asks_nobody(tmp_path):
    from cryptography.hazmat.primitives import serialization

    leaf = CA.issue_cert("a.test")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    (tmp_path / "a.test.pem").write_bytes(pem + leaf.cert_chain_pems[0].bytes())
    assert KeptContexts().get(kept(tmp_path, "a.test")[0], None, fresh) is None


def test_names_without_one_share_a_throw_away_that_names_none_of_them(tmp_path):
    issue(tmp_path / "b.test.pem", "b.test")
    sites = (
        Site(
            names=("a.test", "b.test", "c.test"), kept=kept(tmp_path, "a.test", "b.test", "c.test")
        ),
    )
    contexts = KeptContexts()
    context = server_context(Config(sites=sites), kept=contexts)
    assert contexts.pending == ("a.test", "c.test") and contexts.told()["missing"] == 2
    assert subject(context, "a.test") == subject(context, "c.test") == "localhost"
    assert subject(context, "b.test") == subject(context, "other.test") == "b.test"
    issue(tmp_path / "c.test.pem", "c.test")
    again = server_context(Config(sites=sites), kept=contexts)
    assert again is context, "what has not changed is used again"
    assert subject(again, "c.test") == "c.test" and contexts.pending == ("a.test",)


def test_a_single_one_needs_no_choice_until_there_are_two(tmp_path):
    issue(tmp_path / "a.test.pem", "a.test")
    sites = (Site(names=("a.test",), kept=kept(tmp_path, "a.test")),)
    assert server_context(Config(sites=sites)).sni_callback is None
    strict = server_context(Config(sites=sites, strict_sni=True))
    with pytest.raises(ssl.SSLError):
        subject(strict, "other.test")


def test_a_site_without_any_beside_them(tmp_path):
    (tmp_path / "ca.pem").write_bytes(CA.cert_pem.bytes())
    sites = (
        Site(names=("a.test",), kept=kept(tmp_path, "a.test")),
        Site(names=("b.test",), client_ca=str(tmp_path / "ca.pem"), client_verify="optional"),
    )
    context = server_context(Config(sites=sites))
    assert subject(context, "a.test") == subject(context, "b.test") == "localhost"


def test_given_ones_stand_beside_kept_ones(tmp_path):
    issue(tmp_path / "given.pem", "given.test")
    issue(tmp_path / "a.test.pem", "a.test")
    pair = Certificate(str(tmp_path / "given.pem"), str(tmp_path / "given.pem"))
    sites = (
        Site(names=("given.test",), certificates=(pair,)),
        Site(names=("a.test",), kept=kept(tmp_path, "a.test")),
    )
    contexts = KeptContexts()
    context = server_context(Config(sites=sites), kept=contexts)
    assert subject(context, "given.test") == "given.test" and subject(context, "a.test") == "a.test"
    assert set(contexts.told()) == {"ends", "name", "missing"}


def test_the_folder_tells_and_what_is_no_certificate_is_no_news(tmp_path, caplog):
    live = tmp_path / "live"
    live.mkdir()
    config = single(
        (Upstream("http://a", tls=False, host="a", port=80),),
        https=(Address("127.0.0.1", 0),),
        watched=(str(live),),
    )
    site = Site(names=("a.test",), kept=kept(live, "a.test"))
    config = Config(**{**_fields(config), "sites": (site,)})
    contexts, used = KeptContexts(), []
    renewal = Renewal(
        config, lambda: server_context(config, kept=contexts), used.append, kept=contexts
    )
    caplog.set_level("INFO", "rawproxy")
    issue(live / "a.test.pem", "a.test")
    renewal.look()
    renewal.look()
    assert len(used) == 1 and caplog.messages == ["new certificates are in use"]
    (live / "other").write_text("")
    renewal.look()
    renewal.look()
    assert len(used) == 2 and len(caplog.messages) == 1


def _fields(config):
    return {name: getattr(config, name) for name in config.__slots__}


def test_a_line_about_many_names():
    assert missing(()) == []
    assert "for a.test: a throw-away" in missing(("a.test",))[0]
    assert "n4 and 3 more:" in missing([f"n{number}" for number in range(8)])[0]
