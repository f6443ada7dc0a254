"""Who resumes which TLS session: real handshakes in memory, of both versions."""

import contextlib
import dataclasses
import gc
import os
import ssl

import pytest
import trustme

from rawproxy.config.model import Certificate, Site, single
from rawproxy.net.openssl import context_door
from rawproxy.process.ticket_keys import SIZE
from rawproxy.tls import sessions as tls_sessions
from rawproxy.tls.server import server_context
from rawproxy.tls.sessions import Sessions, keys_work

CA = trustme.CA()
LEAF = CA.issue_cert("open.test", "also.test", "closed.test", "other.test")
MINE = CA.issue_cert("me@test")
KEYS, OTHER = os.urandom(SIZE), os.urandom(SIZE)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
pytestmark = pytest.mark.parametrize("version", VERSIONS, ids=lambda one: one.name)


@pytest.fixture(autouse=True, scope="module")
def opened():
    assert context_door.door.find_out() is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("tls")
    CA.cert_pem.write_to_path(found / "ca.pem")
    trustme.CA().cert_pem.write_to_path(found / "other.pem")
    LEAF.private_key_and_cert_chain_pem.write_to_path(found / "leaf.pem")
    return found


def serving(folder, sessions: Sessions | None = None):
    """`open` and `also` ask for no certificate, `closed` and `other` do, of one authority each."""
    pair = Certificate(str(folder / "leaf.pem"), str(folder / "leaf.pem"))
    sites = (
        Site(("open.test", "also.test"), certificates=(pair,)),
        Site(("closed.test",), (pair,), client_ca=str(folder / "ca.pem"), client_verify="require"),
        Site(("other.test",), (pair,), client_ca=str(folder / "ca.pem"), client_verify="optional"),
    )
    config = single((), certificates=(pair,), tls="intermediate")
    return server_context(dataclasses.replace(config, sites=sites), None, sessions)


class Client:
    """One client, and the session it got last."""

    def __init__(self, version) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(self.context)
        MINE.configure_cert(self.context)
        self.context.minimum_version = self.context.maximum_version = version
        self.session: ssl.SSLSession | None = None

    def visit(self, default, name: str = "open.test") -> bool:
        """A handshake and a byte each way; whether the session from before was resumed."""
        server = default.pick(name, b"")
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = self.context.wrap_bio(to_client, to_server, False, name, self.session)
        theirs = server.wrap_bio(to_server, to_client, True)
        for _ in range(6):
            for side in (ours, theirs):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        theirs.write(b"x")
        data = b""
        while not data:
            with contextlib.suppress(ssl.SSLWantReadError):
                data = ours.read(1)
        ours.write(b"y")
        assert theirs.read(1) == b"y"
        assert theirs.session_reused is ours.session_reused
        self.session = ours.session
        # An end that was not announced would spoil the session.
        for side in (ours, theirs, ours):
            with contextlib.suppress(ssl.SSLError):
                side.unwrap()
        return ours.session_reused


def test_workers_with_the_same_keys_resume_each_others(folder, version):
    workers = [serving(folder, Sessions(KEYS)) for _ in range(3)]
    client = Client(version)
    assert [client.visit(worker) for worker in (*workers, *workers)] == [False] + [True] * 5
    assert client.visit(workers[0], "also.test"), "a site of the same policy"


def test_without_the_masters_keys_each_has_its_own(folder, version):
    one, other = serving(folder), serving(folder)
    client = Client(version)
    assert [client.visit(one), client.visit(one)] == [False, True]
    assert not client.visit(other)


def test_new_certificates_keep_the_keys(folder, version):
    """As `Renewal` makes a context anew, with the same sessions."""
    sessions = Sessions(KEYS)
    client = Client(version)
    assert not client.visit(serving(folder, sessions))
    assert client.visit(serving(folder, sessions))


def test_new_keys_replace_the_old_ones_in_all_that_is_in_use(folder, version):
    sessions = Sessions(KEYS)
    before, after = serving(folder, sessions), serving(folder, sessions)
    late = serving(folder, Sessions(OTHER))  # a worker that began when they were new already
    client = Client(version)
    client.visit(before)
    old = client.session
    sessions.renew(OTHER)
    assert not client.visit(after), "begun with the old keys"
    assert client.visit(before)
    assert client.visit(late)
    client.session = old
    assert not client.visit(before)


def test_contexts_that_nobody_uses_are_let_go(folder, version):
    sessions = Sessions(KEYS)
    context = serving(folder, sessions)
    assert len(sessions._sharing) == 1
    del context
    gc.collect()
    assert not len(sessions._sharing)


@pytest.mark.parametrize("name", ["closed.test", "other.test"])
def test_who_shows_a_certificate_resumes_nothing(folder, version, name):
    """Neither on the same worker nor on another: by no ticket and no number."""
    workers = [serving(folder, Sessions(KEYS)) for _ in range(2)]
    client = Client(version)
    for worker in (workers[0], workers[0], workers[1]):
        assert not client.visit(worker, name)
        assert client.session is None or not client.session.has_ticket


@pytest.mark.parametrize("name", ["closed.test", "other.test"])
def test_no_session_goes_from_one_policy_to_another(folder, version, name):
    context = serving(folder, Sessions(KEYS))
    client = Client(version)
    client.visit(context, "open.test")
    assert not client.visit(context, name), "begun without a certificate"
    assert not client.visit(context, "open.test"), "begun with one"
    client.visit(context, "closed.test")
    assert not client.visit(context, "other.test")


@pytest.mark.parametrize("name", ["closed.test", "other.test"])
def test_tickets_of_elsewhere_could_not_be_read_where_certificates_are_asked_for(
    folder, version, name
):
    """What keeps them apart twice: no ticket is taken there, and none has its keys."""
    context = serving(folder, Sessions(KEYS))
    context.pick(name, b"").options &= ~ssl.OP_NO_TICKET
    client = Client(version)
    client.visit(context, "open.test")
    assert client.session.has_ticket
    assert not client.visit(context, name)


def test_what_keys_do_is_tried_at_the_start(version, monkeypatch):
    assert keys_work()
    assert Sessions(KEYS).find_out() is None
    assert Sessions().find_out() is None
    monkeypatch.setattr(tls_sessions, "_resumed", lambda *_: [True, True])
    assert not keys_work()


def no_handshake(*_):
    raise ssl.SSLError("no protocols available")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("_resumed", lambda *_: [False, False]),
        ("_resumed", lambda *_: [True, True]),
        ("_resumed", no_handshake),
        ("load_self_signed", no_handshake),
    ],
)
def test_keys_that_do_not_work_are_not_used(folder, version, monkeypatch, name, instead):
    monkeypatch.setattr(tls_sessions, name, instead)
    sessions = Sessions(KEYS)
    assert "not resumed by the others" in sessions.find_out()
    context = serving(folder, sessions)
    sessions.renew(OTHER)
    assert not len(sessions._sharing)
    client = Client(version)
    assert [client.visit(context), client.visit(context)] == [False, True], "by its own keys"


def test_behind_a_shut_door_each_has_its_own(folder, version, monkeypatch):
    monkeypatch.setattr(context_door.door, "_library", None)
    sessions = Sessions(KEYS)
    assert sessions.find_out() is None, "the door has said it"
    assert not keys_work()
    one, other = serving(folder, sessions), serving(folder, sessions)
    client = Client(version)
    assert [client.visit(one), client.visit(one), client.visit(other)] == [False, True, False]
