"""The records of DNS-01 (RFC 8555 8.4): set before the authority looks, and removed afterwards.

    a name server    by a change that is signed with its key (RFC 2136, RFC 8945)
    a program        HOOK set NAME VALUE, then HOOK remove NAME VALUE; exit code 0 is success

It never looks whether the record has arrived everywhere: `settle` seconds are waited for that.
Raises `IssueError`. Invariant: what was set is removed, however the try ends, unless the process
is killed; a record that is left does no harm.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update

from rawproxy.acme.advice import IssueError
from rawproxy.acme.archive import read
from rawproxy.acme.settings import AcmeSettings, DnsServer
from rawproxy.acme.timing import Trouble
from rawproxy.telemetry.error_log import log

PATIENCE: Final = 120.0  # seconds for a program; some wait until all name servers know
TIMEOUT: Final = 10.0  # seconds for a name server's answer
TTL: Final = 30  # seconds of the record: nobody is to remember the last one
_UPDATE_NEEDS: Final = "look at dns under [certificates], and at what its key may change there"


def value_of(words: str) -> str:
    """What the record says, of the key authorization."""
    digest = hashlib.sha256(words.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@contextlib.contextmanager
def answered(settings: AcmeSettings, name: str, value: str) -> Iterator[None]:
    """While the authority looks, the record is there."""
    record = "_acme-challenge." + name.removeprefix("*.")
    _change(settings, "set", record, value)
    try:
        time.sleep(settings.settle)
        yield
    finally:
        try:
            _change(settings, "remove", record, value)
        except IssueError as error:
            log.warning("%s; the record stays, and does no harm", error.words)


def _change(settings: AcmeSettings, what: str, record: str, value: str) -> None:
    if settings.dns is not None:
        update(settings.dns, what, record, value)
    else:
        run(settings.hook or "", what, record, value)


def run(hook: str, what: str, record: str, value: str) -> None:
    """Have the admin's program change the record. Raises `IssueError`."""
    try:
        done = subprocess.run(
            [hook, what, record, value], capture_output=True, timeout=PATIENCE, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror if isinstance(error, OSError) else f"took longer than {PATIENCE:g} s"
        words = f"dns-hook {hook} {what} {record}: {why}; it is called with set or remove, the name"
        raise IssueError(Trouble.OURS, f"{words} and the value", challenge="dns-01") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-300:]
        words = f"dns-hook {hook} {what} {record}: exit code {done.returncode}: {said or 'silent'}"
        raise IssueError(Trouble.OURS, f"{words}; make it exit with 0", challenge="dns-01")


def update(server: DnsServer, what: str, record: str, value: str) -> None:
    """Have the name server change the record. Raises `IssueError`."""
    where = f"dns {server.host}:{server.port}"
    try:
        zone = server.zone or _zone(server, record)
        change = dns.update.UpdateMessage(zone, **_signed(server))
        relative = dns.name.from_text(record).relativize(dns.name.from_text(zone))
        if what == "set":
            change.add(relative, TTL, "TXT", f'"{value}"')
        else:
            change.delete(relative, "TXT", f'"{value}"')
        answer = dns.query.tcp(change, server.host, TIMEOUT, server.port)
    except (dns.exception.DNSException, OSError, ValueError, EOFError) as error:
        why = str(error) or type(error).__name__
        words = f"{where}: {what} {record}: {why}; {_UPDATE_NEEDS}"
        raise IssueError(Trouble.OURS, words, challenge="dns-01") from None
    if answer.rcode() != dns.rcode.NOERROR:
        said = dns.rcode.to_text(answer.rcode())
        words = f"{where}: {what} {record} in zone {zone}: {said}; {_UPDATE_NEEDS}"
        raise IssueError(Trouble.OURS, words, challenge="dns-01")


def _signed(server: DnsServer) -> dict[str, Any]:
    if not server.key_name:
        return {}
    try:
        secret = base64.b64decode((read(server.key_file) or b"").strip(), validate=True)
    except binascii.Error:
        secret = b""
    if not secret:
        raise ValueError(f"key-file {server.key_file}: no base64 in it, or it cannot be read")
    ring = {dns.name.from_text(server.key_name): secret}
    return {"keyring": ring, "keyalgorithm": dns.name.from_text(server.algorithm)}


def _zone(server: DnsServer, record: str) -> str:
    """The zone that has the record, by the server's own word: up from the name to the first SOA."""
    name = dns.name.from_text(record)
    while name != dns.name.root:
        question = dns.message.make_query(name, dns.rdatatype.SOA)
        answer = dns.query.tcp(question, server.host, TIMEOUT, server.port)
        for found in answer.answer:
            if found.rdtype == dns.rdatatype.SOA:
                return found.name.to_text()
        name = name.parent()
    raise ValueError("it has no zone for that name; type zone")
