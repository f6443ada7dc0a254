"""Two machines with one Redis, each in a network namespace; prints what happened, as JSON.

Run by `test_machines`, which makes the namespaces, as `ip netns exec OUTER python -m
tests.production.machines FOLDER ONE OTHER`. The outer one has clients, the upstream and Redis.
"""

import contextlib
import http.client
import json
import pathlib
import re
import signal
import socket
import ssl
import sys
import threading
import time

import psutil

from tests.process import CA, LEAF, PATIENCE, Program
from tests.production.stage import upstream
from tests.stores import RedisServer

HOME, ADDRESSES = "10.77.0.1", ("10.77.0.11", "10.77.0.12")
RATE, BURST, SECONDS = 200, 20, 8.0
CLIENTS = 12  # that ask for what is limited
FILE = """\
upstream = ["http://{home}:{port}", "http://{home}:{other}"]
store = "{store}"
http = "{address}:8080"
https = "{address}:8443"
cert = "{pem}"
key = "{pem}"
no-redirect = true
workers = 2
access-log = "off"
admin = "{address}:9900"
[group.default]
policy = "cookie"
[[site]]
[[site.route]]
path = "/free"
[[site.route]]
path = "/limited"
request-rate = {{ requests = {rate}, per = 1, burst = {burst}, key = "$http_x_key" }}
"""


class Machine:
    """One rawproxy in its namespace."""

    def __init__(self, name: str, address: str, folder: pathlib.Path, **told) -> None:
        self.address = address
        file = folder / f"{name}.toml"
        file.write_text(FILE.format(home=HOME, address=address, **told))
        self.command = ["ip", "netns", "exec", name, sys.executable, "-m", "rawproxy"]
        self.command += ["--config", str(file)]
        self.start()

    def start(self) -> None:
        self.program = Program(self.command)
        self.program.says("rawproxy ready")
        self.program.says(r"the store \S+ is reached")

    def master(self) -> psutil.Process:
        """`ip` has become the command itself."""
        return psutil.Process(self.program.process.pid)

    def keeper(self) -> psutil.Process:
        """The last child that a master starts."""
        return max(self.master().children(), key=lambda one: one.pid)

    def metrics(self) -> dict[str, float]:
        connection = http.client.HTTPConnection(self.address, 9900, timeout=PATIENCE)
        connection.request("GET", "/metrics", headers={"Host": self.address})
        text = connection.getresponse().read().decode()
        connection.close()
        return {k: float(v) for k, v in re.findall(r"^(rawproxy_store\w*) (\S+)$", text, re.M)}


def visit(address: str, session: ssl.SSLSession | None, cookie: str = "") -> tuple:
    """One visit over TLS: the session, whether it was resumed, and the cookie that was set."""
    context = visit.context
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection((address, 8443), PATIENCE))
        sock = context.wrap_socket(raw, server_hostname="localhost", session=session)
        stack.enter_context(sock)
        line = f"Cookie: {cookie}\r\n" if cookie else ""
        sock.sendall(f"GET /free HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode())
        answer = sock.recv(65536).decode("latin-1")
        assert answer.startswith("HTTP/1.1 200"), answer
        found = re.search(r"set-cookie: (rawproxy=\w+)", answer, re.I)
        return sock.session, bool(sock.session_reused), found[1] if found else ""


visit.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CA.configure_trust(visit.context)


class Load:
    """Clients that ask both machines, until they are told to stop."""

    def __init__(self, path: str, key: str, clients: int, pause: float) -> None:
        self.statuses: dict[int, int] = {}
        self.failed: list[str] = []
        self.moved = 0  # to the other machine, as nobody took the connection or began an answer
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        told = (path, key, pause)
        self._threads = [
            threading.Thread(target=self._client, args=(at, *told), daemon=True)
            for at in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _client(self, at: int, path: str, key: str, pause: float) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        while not self._stop.wait(pause):
            at += 1
            first, second = ADDRESSES[at % 2], ADDRESSES[(at + 1) % 2]
            began = time.monotonic()
            status, why = 0, ""
            for address in (first, second, first, second):
                try:
                    status = ask(connections, address, path, key)
                    break
                except (OSError, http.client.HTTPException) as error:
                    why = repr(error)
                    self.moved += 1
            with self._lock:
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.statuses[status] = self.statuses.get(status, 0) + 1
                if status not in (200, 429):
                    self.failed.append(f"{status} {why}")
        for one in connections.values():
            one.close()

    def answered(self) -> int:
        """How many requests, whatever came."""
        with self._lock:
            return sum(self.statuses.values())

    def stop(self) -> dict:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        return {
            "passed": self.statuses.get(200, 0),
            "refused": self.statuses.get(429, 0),
            "failed": self.failed[:5],
            "moved": self.moved,
            "slowest": round(self.slowest, 3),
        }


def ask(connections: dict, address: str, path: str, key: str) -> int:
    """One request over the client's connection there; it is made anew where it has ended."""
    connection = connections.get(address)
    if connection is None:
        connection = http.client.HTTPConnection(address, 8080, timeout=5)
        connections[address] = connection
    try:
        connection.request("GET", path, headers={"X-Key": key})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connections.pop(address).close()
        raise
    return answer.status


def limited(key: str, seconds: float = SECONDS, during=None) -> dict:
    """Three times as much as may pass, and what did."""
    load = Load("/limited", key, CLIENTS, 0.012)
    began = time.monotonic()
    if during is not None:
        during(load)
    time.sleep(max(seconds - (time.monotonic() - began), 0))
    found = load.stop()
    found["may"] = round(RATE * (time.monotonic() - began) + BURST + 1)
    return found


def until(condition, what: str) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, what
        time.sleep(0.02)  # polling other programs
    return time.monotonic() - began


def run(folder: pathlib.Path, names: list[str], redis: RedisServer, ports: tuple[int, int]) -> dict:
    """All trials, one after the other."""
    found: dict = {}
    pem = folder / "pair.pem"
    pem.write_bytes(LEAF.private_key_and_cert_chain_pem.bytes())
    told = {
        "port": ports[0], "other": ports[1], "store": redis.url, "pem": pem,
        "rate": RATE, "burst": BURST,
    }  # fmt: skip
    one, other = (
        Machine(name, address, folder, **told)
        for name, address in zip(names, ADDRESSES, strict=True)
    )
    try:
        until(lambda: one.metrics().get("rawproxy_store_machines") == 2, one.program.err())
        found["metrics"] = one.metrics()
        found["resumed"] = resumed()
        found["cookie"] = sticky()
        cookie = visit(ADDRESSES[0], None)[2]
        found["limited"] = limited("a")

        def redis_dies(_: Load) -> None:
            time.sleep(2)
            redis.kill()
            until(lambda: one.metrics()["rawproxy_store_up"] == 0, "it has not noticed")
            redis.start()
            until(lambda: one.metrics()["rawproxy_store_up"] == 1, "it has not come back")
            until(lambda: other.metrics()["rawproxy_store_up"] == 1, "it has not come back")

        found["redis killed"] = limited("b", 12, redis_dies)
        found["resumed afterwards"] = resumed()
        found["cookie afterwards"] = [visit(one, None, cookie)[2] for one in ADDRESSES]
        said = one.program.err()
        found["said away"] = said.count(" is away: ")
        found["said back"] = len(re.findall(r"INFO the store \S+ is back", said))

        def redis_hangs(load: Load) -> None:
            time.sleep(1)
            redis.freeze()
            before, began = load.answered(), time.monotonic()
            until(lambda: one.metrics()["rawproxy_store_up"] == 0, "it has not noticed")
            time.sleep(1)
            found["answered while it hung"] = load.answered() - before
            found["hung for"] = time.monotonic() - began
            redis.thaw()
            until(lambda: one.metrics()["rawproxy_store_up"] == 1, "it has not come back")

        found["redis frozen"] = limited("c", 8, redis_hangs)
        load = Load("/free", "x", 8, 0.005)
        time.sleep(0.5)
        one.keeper().send_signal(signal.SIGKILL)
        one.program.says(r"store \(\d+\): it was killed by SIGKILL")
        assert "rawproxy_store_up" not in one.metrics(), "who is gone says nothing"
        found["keeper back after"] = round(
            until(lambda: one.metrics().get("rawproxy_store_up") == 1, "no keeper"), 2
        )
        time.sleep(0.5)
        found["keeper killed"] = load.stop()

        load = Load("/free", "x", 8, 0.005)
        time.sleep(0.5)
        other.master().send_signal(signal.SIGKILL)
        time.sleep(1.0)
        other.program.stop()
        other.start()
        time.sleep(0.5)
        found["machine killed"] = load.stop()
        found["resumed at the end"] = resumed()
        found["limited at the end"] = limited("d", 6)
    finally:
        codes = [machine.program.stop() for machine in (one, other)]
        found["exit codes"] = codes
        found["err"] = [machine.program.err() for machine in (one, other)]
    return found


def resumed(clients: int = 20) -> int:
    """Of so many clients of one machine, those who resume their session at the other one."""
    count = 0
    for at in range(clients):
        session, _, _ = visit(ADDRESSES[at % 2], None)
        count += visit(ADDRESSES[(at + 1) % 2], session)[1]
    return count


def sticky(clients: int = 8) -> list[str]:
    """Cookies that one machine has set and the other one would set anew; there should be none."""
    again = []
    for at in range(clients):
        _, _, cookie = visit(ADDRESSES[at % 2], None)
        assert cookie
        again.append(visit(ADDRESSES[(at + 1) % 2], None, cookie)[2])
    return [one for one in again if one]


def main() -> None:
    folder, *names = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer(pathlib.Path(folder), host=HOME))
        ports = tuple(stack.enter_context(upstream(host=HOME)) for _ in range(2))
        found = run(pathlib.Path(folder), names, redis, ports)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
