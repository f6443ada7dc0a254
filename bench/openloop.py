"""Requests at a constant rate, whether or not the answers keep up: for latency under load.

`python -m bench.openloop PORT CONNECTIONS RATE SECONDS` prints its result. Each request has a time
at which it is due; its latency counts from *then*, so a stall is charged to every request that it
delays (no coordinated omission). A request takes whichever connection has been free longest; if
none is free it waits, and the wait counts. How late the generator itself was is reported too.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from collections import deque
from time import perf_counter

from bench import payloads

TAIL = b"</p>\n"  # how the origin's small answer ends
WARM = 0.3  # seconds at the same rate before anything counts
DRAIN = 2.0  # how long answers are waited for at the end


def run(port: int, connections: int, rate: float, seconds: float) -> dict[str, object]:
    heads = payloads.browser_heads()
    poll = select.epoll()
    socks = {}
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port), 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        poll.register(sock.fileno(), select.EPOLLIN)
        socks[sock.fileno()] = sock
    free = deque(socks)
    due: dict[int, float] = {}
    parts: dict[int, bytes] = {}
    waits: list[float] = []
    late: list[float] = []
    errors = 0
    total = int(rate * (seconds + WARM))
    first_counted = int(rate * WARM)
    gap = 1.0 / rate
    # Built before the clock starts: the generator shares its core with the origin.
    requests = [payloads.browser_request(number, heads) for number in range(total)]
    number = answered = 0
    start = perf_counter()
    was_free = start
    hard_end = start + seconds + WARM + DRAIN
    wait = select.select
    while answered + errors < total:
        now = perf_counter()
        if now > hard_end:
            break
        while free and number < total and start + number * gap <= now:
            fd = free.popleft()
            due[fd] = start + number * gap
            if number >= first_counted:
                late.append(now - max(due[fd], was_free))
            socks[fd].send(requests[number])
            number += 1
        pause = start + number * gap - perf_counter() if free and number < total else 0.05
        if pause > 0:
            # epoll's own timeout is in milliseconds; select on the epoll descriptor is finer.
            wait((poll,), (), (), pause)
        for fd, _mask in poll.poll(0):
            data = parts.pop(fd, b"") + socks[fd].recv(65_536)
            now = perf_counter()
            if data.endswith(TAIL) and data.startswith(b"HTTP/1.1 200 "):
                answered += 1
                if due[fd] - start >= WARM:
                    waits.append(now - due[fd])
                if not free:
                    was_free = now
                free.append(fd)
            elif data.startswith(b"HTTP/1.1 200 "):
                parts[fd] = data
            else:
                errors += 1
                poll.unregister(fd)
                socks.pop(fd).close()
                if not socks:
                    hard_end = 0.0
    lost = total - answered - errors
    # What never came has waited at least until now: leaving it out would flatter the slow.
    stopped, resting = perf_counter(), set(free)
    unsent = (start + place * gap for place in range(number, total))
    pending = [*(at for fd, at in due.items() if fd in socks and fd not in resting), *unsent]
    waits += [stopped - at for at in pending if at - start >= WARM]
    waits.sort()
    late.sort()

    def quantile(values: list[float], share: float) -> int:
        return round(values[min(len(values) - 1, int(len(values) * share))] * 1e6) if values else 0

    counted = total - first_counted
    return {
        "requests": answered,
        "micros": round((perf_counter() - start) * 1e6),
        "errors": errors,
        "lost": lost,
        "share": round(1 - lost / counted, 4) if counted else 0,
        "p50": quantile(waits, 0.5),
        "p90": quantile(waits, 0.9),
        "p99": quantile(waits, 0.99),
        "p999": quantile(waits, 0.999),
        "late_p99": quantile(late, 0.99),
    }


def main() -> None:
    port, connections, rate, seconds = sys.argv[1:]
    print("BENCH", json.dumps(run(int(port), int(connections), float(rate), float(seconds))))


if __name__ == "__main__":
    main()
