"""Certificates on demand: for a name that nobody has listed, once a URL of the admin's allows it.

    a worker      sees a handshake for such a name: shows its certificate, or puts its name down
    the keeper    asks the URL (`permission`), and orders

No handshake waits, neither for its own certificate nor for that of another name: until it is there,
the throw-away certificate answers, or with --strict-sni nobody does. It never orders anything and
never asks anybody. Invariants: what a stranger can make a worker write is bounded, in names a
minute and in names that wait; what is kept in memory is bounded too.
"""

from __future__ import annotations

import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from rawproxy.acme.archive import write
from rawproxy.acme.settings import AcmeSettings, served_file
from rawproxy.config.addresses import parse_server_name
from rawproxy.config.model import KeptCertificate
from rawproxy.errors import ConfigError
from rawproxy.tls.kept import KeptContexts
from rawproxy.tls.server import ServerContext

CONTEXTS: Final = 1000  # kept in memory, some 25 KiB each; others are read again: a millisecond
WAITING: Final = 100  # names that wait for the keeper; it takes all of them each second
PAUSE: Final = 10.0  # seconds until the same name is put down again
LONGEST: Final = 253  # characters of a name (RFC 1035 2.3.4)


def folder_of(state: str) -> str:
    """Where workers put names down."""
    return os.path.join(state, "acme", "asks")


def is_name(name: str) -> bool:
    """Whether an authority could have a certificate for it: a host name of two labels or more."""
    if len(name) > LONGEST or "." not in name or name.startswith("*"):
        return False
    if name.rpartition(".")[2].isdigit():  # an address
        return False
    try:
        return parse_server_name(name) == name
    except ConfigError:
        return False


class OnDemand:
    """Of one worker: contexts of names that came by themselves. `watch` counts seconds."""

    def __init__(self, settings: AcmeSettings, watch: Callable[[], float] = time.monotonic) -> None:
        self._state = settings.state
        self._rate = settings.ask_rate
        self._watch = watch
        self._names: OrderedDict[str, None] = OrderedDict()
        self._contexts: KeptContexts[ServerContext] = KeptContexts()
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._left = settings.ask_rate
        self._since = watch()

    def context(self, name: str, fresh: Callable[[], ServerContext]) -> ServerContext | None:
        """The context of a name; None while there is none."""
        one = KeptCertificate(name, served_file(self._state, name))
        found = self._contexts.get(one, None, fresh)
        if found is not None:
            self._names[name] = None
            self._names.move_to_end(name)
            if len(self._names) > CONTEXTS:
                old, _ = self._names.popitem(last=False)
                self._contexts.forget(KeptCertificate(old, served_file(self._state, old)), None)
        return found

    def ask(self, name: str) -> bool:
        """Put a name down for the keeper; False where it is no name, or there are too many."""
        now = self._watch()
        if not is_name(name) or now - self._asked.get(name, -PAUSE) < PAUSE:
            return False
        self._left = min(self._left + (now - self._since) * self._rate / 60, self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        self._asked[name] = now
        while len(self._asked) > CONTEXTS:
            self._asked.popitem(last=False)
        folder = folder_of(self._state)
        try:
            if os.path.isdir(folder) and len(os.listdir(folder)) >= WAITING:
                return False
            write(os.path.join(folder, name), b"")
        except OSError:
            return False
        return True

    def amend(self, context: ServerContext, fresh: Callable[[], ServerContext]) -> None:
        """Have `context`, the one of every https listener, know names that came by themselves."""
        before = context.sni_callback

        def choose(connection: ssl.SSLObject, name: str, default: ssl.SSLContext) -> int | None:
            asked = (name or "").lower()  # it may be None, whatever its type says
            known = self.context(asked, fresh) if is_name(asked) else None
            if known is not None:
                connection.context = known
                return None
            refused = None if before is None else before(connection, name, default)
            if connection.context is context and asked:
                self.ask(asked)  # no other certificate is for it
            return refused

        context.sni_callback = choose
