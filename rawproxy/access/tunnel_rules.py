"""What holds for a tunnel of a guarded route: a place among its client's, and asking again.

A WebSocket may last for days, and whoever signs out should not stay in it. With `recheck` the guard
is asked again about the request that began it, with that request's cookies. If it says no, both
sides are told so by a Close frame (1008) behind a whole message. A guard that cannot be asked is
asked again; the second failure in a row ends the tunnel, as what cannot be judged does not pass.

It never looks into a tunnel. Invariant: the place is given back when the tunnel ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from rawproxy.access.inquiry import AuthGate, Inquiry, Waiter
from rawproxy.access.verdicts import AuthVerdict, Ruling, closed
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.proxy.tunnel import Tunnel, TunnelWatch

log = logging.getLogger("rawproxy")
FAILURES: Final = 2  # in a row: one may be a restart of the guard


class GuardedTunnel(TunnelWatch, Waiter):
    """One tunnel."""

    __slots__ = (
        "_asked", "_due", "_failures", "_gate", "_inquiry", "_leave", "_over", "_tunnel",
        "_until", "_visitor",
    )  # fmt: skip

    def __init__(
        self,
        tunnel: Tunnel,
        asked: Asked,
        gate: AuthGate | None,
        leave: Callable[[bytes], None] | None,
        visitor: bytes,
    ) -> None:
        self._tunnel = tunnel
        self._asked = asked
        self._gate = gate  # None: it is not asked about again
        self._leave = leave
        self._visitor = visitor
        self._inquiry: Inquiry | None = None
        self._failures = 0
        self._until = 0.0
        self._over = False
        self._due = tunnel.service.deadline(gate.rule.recheck) if gate is not None else 0.0

    def sweep(self, now: float) -> None:
        """Called about once a second."""
        gate = self._gate
        if gate is None or self._over:
            return
        inquiry = self._inquiry
        if inquiry is not None:
            inquiry.sweep(now)
            if self._inquiry is not None and now >= self._until:
                self._give_up()
                self.on_verdict(closed(f"no answer for {gate.rule.timeout:g} s"))
        elif now >= self._due:
            self._until = now + gate.rule.timeout
            self._due = now + gate.rule.recheck
            self._inquiry = gate.ask(self._asked, b"", self)

    def on_verdict(self, verdict: AuthVerdict) -> None:
        """The guard has answered, or cannot."""
        self._inquiry = None
        gate = self._gate
        if self._over or gate is None:
            return
        if verdict.ruling is Ruling.PASS:
            self._failures = 0
            return
        self._failures += 1
        if verdict.ruling is not Ruling.CLOSED or self._failures >= FAILURES:
            log.warning(
                "a WebSocket from %s ends: [auth.%s] %s",
                self._visitor.decode("latin-1"), gate.rule.name, verdict.reason,
            )  # fmt: skip
            self._over = True
            self._tunnel.expel()

    def _give_up(self) -> None:
        inquiry, self._inquiry = self._inquiry, None
        if inquiry is not None:
            inquiry.leave(self)

    def over(self) -> None:
        """The tunnel has ended."""
        self._over = True
        self._give_up()
        if self._leave is not None:
            self._leave(self._visitor)
            self._leave = None
