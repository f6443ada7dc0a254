"""The records of DNS-01, by a name server of the tests and by a program."""

import base64
import hashlib

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.tsigkeyring
import pytest

from rawproxy.acme import dns_records
from rawproxy.acme.advice import IssueError
from rawproxy.acme.settings import AcmeSettings, DnsServer
from tests.zone_server import ZoneServer

SECRET = base64.b64encode(b"s" * 32).decode()
RING = dns.tsigkeyring.from_text({"key.test": SECRET})
RECORD = "_acme-challenge.www.a.test"


@pytest.fixture
def server():
    found = ZoneServer("a.test", RING)
    yield found
    found.close()


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key").write_text(SECRET + "\n")
    return str(tmp_path / "key")


def settings(**told):
    return AcmeSettings("/s", (), settle=0.0, **told)


@pytest.mark.parametrize("zone", ["", "a.test"])
def test_the_record_is_there_while_it_is_looked_for(server, key, zone):
    dns = DnsServer("127.0.0.1", server.port, "key.test", key, zone=zone)
    value = dns_records.value_of("token.print")
    with dns_records.answered(settings(dns=dns), "*.www.a.test", value):
        assert server.records == {(f"{RECORD}.", f'"{value}"')}
    assert server.records == set() and set(server.seen) == {"a.test."}


def test_two_values_stand_beside_each_other(server, key):
    """A name and its wildcard are proved by records of one name."""
    told = settings(dns=DnsServer("127.0.0.1", server.port, "key.test", key))
    with (
        dns_records.answered(told, "www.a.test", "one"),
        dns_records.answered(told, "*.www.a.test", "two"),
    ):
        assert len(server.records) == 2


def test_a_server_that_asks_for_no_key():
    server = ZoneServer("a.test", RING, signed=False)
    try:
        dns_records.update(DnsServer("127.0.0.1", server.port), "set", RECORD, "x")
        assert server.records
    finally:
        server.close()


def test_what_a_server_may_say(server, key, tmp_path):
    def fails(dns, said):
        with pytest.raises(IssueError) as failed:
            dns_records.update(dns, "set", RECORD, "x")
        assert said in failed.value.words and "[certificates]" in failed.value.words

    fails(DnsServer("127.0.0.1", server.port), "REFUSED")
    fails(DnsServer("127.0.0.1", server.port, "key.test", str(tmp_path / "none")), "base64")
    (tmp_path / "odd").write_text("!")
    fails(DnsServer("127.0.0.1", server.port, "key.test", str(tmp_path / "odd")), "base64")
    with pytest.raises(IssueError, match="no zone"):
        dns_records.update(DnsServer("127.0.0.1", server.port), "set", "x.other.test", "x")
    server.refuse = dns.rcode.NOTAUTH
    fails(DnsServer("127.0.0.1", server.port, "key.test", key), "NOTAUTH")
    server.close()
    fails(DnsServer("127.0.0.1", server.port, "key.test", key), "")


def hook(tmp_path, text):
    path = tmp_path / "hook"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o700)
    return str(path)


def test_a_program(tmp_path):
    path = hook(tmp_path, f'echo "$@" >> {tmp_path}/said\n')
    with dns_records.answered(settings(hook=path), "a.test", "value"):
        assert (tmp_path / "said").read_text() == "set _acme-challenge.a.test value\n"
    assert (tmp_path / "said").read_text().endswith("remove _acme-challenge.a.test value\n")


def test_a_program_that_fails(tmp_path, monkeypatch):
    with pytest.raises(IssueError, match=r"exit code 3: no such zone; make it exit with 0"):
        dns_records.run(hook(tmp_path, "echo no such zone >&2; exit 3\n"), "set", "a", "b")
    with pytest.raises(IssueError, match="exit code 1: silent"):
        dns_records.run(hook(tmp_path, "exit 1\n"), "set", "a", "b")
    with pytest.raises(IssueError, match="No such file"):
        dns_records.run(str(tmp_path / "none"), "set", "a", "b")
    monkeypatch.setattr(dns_records, "PATIENCE", 0.1)
    with pytest.raises(IssueError, match="took longer"):
        dns_records.run(hook(tmp_path, "exec sleep 30\n"), "set", "a", "b")


def test_a_record_that_stays_is_said_and_does_no_harm(tmp_path, caplog):
    path = hook(tmp_path, '[ "$1" = set ]\n')
    with dns_records.answered(settings(hook=path), "a.test", "x"):
        pass
    assert "the record stays" in caplog.text


def test_the_value():
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x").digest()).decode()
    assert dns_records.value_of("x") == digest.rstrip("=")
