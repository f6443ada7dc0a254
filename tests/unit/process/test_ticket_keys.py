"""Keys of TLS tickets: how long they live, and who hears of new ones."""

from rawproxy.config.model import Upstream, single
from rawproxy.net.openssl.context_door import TICKET_KEYS
from rawproxy.process import ticket_keys
from rawproxy.process.channel import MasterChannel, encode
from rawproxy.process.master import Master
from rawproxy.process.ticket_keys import LIFE, TicketKeys


def test_they_live_for_a_day():
    keys = TicketKeys(100.0)
    first = keys.message()
    assert not keys.renewed(100.0 + LIFE - 1)
    assert keys.message() == first
    assert keys.renewed(100.0 + LIFE)
    assert keys.message() != first
    assert not keys.renewed(100.0 + LIFE + 1)
    assert keys.renewed(100.0 + 2 * LIFE)
    assert first not in repr(keys) and keys.message() not in repr(keys)


def test_they_are_of_openssls_size_and_no_two_masters_have_the_same():
    assert ticket_keys.SIZE == TICKET_KEYS
    one, other = TicketKeys(0), TicketKeys(0)
    assert len(bytes.fromhex(one.message())) == TICKET_KEYS
    assert one.message() != other.message()


class Worker:
    """What the master has of one."""

    def __init__(self, *, ready: bool) -> None:
        self.ready = ready
        self.said: list[dict] = []
        self.heard = 0.0
        self.open = False
        self.slot = 0

    def say(self, message) -> None:
        self.said.append(message)

    def tickets(self) -> list[str]:
        return [message["tickets"] for message in self.said if "tickets" in message]


def test_workers_that_are_ready_hear_of_new_ones_and_others_once_they_are():
    upstream = Upstream("http://a", tls=False, host="a", port=80)
    master = Master(single((upstream,)), {})
    ready, starting, leaving = Worker(ready=True), Worker(ready=False), Worker(ready=True)
    master.serving, master.fresh = {0: ready, 1: starting}, {}
    master.leaving.retire([leaving], master.order, {"do": "retire"})
    master._poll()
    assert not ready.tickets()
    old = master.shared.ticket_keys.message()
    master.shared.ticket_keys._born -= LIFE
    master._poll()
    new = master.shared.ticket_keys.message()
    assert new != old
    assert ready.tickets() == leaving.tickets() == [new]
    assert not starting.said, "which reads only its first message until it is ready"
    master._ready(starting, [])
    assert starting.tickets() == [new]


def test_a_worker_hands_them_on():
    control = MasterChannel()
    heard = []
    control.renew = heard.append
    control.data_received(encode({"tickets": "00ff"}) + encode({"pins": {}}))
    assert heard == [b"\x00\xff"]
