"""Two whole proxies and one Redis: one order, whoever is killed meanwhile, and no request fails."""

import http.client
import pathlib
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("acme")

from rawproxy.acme.archive import write
from tests.outposts.server import Recorder
from tests.process import PATIENCE, RawProxy
from tests.production.authority import Pebble, needs_pebble
from tests.production.stage import until
from tests.stores import NEEDS_REDIS, RedisServer, known

pytestmark = [needs_pebble, NEEDS_REDIS]
NAME = "one.test"


class Machine:
    """One of them, at an address of its own where the authority may look."""

    def __init__(self, address: str, state: pathlib.Path, *options: str) -> None:
        self.address, self.state, self.options = address, state, options
        self.proxy: RawProxy | None = None

    def start(self, pebble: Pebble) -> None:
        self.proxy = RawProxy(
            "--https", f"{self.address}:{pebble.tls}", "--state", str(self.state), *self.options,
            https=False, http=f"{self.address}:{pebble.http}",
        )  # fmt: skip

    def kill(self) -> None:
        """All of it at once."""
        for process in self.proxy.family():
            process.kill()
        self.proxy.process.wait()
        self.proxy.stop()

    def ordered(self) -> int:
        return self.proxy.err().count(f"{NAME}: ordering a certificate")

    def renew(self) -> None:
        """As `rawproxy certificates renew` does."""
        write(str(self.state / "acme" / "wanted" / NAME), b"renew\n")

    def serial(self, pebble: Pebble, trust: ssl.SSLContext) -> str:
        """Of the certificate that a client sees; empty: it is not the authority's."""
        try:
            with (
                socket.create_connection((self.address, pebble.tls), PATIENCE) as sock,
                trust.wrap_socket(sock, server_hostname=NAME) as tls,
            ):
                return tls.getpeercert()["serialNumber"]
        except ssl.SSLCertVerificationError:
            return ""


class Visitors:
    """Clients that go to the other machine where nobody takes their connection."""

    def __init__(self, port: int, addresses: list[str]) -> None:
        self.port, self.addresses = port, addresses
        self.answered, self.failed = 0, []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._visit, args=(at,), daemon=True) for at in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def _visit(self, at: int) -> None:
        while not self._over.wait(0.02):
            at += 1
            why = ""
            for turn in range(2):
                address = self.addresses[(at + turn) % 2]
                connection = http.client.HTTPConnection(address, self.port, timeout=PATIENCE)
                try:
                    connection.request("GET", "/x", headers={"Host": NAME})
                    why = f"{connection.getresponse().status}"
                except (OSError, http.client.HTTPException) as error:
                    why = repr(error)
                finally:
                    connection.close()
                if why == "200":
                    self.answered += 1
                    break
            else:
                self.failed.append(why)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def both(machines: list[Machine], pebble: Pebble, trust: ssl.SSLContext, old: str) -> str:
    """Wait until both serve the same certificate, and another one than before; its serial."""

    def seen() -> list[str]:
        return [one.serial(pebble, trust) for one in machines]

    until(lambda: len(set(seen())) == 1 and seen()[0] not in ("", old),
          f"{[one.proxy.err()[-1500:] for one in machines]}")  # fmt: skip
    return seen()[0]


def test_one_order_whoever_is_killed(tmp_path):
    with (
        Recorder() as upstream,
        RedisServer(tmp_path) as redis,
        Pebble(PEBBLE_VA_ALWAYS_VALID="") as pebble,
    ):
        (tmp_path / "secret").write_text("a secret of more than thirty-two bytes\n")
        (tmp_path / "f.toml").write_text('[certificates]\nstore-key = "secret"\n')
        options = [
            "--upstream", f"http://127.0.0.1:{upstream.port}", "--no-redirect",
            "--server-name", NAME, "--acme", "me@a.test", *pebble.options(),
            "--store", known(redis.url), "--config", str(tmp_path / "f.toml"),
        ]  # fmt: skip
        trust = ssl.create_default_context(cadata=pebble.issuer())
        machines = [Machine(f"127.0.0.{at}", tmp_path / f"state{at}", *options) for at in (1, 2)]
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda one: one.start(pebble), machines))
            until(lambda: any(one.ordered() for one in machines), "nobody orders")
            orderer = next(one for one in machines if one.ordered())
            other = next(one for one in machines if one is not orderer)
            # The authority looks at the machine that has not ordered.
            pebble.tell("add-a", {"host": NAME, "addresses": [other.address]})
            first = both(machines, pebble, trust, "")
            assert pebble.orders() == 1
            visitors = Visitors(pebble.http, [one.address for one in machines])

            # It is killed while it orders, and the other one goes on.
            orderer.renew()
            until(lambda: pebble.orders() == 2, "nothing is ordered")
            time.sleep(0.5)  # it is noted; other machines get two seconds to have the answer
            orderer.kill()
            other.proxy.says(f"{NAME}: the order that was under way goes on")
            orderer.start(pebble)
            second = both(machines, pebble, trust, first)
            assert pebble.orders() == 2

            # And Redis, which comes back empty.
            other.renew()
            until(lambda: pebble.orders() == 3, "nothing is ordered")
            redis.kill()
            other.proxy.says(r"certificates: the store \S+ is away")
            redis.start()
            both(machines, pebble, trust, second)
            assert pebble.orders() == 3
            visitors.stop()
            assert visitors.failed == [] and visitors.answered > 100
            assert b"PRIVATE" not in dump(redis), "what is there is sealed"
        finally:
            for one in machines:
                if one.proxy is not None and one.proxy.said is None:
                    one.proxy.stop()
        for one in machines:
            assert "internal error" not in one.proxy.err(), one.proxy.err()


def dump(redis: RedisServer) -> bytes:
    """All values of certificates that it has."""
    from redis import Redis

    with Redis(port=redis.port) as client:
        found = [client.get(key) for key in client.keys("rawproxy:value:acme/*")]
    assert len(found) >= 4
    return b"".join(found)
