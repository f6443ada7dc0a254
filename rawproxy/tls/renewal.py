"""Notices certificates that were renewed, and uses them for every handshake from then on.

It looks at the files each second. Whatever replaces them (certbot's symbolic links, a rename, an
editor) changes what `stat` says. When the files have been the same for a second, a new context is
made of all of them; before that, one file of a pair may be new and the other one old. A context is
not changed in place: if the new key is of another kind, the old certificate would stay beside the
new one, and OpenSSL would go on showing either. Connections keep the context with which they began.
If the new files cannot be used, the old certificates stay in use, and the log says why, once for
each change.

Certificates that a capability keeps are not looked at one by one: their folder changes whenever one
of them does (`Config.watched`).

This module never writes a file. Invariant: a context that it hands out was made of files that fit
together.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from rawproxy.config.model import Config
from rawproxy.errors import ConfigError, ignore
from rawproxy.telemetry.error_log import log
from rawproxy.tls.kept import KeptContexts
from rawproxy.tls.server import ServerContext

INTERVAL = 1.0  # seconds between two looks: a few calls of stat

Marks = list[tuple[int, int, int] | None]


class Renewal:
    """The files of one configuration. `make` makes a context of new ones, and `use` gets it."""

    def __init__(
        self, config: Config, make: Callable[[], ServerContext],
        use: Callable[[ServerContext], None] = ignore, *, quiet: bool = False,
        kept: KeptContexts[ServerContext] | None = None,
    ) -> None:  # fmt: skip
        """Make it before the first context, so that no change between the two is missed."""
        self._make = make
        self.use = use
        self._kept = kept or KeptContexts()
        self._quiet = quiet  # another worker writes to the log
        pairs = config.certificates()
        authorities = (site.client_ca for site in config.sites if site.client_ca is not None)
        files = (f for pair in pairs for f in (pair.cert, pair.key))
        self._files = (*files, *authorities, *config.watched)
        self._own = len(self._files) - len(config.watched)
        self._used = self._seen = self._marks()

    def look(self) -> None:
        """Called once a second: use the files if they are new and complete."""
        before, self._seen = self._seen, self._marks()
        if self._seen == self._used or self._seen != before:
            return
        before, self._used = self._used, self._seen
        try:
            context = self._make()
        except ConfigError as error:
            if not self._quiet:
                log.warning("%s; the certificates from before go on", "; ".join(error.messages))
            return
        self.use(context)
        # A folder changes too when an answer to an authority is put into it, which is no news.
        if (self._kept.took() or before[: self._own] != self._used[: self._own]) and not (
            self._quiet
        ):
            log.info("new certificates are in use")

    def _marks(self) -> Marks:
        return [_mark(file) for file in self._files]


def _mark(file: str) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written to. Links are followed."""
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
