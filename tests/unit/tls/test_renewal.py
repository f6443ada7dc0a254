"""Certificates that change on the disk."""

import functools
import logging
import os
import socket
import ssl
import threading

import pytest
import trustme

from rawproxy.config.model import Address, Certificate, Upstream, single
from rawproxy.tls.renewal import Renewal
from rawproxy.tls.server import server_context

CA = trustme.CA()


@pytest.fixture
def said():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("rawproxy")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)


def issue(folder, name="site", key_type=trustme.KeyType.ECDSA):
    """A new pair in `folder`, as certbot leaves it: two files, replaced by rename."""
    leaf = CA.issue_cert("localhost", organization_name=name, key_type=key_type)
    for file, blob in (
        ("key.pem", leaf.private_key_pem.bytes()),
        ("cert.pem", b"".join(blob.bytes() for blob in leaf.cert_chain_pems)),
    ):
        (folder / "new").write_bytes(blob)
        os.replace(folder / "new", folder / file)
    return leaf


def watched(folder, **options):
    pair = Certificate(str(folder / "cert.pem"), str(folder / "key.pem"))
    config = single(
        (Upstream("http://a", tls=False, host="a", port=80),),
        https=(Address("127.0.0.1", 0),),
        certificates=(pair,),
    )
    make = functools.partial(server_context, config)
    used = [make()]
    return used, Renewal(config, make, used.append, **options)


def organization(context: ssl.SSLContext) -> str:
    """Whose certificate a client is shown."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(client)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(theirs, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname="localhost") as tls:
        subject = dict(pair[0] for pair in tls.getpeercert()["subject"])
    thread.join()
    return subject["organizationName"]


@pytest.mark.parametrize("key_type", list(trustme.KeyType))
def test_a_new_pair_is_used_once_it_has_settled(tmp_path, said, key_type):
    issue(tmp_path, "old")
    used, renewal = watched(tmp_path)
    renewal.look()
    assert organization(used[-1]) == "old"
    issue(tmp_path, "new", key_type)
    renewal.look()
    assert len(used) == 1, "it may still be changing"
    renewal.look()
    renewal.look()
    assert len(used) == 2
    assert organization(used[-1]) == "new", "also where the key is of another kind"
    assert said == ["new certificates are in use"]


def test_a_pair_that_does_not_fit_is_refused_once(tmp_path, said):
    issue(tmp_path)
    used, renewal = watched(tmp_path)
    key = tmp_path / "key.pem"
    good = key.read_bytes()
    key.write_bytes(CA.issue_cert("other").private_key_pem.bytes())
    for _ in range(4):
        renewal.look()
    assert len(used) == 1
    assert said == [
        f"--key {key}: not the key of --cert {tmp_path / 'cert.pem'};"
        " the certificates from before go on"
    ]
    key.unlink()
    for _ in range(3):
        renewal.look()
    assert "No such file" in said[-1]
    key.write_bytes(good)
    for _ in range(3):
        renewal.look()
    assert len(used) == 2
    assert said[-1] == "new certificates are in use"


def test_links_that_point_elsewhere_are_noticed(tmp_path, said):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        issue(tmp_path / name, name)
    for file in ("cert.pem", "key.pem"):
        (tmp_path / file).symlink_to(tmp_path / "one" / file)
    used, renewal = watched(tmp_path)
    for file in ("cert.pem", "key.pem"):
        (tmp_path / "link").symlink_to(tmp_path / "two" / file)
        os.replace(tmp_path / "link", tmp_path / file)
    renewal.look()
    renewal.look()
    assert organization(used[-1]) == "two"


def test_only_one_worker_says_it(tmp_path, said):
    issue(tmp_path)
    used, renewal = watched(tmp_path, quiet=True)
    issue(tmp_path)
    renewal.look()
    renewal.look()
    (tmp_path / "key.pem").write_bytes(b"")
    renewal.look()
    renewal.look()
    assert len(used) == 2
    assert said == []
