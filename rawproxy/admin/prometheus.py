"""The metrics for Prometheus, in its text format or in OpenMetrics, as the Accept field asks.

This module knows names, labels and help texts, and never where the numbers come from. Invariant:
every series is a sum over all workers, with those that are gone. So a counter goes down only after
a restart of the master. No label has values that a client chooses or a reload changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from rawproxy import __version__
from rawproxy.protocol.http.error_pages import ACCEPT
from rawproxy.telemetry.access_log import VERSIONS
from rawproxy.telemetry.counters import BUCKETS, Tree, total

# Of an upstream: the leaf of its tally, the metric, its help text. An empty `upstream` stands for
# answers that needed none: redirects, refusals.
_OF_UPSTREAM = (
    ("received", "request_body_bytes", "Bytes of request bodies."),
    ("sent", "response_body_bytes", "Bytes of response bodies."),
    ("retries", "retries", "Requests sent again after a reused connection had died."),
    ("dials", "upstream_dials", "Connections to an upstream that were begun."),
    ("dial_failures", "upstream_dial_failures", "Connections to an upstream that failed."),
    (
        "changes",
        "upstream_certificate_changes",
        "Certificates accepted in the place of others, without an authority.",
    ),
    ("failures", "upstream_failures", "Dials and requests that failed by an upstream's doing."),
    ("ejections", "upstream_ejections", "Times that an address of an upstream became ill."),
)
_OF_ACCESS = (
    ("asked", "access_questions", "Questions that went to guards (forward auth)."),
    ("remembered", "access_answers_remembered", "Requests for which an answer was known."),
    ("hashed", "access_passwords_computed", "Passwords that were computed."),
)
_OF_STORE = (
    ("told", "store_told", "Amounts of rates that were told to other machines."),
    ("heard", "store_heard", "Amounts of rates that other machines have told."),
    ("lost", "store_lost", "Times that the store was lost."),
)
_TIMES = (
    ("cells", "seconds", "request_duration_seconds", "From a request's head to its end."),
    ("first_cells", "first_seconds", "first_byte_seconds", "From there to the response's head."),
)
_COUNTERS = (
    ("accepted", "client_connections_accepted", "Connections of clients that were accepted."),
    ("refused", "client_connections_refused", "Connections refused by a --limit on them."),
    ("tunnels", "tunnels_opened", "WebSockets that were opened."),
    ("h2_faults", "http2_faults", "HTTP/2 connections closed because of what the client sent."),
    ("log_lost", "access_log_lost_lines", "Lines of the access log that nobody will ever read."),
    ("errors_lost", "error_log_lost_lines", "Lines of the error log that nobody will ever read."),
    ("cpu", "cpu_seconds", "User and system time of all workers."),
)
_GAUGES = (
    ("connections", "client_connections", "Connections of clients that are open."),
    ("tunnels", "tunnels", "WebSockets that are open."),
    ("workers", "workers", "Processes that serve, or drain."),
    ("draining", "workers_draining", "Processes that finish what they have, and then end."),
)


CHANGES = ("in_place", "new_processes", "refused")


class Totals(Collector):
    """The numbers of one scrape."""

    def __init__(self, sums: Tree) -> None:
        both = total(sums["workers"], sums["retired"])
        self.counters: Tree = both["counters"]
        self.gauges: Tree = both["gauges"]
        self.workers = [one["worker"] for one in sums["workers"]]
        self.store: Tree | None = sums.get("keepers", {}).get("store")
        self.master: Tree = sums.get("master", {})  # none without a master, or by older code

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        yield InfoMetricFamily("rawproxy_build", "What is running.", {"version": __version__})
        yield from self._requests()
        yield from self._upstreams()
        yield from self._access()
        yield from self._of_store()
        yield from self._changes()
        for leaf, name, text in _COUNTERS:
            yield _counter(name, text, (), [((), self.counters.get(leaf, 0))])
        for leaf, name, text in _GAUGES:
            yield _gauge(name, text, (), [((), self.gauges.get(leaf, 0))])
        counters = self.counters
        resumed = counters.get("resumed", 0)
        yield _counter("tunnel_bytes", "Bytes in WebSockets; in: from clients.", ("direction",), [
            (("in",), counters.get("tunnel_in", 0)), (("out",), counters.get("tunnel_out", 0)),
        ])  # fmt: skip
        yield _counter("tls_handshakes", "TLS handshakes with clients.", ("result",), [
            (("full",), counters.get("handshakes", 0) - resumed), (("resumed",), resumed),
            (("failed",), counters.get("handshakes_failed", 0)),
        ])  # fmt: skip
        memory = sum(worker["memory"] for worker in self.workers)
        yield _gauge("resident_memory_bytes", "Memory of all workers.", (), [((), memory)])
        lag = max((worker["lag"] for worker in self.workers), default=0)
        text = "By how much the busiest event loop was late at its last sweep."
        yield _gauge("loop_lag_seconds", text, (), [((), lag)])
        yield from self._certificates()

    def _certificates(self) -> Iterator[Metric]:
        """When the first of them ends; nothing where there is no https listener."""
        told = [found for one in self.workers if (found := one.get("certificates"))]
        ends = [one["ends"] for one in told if "ends" in one]
        if ends:
            text = "When the first of the certificates that are served ends, since 1970."
            yield _gauge("certificate_expiry_timestamp_seconds", text, (), [((), min(ends))])
        if told:
            text = "Names for which a throw-away certificate answers."
            missing = max(one["missing"] for one in told)
            yield _gauge("certificates_missing", text, (), [((), missing)])

    def _changes(self) -> Iterator[Metric]:
        changes = self.master.get("changes", {})
        text = "Configurations since the start: taken over in place, by new processes, or refused."
        counts = [((name,), changes.get(name, 0)) for name in CHANGES]
        yield _counter("configuration_changes", text, ("result",), counts)
        sources = self.master.get("sources", {})
        text = "Pieces of configuration that are in force, by where they come from."
        known = [((name,), one["fragments"]) for name, one in sources.items()]
        yield _gauge("fragments", text, ("source",), known)
        text = "1 for each piece of configuration that is wrong: its last good state is in force."
        broken = [((name, one), 1) for name, of in sources.items() for one in of["broken"]]
        yield _gauge("fragment_broken", text, ("source", "fragment"), broken)

    def _requests(self) -> Iterator[Metric]:
        upstreams = self.counters.get("upstreams", {})
        yield _counter(
            "requests",
            "Requests that have ended; that of a WebSocket ends with it.",
            ("upstream", "status"),
            [
                ((name, f"{first}xx"), count)
                for name, tally in upstreams.items()
                for first, count in enumerate(tally["classes"])
                if first
            ],
        )
        yield _counter(
            "requests_by_protocol",
            "Requests that have ended, by the protocol of the client.",
            ("protocol",),
            [
                ((version.decode(),), count)
                for version, count in zip(
                    VERSIONS, self.counters.get("protocols", ()), strict=False
                )
            ],
        )
        running = self.counters.get("begun", 0) - self.counters.get("requests", 0)
        running = max(running - self.gauges.get("tunnels", 0), 0)
        yield _gauge("requests_in_flight", "Requests under way, without WebSockets.", (), [
            ((), running),
        ])  # fmt: skip

    def _access(self) -> Iterator[Metric]:
        """The metrics of who may pass; none if no route asks that."""
        counts = self.counters.get("access")
        if counts is None:
            return
        yield _counter(
            "access_requests",
            "Requests to routes that ask who may pass, by their result or by what refused them.",
            ("result",),
            [((name,), count) for name, count in counts["results"].items()],
        )
        for leaf, name, text in _OF_ACCESS:
            yield _counter(name, text, (), [((), counts[leaf])])

    def _of_store(self) -> Iterator[Metric]:
        """The metrics of --store; none without it."""
        told = self.store
        if told is None:
            return
        yield _gauge("store_up", "1: the store is there; 0: limits are local.", (), [
            ((), told["up"]),
        ])  # fmt: skip
        yield _gauge("store_machines", "Machines that share it, this one among them.", (), [
            ((), told["machines"]),
        ])  # fmt: skip
        for leaf, name, text in _OF_STORE:
            yield _counter(name, text, (), [((), told[leaf])])

    def _upstreams(self) -> Iterator[Metric]:
        tallies = self.counters.get("upstreams", {})
        states = self.gauges.get("upstreams", {})
        for cells, seconds, name, text in _TIMES:
            family = HistogramMetricFamily(f"rawproxy_{name}", text, labels=("upstream",))
            for upstream, tally in tallies.items():
                family.add_metric((upstream,), _cumulated(tally[cells]), tally[seconds])
            yield family
        for leaf, name, text in _OF_UPSTREAM:
            samples = [((upstream,), tally.get(leaf, 0)) for upstream, tally in tallies.items()]
            yield _counter(name, text, ("upstream",), samples)
        yield _gauge(
            "upstream_connections",
            "Connections to an upstream, without tunnels; busy ones include those being made.",
            ("upstream", "state"),
            [
                ((name, kind), state[kind])
                for name, state in states.items()
                for kind in ("busy", "idle")
            ],
        )

        def states_of(of: Callable[[Tree], float]) -> list[tuple[tuple[str, ...], float]]:
            return [((name,), of(state)) for name, state in states.items()]

        for name, text, of in (
            ("upstream_connections_limit", "How many may be open.", lambda s: s["limit"]),
            ("upstream_waiting", "Requests that wait for a connection.", lambda s: s["waiting"]),
            (
                "upstream_up",
                "1: healthy; 0: ill; between: healthy for some workers or at some addresses.",
                lambda s: s["up"] / s["views"],
            ),
        ):
            yield _gauge(name, text, ("upstream",), states_of(of))


def render(sums: Tree, accept: str) -> tuple[bytes, str]:
    """The page and its Content-Type, made of the snapshots of all workers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Totals(sums))
    encode, kind = choose_encoder(accept[:ACCEPT])
    return encode(registry), kind


def _cumulated(cells: list[int]) -> list[tuple[str, float]]:
    below = 0
    buckets: list[tuple[str, float]] = []
    for end, count in zip((*map(str, BUCKETS), "+Inf"), cells, strict=True):
        below += count
        buckets.append((end, below))
    return buckets


def _counter(name: str, text: str, labels: tuple[str, ...], samples: list[Any]) -> Metric:
    family = CounterMetricFamily(f"rawproxy_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: list[Any]) -> Metric:
    family = GaugeMetricFamily(f"rawproxy_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
