"""Rates as several workers keep them: together, over a reload, and whoever is killed."""

import http.client
import os
import signal
import threading
import time

from tests.outposts.server import Recorder
from tests.process import PATIENCE, RawProxy

from .stage import until, workers

MAY = 60
FILE = """\
upstream = "http://127.0.0.1:{port}"
workers = 2
access-log = "off"

[[site]]
request-rate = {{ requests = {may}, per = 600, key = "$http_x_key" }}
"""


def statuses(port: int, key: str, connections: int = 24, each: int = 10) -> list[int]:
    """So many requests over so many connections at once: the kernel shares them out."""
    found: list[int] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for _ in range(each):
            connection.request("GET", "/", headers={"X-Key": key})
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return found


def passed(found: list[int]) -> int:
    assert set(found) <= {200, 429}
    return found.count(200)


def test_two_workers_keep_one_rate_and_it_outlives_them(tmp_path):
    path = tmp_path / "rawproxy.toml"
    with Recorder() as upstream:
        path.write_text(FILE.format(port=upstream.port, may=MAY))
        with RawProxy("--config", str(path), https=False) as proxy:
            pids = {one.pid for one in proxy.family()[1:]}
            assert len(pids) == 2
            for key in ("a", "b", "c"):
                found = statuses(proxy.http, key)
                assert len(found) == 240
                assert MAY * 0.9 <= passed(found) <= MAY * 1.1
            proxy.process.send_signal(signal.SIGUSR2)
            proxy.says("reloaded: 2 workers, all of them new")
            assert passed(statuses(proxy.http, "a")) <= MAY * 0.1, "a reload forgets nothing"
            until(lambda: len(workers(proxy) - pids) == 2, "the new ones alone")
            victim = min(workers(proxy) - pids)  # the old may still be leaving
            os.kill(victim, signal.SIGKILL)
            proxy.says(rf"\({victim}\): it was killed by SIGKILL")
            end = time.monotonic() + PATIENCE
            while len(proxy.family()) < 3:
                assert time.monotonic() < end
                time.sleep(0.02)  # another process starts
            assert passed(statuses(proxy.http, "b")) <= MAY * 0.1, "nor does a death"
            assert abs(passed(statuses(proxy.http, "d")) - MAY) <= MAY * 0.1
