"""Which TLS sessions clients can resume, and where.

    sites that ask for no certificate    by tickets, on every worker of the master and after a
                                         reload, because all of them have the master's keys
    sites that ask for one               none: a session would let in again a client that was let
                                         in once, even if its certificate is no longer valid

Keys are shared only if a trial at the start shows that this works: of two contexts with the same
keys, each resumes what the other one began, and a context with other keys does not. If the trial
fails, each context keeps the keys that OpenSSL made for it.

This module never makes keys (`process` does) and never writes them anywhere. Invariants: a context
that asks for client certificates never has the keys of another one, so it can read no ticket from
elsewhere. (A session id context would not help: from Python 3.13 on, all contexts have the same.)
New keys replace the old ones in every context that is still in use.
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

# As many as Go's servers send. OpenSSL sends two, but one costs a twentieth of a handshake, and a
# client that resumes by it gets the next one (RFC 8446 C.4).
TICKETS: Final = 1
FLIGHTS: Final = 4  # a full handshake of TLS 1.2 has so many; the trial makes no more turns
VERSIONS: Final = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Sessions:
    """The sessions of one worker. `keys` are the master's; None: it has none."""

    def __init__(self, keys: bytes | None = None) -> None:
        self._keys = keys
        self._sharing: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()

    def find_out(self) -> str | None:
        """Try whether sharing works here. If not, do not share, and return a line for the log."""
        if self._keys is None or not door.is_open or keys_work():
            return None
        self._keys = None
        return "TLS sessions of one worker are not resumed by the others: OpenSSL takes no keys"

    def settle(self, context: ssl.SSLContext, policy: ClientCertPolicy | None) -> None:
        """Decide what can be resumed in `context`. Called once for each context of a listener."""
        if policy is not None:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
            door.keep_no_sessions(context)  # TLS 1.2 knows them by number too
            return
        context.num_tickets = TICKETS
        if self._keys is not None and door.set_ticket_keys(context, self._keys):
            self._sharing.add(context)

    def renew(self, keys: bytes) -> None:
        """The master has new keys. Sessions that began with the old ones are not resumed."""
        if self._keys is not None:
            self._keys = keys
            for context in self._sharing:
                door.set_ticket_keys(context, keys)


def keys_work() -> bool:
    """Whether a ticket can be read wherever its keys are, and nowhere else.

    The trial takes some milliseconds.
    """
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
    """Begin a session with the first context. Returns whether each of the others resumes it."""
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
    """Make a handshake in memory. Returns the client's side, which has its ticket."""
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(here, there, server_side=True)
    theirs = client.wrap_bio(there, here, session=session)
    for _ in range(FLIGHTS):
        for side in (theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        theirs.read(1)  # TLS 1.3 sends tickets after the handshake
    return theirs
