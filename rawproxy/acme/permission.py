"""Whether a name may have a certificate on demand: a URL of the admin's says so.

GET URL?domain=NAME: 200 allows it, any other status does not, and no answer means not now. It is
Caddy's question, so what answers Caddy answers here. It never orders. Invariants: an answer is
remembered for `KEPT` seconds, so that a name that is refused costs one question in ten minutes; no
more names than the rate are let in, however many are allowed.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import requests

from rawproxy.telemetry.error_log import log

KEPT: Final = 600.0
TIMEOUT: Final = 5.0  # seconds for its answer
MOST: Final = 10_000  # names whose answers are remembered


class Permission:
    """The answers so far. `watch` counts seconds."""

    def __init__(self, url: str, rate: float, watch: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._rate = rate
        self._watch = watch
        self._known: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._left = rate
        self._since = watch()
        self._lock = threading.Lock()

    def allows(self, name: str) -> bool:
        """Whether the URL allows a name now."""
        now = self._watch()
        with self._lock:
            known = self._known.get(name)
        if known is not None and now - known[1] < KEPT:
            return known[0]
        try:
            answer = requests.get(
                self._url, params={"domain": name}, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            log.warning("%s: ask %s does not answer: %s", name, self._url, error)
            return False
        allowed = bool(answer.status_code == 200)
        if not allowed:
            log.info("%s: ask %s says %d: no certificate", name, self._url, answer.status_code)
        with self._lock:
            self._known[name] = allowed, now
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return allowed

    def has_room(self) -> bool:
        """Whether one more new name may be let in this minute; if so, it counts."""
        with self._lock:
            now = self._watch()
            self._left = min(self._left + (now - self._since) * self._rate / 60, self._rate)
            self._since = now
            if self._left < 1:
                return False
            self._left -= 1
            return True
