"""Which TLS sessions clients can resume, and where.

    sites that ask for no certificate    by tickets, on every worker of the master and after a
                                         reload, as all of them have the master's keys
    sites that ask for one               none: a session would let in again whoever has been let
                                         in once, whatever became of the certificate

Keys are shared only if a trial at the start shows that they do what they are for: of two contexts
with the same keys, each resumes what the other began; one with other keys does not. Otherwise each
context goes on with keys of its own, as OpenSSL makes them.

This module never makes keys (`process` does) and never writes them anywhere. Invariants: a context
that asks for client certificates never has keys that another one has, so no ticket of elsewhere
could be read there (a session id context would not do: from Python 3.13 on, all have the same); new
keys replace the old ones in every context that is still in use.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import weakref
from typing import Final

from rawproxy.errors import ConfigError
from rawproxy.net.openssl.context_door import TICKET_KEYS, door
from rawproxy.routing.route_targets import ClientCertPolicy
from rawproxy.tls.self_signed import load_self_signed, self_signed

# As Go's servers send, not two as OpenSSL does: it is a twentieth of a handshake, and whoever comes
# back by it gets the next one (RFC 8446 C.4).
TICKETS: Final = 1
FLIGHTS: Final = 4  # of a full handshake of TLS 1.2; the trial makes no more turns
VERSIONS: Final = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Sessions:
    """Those of one worker; `keys` are the master's, None where it has none."""

    def __init__(self, keys: bytes | None = None) -> None:
        self._keys = keys
        self._sharing: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()

    def find_out(self) -> str | None:
        """Whether sharing works here; a line for the log, and no sharing, where it does not."""
        if self._keys is None or not door.is_open or keys_work():
            return None
        self._keys = None
        return "TLS sessions of one worker are not resumed by the others: OpenSSL takes no keys"

    def settle(self, context: ssl.SSLContext, policy: ClientCertPolicy | None) -> None:
        """Once for each context of a listener."""
        if policy is not None:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
            door.keep_no_sessions(context)  # TLS 1.2 knows them by number too
            return
        context.num_tickets = TICKETS
        if self._keys is not None and door.set_ticket_keys(context, self._keys):
            self._sharing.add(context)

    def renew(self, keys: bytes) -> None:
        """The master has new keys; sessions that began with the old ones are not resumed."""
        if self._keys is not None:
            self._keys = keys
            for context in self._sharing:
                door.set_ticket_keys(context, keys)


def keys_work() -> bool:
    """Whether a ticket opens wherever its keys are, and nowhere else: some milliseconds."""
    same, other = os.urandom(TICKET_KEYS), os.urandom(TICKET_KEYS)
    contexts = []
    try:
        pem = b"".join(self_signed(()))
        for keys in (same, same, other):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            load_self_signed(context, (), pem)
            if not door.set_ticket_keys(context, keys):
                return False
            contexts.append(context)
        return all(_resumed(contexts, version) == [True, False] for version in VERSIONS)
    except (OSError, ConfigError):  # SSLError is one; no temporary file can be written
        return False


def _resumed(contexts: list[ssl.SSLContext], version: ssl.TLSVersion) -> list[bool | None]:
    """Begin a session with the first context; whether each of the others resumes it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.minimum_version = client.maximum_version = version
    first, *others = contexts
    session = _visit(first, client, None).session
    return [_visit(context, client, session).session_reused for context in others]


def _visit(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLObject:
    """A handshake in memory; the client's side of it, which has its ticket."""
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(here, there, server_side=True)
    theirs = client.wrap_bio(there, here, session=session)
    for _ in range(FLIGHTS):
        for side in (theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        theirs.read(1)  # TLS 1.3 sends tickets behind the handshake
    return theirs
