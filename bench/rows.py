"""The rows of the table: what is sent, through which setup, and which ratio is wanted.

A row names a measurement of `load.MEASURES` and its parameters. This module never runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

YARDSTICK = "nginx"
DIRECT = "direct"  # the load generator straight at the origin: neither may be the bottleneck
ALL = ("nginx", "haproxy", "envoy", "caddy", "aiohttp", "mitmproxy", "rawproxy")
MIX = (*ALL, "rawproxy-plain")
WEBSOCKET = tuple(peer for peer in ALL if peer != "mitmproxy")
SOME = ("nginx", "haproxy", "rawproxy")
BULK = ("nginx", "nginx-big", "haproxy", "rawproxy")
PAIR = ("nginx", "rawproxy")

ROUNDS = 5  # of a full run, at the least
LATENCY_ROUNDS = 10  # one round's p99 is half or twice the next one's

# Few enough large bodies at once that those under way at the end of a second do not matter.
CONNECTIONS = {"16k": 64, "1m": 16, "10m": 4}


@dataclass(frozen=True)
class Row:
    """One line of the table. `wanted` is a ratio to nginx: of CPU time, or of `unit` at rest."""

    id: str
    title: str
    measure: str  # key of load.MEASURES
    peers: tuple[str, ...]
    wanted: float  # 0: none
    tls: bool = False
    origin: str = "nginx"
    unit: str = "req/s"
    lower_is_better: bool = False
    direct: bool = False  # also measured without a proxy
    log: bool = False
    eyes: bool = False  # JSON access log and metrics
    page: bool = False
    guard: bool = False  # each request is asked about, but for peers whose name ends in -open
    shared: bool = False  # nothing is pinned: proxies and load share all cores
    aside: bool = False  # told in a sentence, not in the table
    curve: bool = False  # in the picture and in the full table
    quick: bool = False
    seconds: float = 0.8  # all of it, and `make fast` before it, is to stay under 20 minutes
    warm: float = 0.3  # seconds of the same load in front of each measurement, not counted
    rounds: int = 0  # where a run has the usual five or more: this many
    max_rounds: int = 99
    body: int = 0  # bytes each answer must carry at least
    args: dict[str, int | str] = field(default_factory=dict)

    def turns(self, rounds: int) -> int:
        """How many rounds this row has in a run of so many."""
        return min(self.rounds if self.rounds and rounds >= ROUNDS else rounds, self.max_rounds)


def _many(**args: int | str) -> dict[str, int | str]:
    return {"connections": 64, **args}


def _http_rows(tls: bool) -> list[Row]:
    kind, key = ("TLS", "tls") if tls else ("plain", "plain")
    rows = [_small_rows(tls, kind, key), _response_rows(tls, kind, key), _body_rows(tls, kind, key)]
    return [row for some in rows for row in some]


def _small_rows(tls: bool, kind: str, key: str) -> list[Row]:
    return [
        Row(
            f"mix-{key}",
            f"small GET, browser mix (every head different), {kind}",
            "requests",
            MIX,
            1.0 if tls else 1.05,
            tls=tls,
            direct=True,
            quick=True,
            seconds=1.2 if tls else 1.5,
            args=_many(templates="mix"),
        ),
        Row(
            f"api-{key}",
            f"small GET, API client (the same head each time), {kind}",
            "requests",
            SOME,
            1.2,
            tls=tls,
            args=_many(templates="api"),
        ),
    ]


def _response_rows(tls: bool, kind: str, key: str) -> list[Row]:
    rows = []
    bodies = (("16k", "16 KiB", 16_384), ("1m", "1 MiB", 2**20), ("10m", "10 MiB", 10 * 2**20))
    wanted = {"16k": 1.2, "1m": 1.0, "10m": 1.0} if tls else {"16k": 1.2, "1m": 2.5, "10m": 2.5}
    for name, title, size in bodies:
        rows.append(
            Row(
                f"get-{name}-{key}",
                f"{title} response, {kind}",
                "wrk",
                SOME if name == "16k" else BULK,
                wanted[name],
                tls=tls,
                direct=True,
                quick=name == "16k" and not tls,
                body=size,
                args={"connections": CONNECTIONS[name], "script": name},
            )
        )
    return rows


def _body_rows(tls: bool, kind: str, key: str) -> list[Row]:
    return [
        Row(
            f"upload-1m-{key}",
            f"1 MiB upload, {kind}",
            "wrk",
            SOME,
            1.1 if tls else 1.8,
            tls=tls,
            origin="sink",
            direct=True,
            args=_many(script="upload", connections=16),
        ),
        Row(
            f"chunked-16k-{key}",
            f"chunked both ways, 16 KiB, {kind}",
            "wrk",
            SOME,
            1.0,
            tls=tls,
            origin="sink",
            direct=True,
            body=16_384,
            args=_many(script="chunked"),
        ),
    ]


def _websocket_rows() -> list[Row]:
    rows = []
    for tls in (False, True):
        key = "tls" if tls else "plain"
        for size, name in ((64, "64"), (1024, "1k"), (16_384, "16k")):
            rows.append(
                Row(
                    f"ws-{name}-{key}",
                    f"WebSocket echo {size} B, {'TLS' if tls else 'plain'}",
                    "websocket",
                    WEBSOCKET if name == "1k" and not tls else SOME,
                    1.0 if name != "16k" else 1.3 if tls else 2.0,
                    tls=tls,
                    origin="echo",
                    unit="msg/s",
                    direct=True,
                    quick=name == "1k" and not tls,
                    args={"connections": 64, "size": size},
                )
            )
    return rows


def _h2_rows() -> list[Row]:
    return [
        Row(
            f"h2-{streams}",
            f"HTTP/2 small GET, {streams} stream{'s' * (streams > 1)} on each connection, TLS",
            "h2load",
            (*SOME, "envoy", "caddy") if streams == 10 else SOME,
            0.95 if streams == 1 else 1.1,
            tls=True,
            args={"connections": 64 if streams == 1 else 16, "streams": streams},
        )
        for streams in (1, 10)
    ]


def _handshake_rows() -> list[Row]:
    return [
        Row(
            f"handshake-{'resumed' if resumed else 'full'}",
            f"new TLS connections for each CPU second, {'resumed' if resumed else 'full'}",
            "handshakes",
            SOME,
            1.0,
            tls=True,
            unit="conn/cpu s",
            seconds=1.5,
            args={"connections": 16, "resume": int(resumed)},
        )
        for resumed in (False, True)
    ]


def _page_rows() -> list[Row]:
    return [
        Row(
            f"page-{flight}",
            f"the authentik page's own settings (keepalive 10, TLS upstream), {flight} in flight",
            "requests",
            SOME,
            4.0 if flight == 64 else 3.5,
            tls=True,
            page=True,
            # Hundreds of handshakes on either side lie before the window, and so does the time in
            # which each pool finds its size.
            seconds=2 if flight > 64 else 1.5,
            warm=1.5 if flight > 64 else 0.7,
            args=_many(templates="mix", connections=flight),
        )
        for flight in (64, 320)
    ]


def _log_and_worker_rows() -> list[Row]:
    return [
        Row(
            "log-plain",
            "small GET, browser mix, plain, access log on",
            "requests",
            ("nginx", "haproxy", "envoy", "rawproxy"),
            1.0,
            log=True,
            args=_many(templates="mix"),
        ),
        Row(
            "eyes-plain",
            "small GET, browser mix, plain, JSON access log and metrics on",
            "requests",
            (
                "nginx",
                "rawproxy-bare",
                "rawproxy-log",
                "rawproxy-admin",
                "rawproxy-both",
                "rawproxy",
            ),
            1.0,
            eyes=True,
            log=True,
            seconds=1.5,  # small differences
            args=_many(templates="mix"),
        ),
        Row(
            "guarded-plain",
            "small GET, browser mix, plain, each of them asked about (forward auth)",
            "requests",
            ("nginx", "nginx-open", "caddy", "caddy-open", "rawproxy", "rawproxy-open"),
            1.0,
            guard=True,
            seconds=1.5,  # differences are told
            args=_many(templates="mix"),
        ),
        Row(
            "workers-plain",
            "small GET, browser mix, plain, one and two workers on cores shared with the load",
            "requests",
            ("nginx", "nginx-2w", "rawproxy", "rawproxy-2w"),
            0.0,
            shared=True,
            aside=True,
            args=_many(templates="mix"),
        ),
    ]


def _latency_rows() -> list[Row]:
    rows = [
        Row(
            "latency" if percent == 70 else f"latency-{percent}",
            f"p99 latency at {percent} % of nginx's peak, browser mix, plain",
            "latency",
            SOME,
            wanted,
            origin="client",
            unit="ms",
            lower_is_better=True,
            direct=percent == 70,
            rounds=LATENCY_ROUNDS,
            seconds=1.5,
            args=_many(percent=percent),
        )
        for percent, wanted in ((70, 0.9), (90, 1.0))
    ]
    rows += [
        Row(
            f"latency-{percent}",
            f"latency at {percent} % of nginx's peak (for the curve)",
            "latency",
            SOME,
            0.0,
            origin="client",
            unit="ms",
            lower_is_better=True,
            curve=True,
            max_rounds=3,
            args=_many(percent=percent),
        )
        for percent in (20, 45)
    ]
    rows += [
        Row(
            f"pauses-{percent}",
            f"pauses at {percent} % of nginx's peak, browser mix, plain",
            "latency",
            ("rawproxy-watched",),
            0.0,
            origin="client",
            unit="ms",
            aside=True,
            max_rounds=2,
            seconds=4,
            args=_many(percent=percent),
        )
        for percent in (70, 90)
    ]
    return rows


def _idle_rows() -> list[Row]:
    return [
        Row(
            f"idle-ws-{'tls' if tls else 'plain'}",
            f"memory of an idle WebSocket ({'TLS' if tls else 'plain'})",
            "idle_websockets",
            WEBSOCKET if not tls else SOME,
            0.35 if tls else 0.25,
            tls=tls,
            origin="echo",
            unit="KiB each",
            lower_is_better=True,
            max_rounds=1,
            args={"connections": 3000},
        )
        for tls in (False, True)
    ]


_GROUPS = (
    _http_rows(tls=False), _http_rows(tls=True), _websocket_rows(), _h2_rows(), _handshake_rows(),
    _page_rows(), _log_and_worker_rows(), _latency_rows(), _idle_rows(),
)  # fmt: skip
ROWS: dict[str, Row] = {row.id: row for rows in _GROUPS for row in rows}


START_SECONDS = 0.6  # to start one peer and ask it once whether it does the same work
LOAD_SECONDS = 0.12  # to start and stop one load generator
IDLE_SECONDS = 8.0  # to open thousands of WebSockets and let them rest
WARM_ROUND = {"requests": 0.5, "latency": 0.0, "idle_websockets": 0.0}  # discarded; others: 1 s
APART = ("mitmproxy",)  # installed only by those who go to some length


def minutes(chosen: list[Row], rounds: int, peers: int = 0) -> float:
    """About how long a run of these rows takes.

    `peers` stands for the number of peers of each row.
    """
    total = 5.0
    for row in chosen:
        count = peers or sum(peer not in APART for peer in row.peers)
        turns = row.turns(rounds)
        once = row.seconds + LOAD_SECONDS
        if row.measure in ("requests", "latency"):
            once += row.warm
        if row.measure == "idle_websockets":
            once = IDLE_SECONDS
        first = START_SECONDS + WARM_ROUND.get(row.measure, 1.0)
        total += count * (first + turns * once) + row.direct * 2 * once
    return total / 60


def choose(names: tuple[str, ...], quick: bool) -> list[Row]:
    """The rows asked for by id or prefix. Without names: all, or the quick ones."""
    if names:
        chosen = [row for row in ROWS.values() if any(row.id.startswith(name) for name in names)]
        unknown = [name for name in names if not any(key.startswith(name) for key in ROWS)]
        if unknown:
            raise ValueError(f"unknown row: {', '.join(unknown)}; known: {', '.join(ROWS)}")
        return chosen
    return [row for row in ROWS.values() if row.quick or not quick]
