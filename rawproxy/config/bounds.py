"""How much, how many and how long: the bounds on every buffer, count and wait that is configured.

Each stands beside its reason. They are frozen dataclasses as those of `model`, in a file of their
own because every request asks for some of them: it is compiled, which takes no `slots`. It never
checks anything: `problems` does. Invariant: nobody changes a value once it is made.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on what a peer may make us hold. The reason stands beside each."""

    start_line: int = 16 * 1024  # nginx allows 8k; SAML redirects are longer -> 414
    head: int = 64 * 1024  # big cookies and tokens pass, floods do not -> 431
    fields: int = 128  # HAProxy allows 101, browsers send about 20 -> 431
    response_head: int = 256 * 1024  # "upstream sent too big header": 64 KiB must pass with room
    chunk_line: int = 4096  # a chunk-size line with its extensions (RFC 9112 7.1.1)
    trailers: int = 16 * 1024
    replay: int = 64 * 1024  # of a request body, held as a whole for a retry
    drain: int = 256 * 1024  # of a request body, dropped after an early response (9112 9.3)
    queue: int = 1024  # requests that wait for an upstream connection -> 503
    body: int = 0  # of a request; 0: any size, as 413 at 1 MB is nginx's most common complaint
    rate: int = 256  # bytes a second that a body must make either way, on average -> 408
    connections: int = 0  # of clients, in total; 0: half of the file descriptors
    # Connections of one IPv4 address or IPv6 /64 that is no trusted proxy, and as many requests at
    # once over HTTP/2, as nginx counts them. 0: any, since whole offices share an address.
    per_client: int = 0
    requests: int = 100_000  # on one connection; a new one begins without what this one has kept
    # WebSockets and streams of events at once, beside `max_upstream` -> 503. 0: a quarter of the
    # file descriptors, as each needs one on either side, and requests need some too.
    tunnels: int = 0
    h2_streams: int = 128  # at once on one connection, as nginx; browsers are content with 100
    h2_budget: int = 10_000  # frames that serve no request, in a burst; a twentieth each second


@dataclass(frozen=True)
class Deadlines:
    """Bounds on every wait, in seconds.

    A sweep checks them about once a second, so each may end a second late.
    """

    tls_handshake: float = 10.0
    request_head: float = 30.0  # from its first byte -> 408
    request_body: float = 60.0  # the time over which `Limits.rate` must be kept -> 408
    connect: float = 10.0  # dial and TLS handshake, all addresses together -> 504
    queue: float = 10.0  # waiting for a connection -> 503
    wait: float = 0.0  # until an upstream that refuses connections takes one -> 502; 0: no wait
    response_head: float = 60.0  # nginx proxy_read_timeout -> 504
    response_body: float = 60.0  # between two reads of it; for the client as in `request_body`
    client_idle: float = 75.0  # keep-alive, as nginx
    tunnel_idle: float = 3600.0  # an hour, not nginx's 60 s
    linger: float = 5.0  # after our last byte, so that the client can read it
    drain: float = 30.0  # from SIGTERM until what is left is cut
    # And for tunnels, at a reload that brings new processes. Negative: as `drain`; 0: for ever.
    tunnel_drain: float = -1.0
