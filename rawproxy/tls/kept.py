"""Contexts of certificates that a capability keeps, each made once; and what ends first of all.

A thousand of them are made in a second, so a new one must not cost a thousand. What was made of a
file is used again as long as the file is the same. It never writes a file and never asks for a
certificate. Invariant: a file that cannot be used costs nobody but its own name.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cryptography import x509

from rawproxy.config.model import KeptCertificate

C = TypeVar("C", bound=ssl.SSLContext)
SHOWN = 5  # names in one line of the log


@dataclass(frozen=True, slots=True)
class _Made(Generic[C]):
    mark: tuple[int, int, int]  # of the file: what differs once it was replaced
    context: C
    end: float  # seconds since 1970


class KeptContexts(Generic[C]):
    """Those of one worker, from one configuration on."""

    def __init__(self) -> None:
        self._made: dict[Any, _Made[C]] = {}
        self._given: tuple[float, str] | None = None
        self._new = 0
        self.pending: tuple[str, ...] = ()  # names for which a throw-away certificate answers

    def get(self, one: KeptCertificate, policy: object, fresh: Callable[[], C]) -> C | None:
        """The context of a certificate for those whom `policy` is about; None: it cannot be used.

        Where several sites have the name, each policy has its own.
        """
        try:
            stat = os.stat(one.file)
            mark = stat.st_ino, stat.st_mtime_ns, stat.st_size
            before = self._made.get((one, policy))
            if before is not None and before.mark == mark:
                return before.context
            context = fresh()
            # It has no password; if it asked for one, the terminal would be asked.
            context.load_cert_chain(one.file, password="")
            with open(one.file, "rb") as file:
                leaf = x509.load_pem_x509_certificates(file.read())[0]
        except (OSError, ValueError):  # SSLError is an OSError
            self._made.pop((one, policy), None)
            return None
        self._made[one, policy] = _Made(mark, context, leaf.not_valid_after_utc.timestamp())
        self._new += 1
        return context

    def forget(self, one: KeptCertificate, policy: object) -> None:
        """Keep the context of that certificate no longer."""
        self._made.pop((one, policy), None)

    def took(self) -> int:
        """How many were new since this was last asked."""
        new, self._new = self._new, 0
        return new

    def know(self, given: Iterable[tuple[float, str]]) -> None:
        """When certificates that nobody keeps end, each with its name or file."""
        self._given = min(given, default=None)

    def told(self) -> dict[str, Any]:
        """For metrics and the status page: what ends first, when, and how many are missing."""
        ends = [(made.end, key[0].name) for key, made in self._made.items()]
        first = min([*ends, *([self._given] if self._given else [])], default=None)
        if first is None:
            return {"missing": len(self.pending)} if self.pending else {}
        return {"ends": first[0], "name": first[1], "missing": len(self.pending)}


def missing(names: Sequence[str]) -> list[str]:
    """A line about names for which a throw-away certificate answers."""
    if not names:
        return []
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))
    return [
        f"no certificate yet for {shown}: a throw-away one answers, of which browsers warn, until"
        " the authority's is there"
    ]
