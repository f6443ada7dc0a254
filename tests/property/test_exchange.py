"""Exchanges as a state machine: several of them, one upstream, everything in any order.

However their events interleave, each exchange ends exactly once, holds nothing afterwards, and is
sent again only as the rule of retries allows (RFC 9110 9.2.2).
"""

import asyncio
import logging
import re
import socket

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rawproxy.config.model import Deadlines, Limits, Upstream, single
from rawproxy.protocol.http1.parser import parse_request
from rawproxy.proxy.exchange import DONE, IDEMPOTENT, Exchange
from rawproxy.proxy.service import Service
from tests.fakes import DiallingLoop, FakeClient, FakeTransport

FAR = 1e6  # seconds: the machine's own clock ends no wait here
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 poison",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    b"ok",
    b"2\r\nok\r\n",
    b"0\r\n\r\n",
    b"HT",
    b"\0",
)


class Wire(FakeTransport):
    """An upstream's end, which notes whose request is written to it."""

    def __init__(self, machine: "ExchangeMachine") -> None:
        super().__init__()
        self.machine = machine
        self.told = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if match := re.match(rb"[A-Z]+ /(\d+) HTTP/1", data):
            self.machine.sent(int(match[1]), self, data)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.machine.quiet if name == "socket" else default


class ExchangeMachine(RuleBasedStateMachine):
    """`clients` and `exchanges` by number; each asks for the path of its number."""

    @initialize(
        limit=st.integers(1, 3),
        queue=st.integers(0, 2),
        replay=st.sampled_from([8, 65536]),
        warm=st.integers(0, 3),
    )
    def begin(self, limit, queue, replay, warm):
        logging.getLogger("rawproxy").disabled = True
        self.loop = DiallingLoop(self.dial)
        # What a dial's task raises, among it what `sent` finds, nobody else would hear of.
        self.raised: list[dict] = []
        self.loop.set_exception_handler(lambda loop, context: self.raised.append(context))
        # Where `poll` is asked whether anything came: nothing does.
        self.quiet, self.other = socket.socketpair()
        self.quiet.setblocking(False)
        limits = Limits(queue=queue, replay=replay)
        config = single(
            (Upstream("unix:/u", tls=False, host="", port=0, path="/u"),),
            max_upstream=limit,
            limits=limits,
            deadlines=Deadlines(connect=FAR),
        )
        self.service = Service(config, None, FAR)
        self.endpoint = self.service.endpoints[0]
        self.clients: list[FakeClient] = []
        self.exchanges: list[Exchange] = []
        self.dials: list[asyncio.Future] = []
        self.wires: list[Wire] = []
        self.carried: dict[int, list[Wire]] = {}  # the connections that a request was written to
        self.last: dict[Wire, int] = {}  # and the last request of each
        self.coming: set[int] = set()  # of whose body something is here with the head

        async def start() -> None:
            self.service.start()

        self.loop.run_until_complete(start())
        # Connections that have served already: only on those may a request be lost and retried.
        for _ in range(min(warm, limit)):
            self.ask(b"GET", b"")
        while self.dials:
            self.dialled(True)
        for wire in self.wires:
            wire.protocol.data_received(ANSWERS[0])

    async def dial(self) -> Wire:
        """An upstream takes a connection, or none, when the machine says so."""
        future = asyncio.get_running_loop().create_future()
        self.dials.append(future)
        await future
        wire = Wire(self)
        self.wires.append(wire)
        return wire

    def sent(self, number: int, wire: Wire, data: bytes) -> None:
        """A request's head is written: may it be?"""
        assert number not in self.coming or b"12345" in data, "head and body are two writes"
        before = self.carried.setdefault(number, [])
        connection = wire.protocol
        if before:
            assert len(before) == 1, "retried more than once"
            assert before[0].protocol.served > 0, "retried although the connection was fresh"
            assert connection.served == 0, "retried over a connection that was not fresh"
            assert self.exchanges[number].method in IDEMPOTENT
            assert not self.clients[number].responded
        if wire in self.last:
            previous = self.exchanges[self.last[wire]]
            assert previous.connection is None and previous.request_ended, (
                "a body was left in the pipe"
            )
        before.append(wire)
        self.last[wire] = number

    def turn(self) -> None:
        """Let tasks run, and tell connections that were closed so."""
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))
        for wire in self.wires:
            if wire.closed and not wire.told:
                wire.told = True
                wire.protocol.connection_lost(None)
        assert not self.raised, self.raised

    def open(self) -> list[Wire]:
        return [wire for wire in self.wires if not wire.closed]

    def busy(self) -> list[Wire]:
        return [wire for wire in self.open() if wire.protocol.handler is not None]

    def unfinished(self) -> list[int]:
        return [n for n, exchange in enumerate(self.exchanges) if exchange.state is not DONE]

    # There is always something to ask: time alone would be no story.
    @precondition(lambda self: len(self.unfinished()) < 12)
    @rule(
        method=st.sampled_from([b"GET", b"POST", b"PUT"]),
        framing=st.sampled_from(
            [b"", b"", b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"]
        ),
        coming=st.booleans(),
    )
    def ask(self, method, framing, coming=False):
        number = len(self.exchanges)
        head = parse_request(b"%b /%d HTTP/1.1\r\nHost: h\r\n%b\r\n" % (method, number, framing))
        client = FakeClient(self.service.route_target)
        exchange = Exchange(self.service, client, head)
        self.clients.append(client)
        self.exchanges.append(exchange)
        if framing and coming:
            self.coming.add(number)
            exchange.start(coming=True)
            exchange.on_request_body(b"12345", False, b"")
        else:
            exchange.start()
        self.turn()

    @precondition(lambda self: any(not self.exchanges[n].request_ended for n in self.unfinished()))
    @rule(data=st.data(), ended=st.booleans())
    def body(self, data, ended):
        numbers = [n for n in self.unfinished() if not self.exchanges[n].request_ended]
        exchange = self.exchanges[data.draw(st.sampled_from(numbers))]
        exchange.on_request_body(b"12345", ended, b"")
        self.turn()

    @precondition(lambda self: self.dials)
    @rule(succeeds=st.sampled_from([True, True, False]))
    def dialled(self, succeeds):
        future = self.dials.pop(0)
        if succeeds:
            future.set_result(None)
        else:
            future.set_exception(ConnectionRefusedError("nobody there"))
        self.turn()

    @precondition(lambda self: self.open())
    @rule(data=st.data(), answer=st.sampled_from(ANSWERS))
    def answer(self, data, answer):
        data.draw(st.sampled_from(self.open())).protocol.data_received(answer)
        self.turn()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def serve(self, data):
        """A whole answer to somebody: what may be used again is what most rules are about."""
        data.draw(st.sampled_from(self.busy())).protocol.data_received(ANSWERS[0])
        self.turn()

    @precondition(lambda self: self.open())
    @rule(data=st.data(), how=st.sampled_from([None, None, ConnectionResetError()]))
    def end(self, data, how):
        self.end_one(data.draw(st.sampled_from(self.open())), how)

    @precondition(lambda self: self.reused())
    @rule(data=st.data(), how=st.sampled_from([None, ConnectionResetError()]))
    def a_reused_one_ends(self, data, how):
        """Before anything of its answer came, as a rule: what is retried is retried now."""
        self.end_one(data.draw(st.sampled_from(self.reused())), how)

    def reused(self) -> list[Wire]:
        """Those that have served, and have a request again."""
        return [wire for wire in self.busy() if wire.protocol.served]

    def end_one(self, wire: Wire, how: Exception | None) -> None:
        if how is None:
            wire.protocol.eof_received()
        wire.closed = wire.told = True
        wire.protocol.connection_lost(how)
        self.turn()

    @precondition(lambda self: self.unfinished())
    @rule(data=st.data())
    def cancel(self, data):
        self.exchanges[data.draw(st.sampled_from(self.unfinished()))].cancel()
        self.turn()

    @precondition(lambda self: self.unfinished())
    @rule(data=st.data(), writable=st.booleans())
    def client_writable(self, data, writable):
        self.exchanges[data.draw(st.sampled_from(self.unfinished()))].on_client_writable(writable)

    @precondition(lambda self: self.unfinished() or self.endpoint.pool.idle)
    @rule(seconds=st.sampled_from([1.0, 6.0, 30.0, 100.0]))
    def time_passes(self, seconds):
        now = self.service.next_sweep = self.service.deadline(seconds)
        for number in self.unfinished():
            if self.exchanges[number].state is not DONE:
                self.exchanges[number].sweep(now)
        for connection in self.endpoint.pool.expire(now):
            connection.transport.close()
        self.turn()

    @invariant()
    def each_ends_once_and_then_holds_nothing(self):
        pool = self.endpoint.pool
        for exchange, client in zip(self.exchanges, self.clients, strict=True):
            done = exchange.state is DONE
            assert client.done == done, exchange
            if done:
                assert exchange.connection is None
                assert exchange not in pool.waiting
        holding = [one for one in self.exchanges if one.connection is not None]
        assert len({id(one.connection) for one in holding}) == len(holding)
        assert pool.busy + pool.lent == len(holding) + len(self.dials)
        assert pool.lent == sum(one.connection.lent for one in holding) <= pool.limit
        held = {one.connection for one in holding if not one.connection.lent}
        assert set(pool.stalled) <= held
        assert all(not one.transport.closed for one in pool.idle)
        assert pool.busy + len(pool.idle) <= pool.limit
        assert not (pool.idle and pool.waiting)
        assert not (pool.waiting and pool.stalled and pool.lent < pool.limit)

    def teardown(self):
        if not hasattr(self, "service"):
            return
        for number in self.unfinished():
            self.exchanges[number].cancel()
        self.turn()
        while self.dials:
            self.dials.pop().set_exception(ConnectionRefusedError("over"))
            self.turn()
        self.turn()
        self.each_ends_once_and_then_holds_nothing()
        assert not self.endpoint.pool.in_use() and not self.service.parked
        self.service.stop()
        self.turn()
        self.loop.close()
        self.quiet.close()
        self.other.close()
        logging.getLogger("rawproxy").disabled = False


TestExchange = ExchangeMachine.TestCase
TestExchange.settings = settings(
    max_examples=100, stateful_step_count=40, derandomize=True, deadline=None
)
