"""The pool as a state machine: whatever happens in whatever order, its sums are right."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rawproxy.balancing.pool import DIAL, FULL, Pool
from rawproxy.balancing.pool import Poolable as Connection


class PoolMachine(RuleBasedStateMachine):
    """`busy` and `waiting` are what a user of the pool knows to be true."""

    @initialize(
        limit=st.integers(1, 4), keepalive=st.integers(0, 4), queue=st.integers(0, 3),
        idle=st.sampled_from([5.0, 60.0]),
    )  # fmt: skip
    def begin(self, limit, keepalive, queue, idle):
        self.pool: Pool[Connection, int] = Pool(limit, keepalive, idle, queue)
        self.now = 0.0
        self.busy: list[Connection] = []
        self.dialling = 0
        self.waiting: dict[bytes, list[int]] = {}  # by client, in the order of turns
        self.idle: list[Connection] = []
        self.tickets = 0
        self.apart: list[Connection] = []
        self.stalled: list[Connection] = []  # of the busy ones, the longest first
        self.lent: list[Connection] = []

    @rule(fresh=st.booleans(), client=st.sampled_from([b"a", b"b", b"c"]))
    def checkout(self, fresh, client):
        got = self.pool.fresh() if fresh else self.pool.checkout()
        if got is DIAL:
            assert fresh or not self.idle
            if len(self.busy) + self.dialling + len(self.idle) == self.pool.limit:
                self.lend()
            self.dialling += 1
        elif got is FULL:
            assert not self.stalled or len(self.lent) == self.pool.limit
            assert len(self.busy) + self.dialling + len(self.idle) == self.pool.limit
            if not self.idle:  # whoever wants a fresh one does not wait beside idle ones
                self.wait(client)
        else:
            assert got is self.idle.pop()  # last in, first out
            self.busy.append(got)

    def lend(self):
        lender = self.stalled.pop(0)
        assert lender.lent
        self.busy.remove(lender)
        self.lent.append(lender)

    def leave(self, data):
        """One that was busy is so no longer."""
        connection = self.busy.pop(data.draw(st.integers(0, len(self.busy) - 1)))
        if connection in self.stalled:
            self.stalled.remove(connection)
        return connection

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def stall(self, data):
        connection = data.draw(st.sampled_from(self.busy))
        ticket = self.pool.stall(connection)
        if connection not in self.stalled:
            self.stalled.append(connection)
        if len(self.lent) < self.pool.limit and self.passed_on(ticket):
            assert self.stalled == [connection]  # or it had not waited
            self.lend()
            self.dialling += 1
        else:
            assert ticket is None

    @precondition(lambda self: self.stalled)
    @rule(data=st.data())
    def flow(self, data):
        connection = data.draw(st.sampled_from(self.stalled))
        self.pool.flow(connection)
        self.stalled.remove(connection)

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), tunnel=st.booleans())
    def repay(self, data, tunnel):
        connection = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        ticket = self.pool.part(connection) if tunnel else self.pool.repay(connection)
        assert not connection.lent
        if tunnel:
            self.apart.append(connection)
        if self.stalled and self.passed_on(ticket):
            self.lend()
            self.dialling += 1
        else:
            assert ticket is None

    def wait(self, client):
        self.tickets += 1
        full = len(self.pool.waiting) >= self.pool.waiting.limit
        gone = self.pool.wait(self.tickets, client)
        assert full == (gone is not None)
        if gone is not None and gone != self.tickets:  # the newest of who had more than anybody
            lines = self.waiting.values()
            line = next(line for line in lines if line[-1] == gone)
            assert len(line) == max(map(len, lines)) > len(self.waiting.get(client, ())) + 1
            line.pop()
        if gone != self.tickets:
            self.waiting.setdefault(client, []).append(self.tickets)

    def passed_on(self, ticket):
        """Whose turn it is: clients in turn, the tickets of each as they came."""
        client = next(iter(self.waiting), None)
        if client is None:
            assert ticket is None
            return False
        line = self.waiting.pop(client)
        assert ticket == line.pop(0)
        if line:
            self.waiting[client] = line
        return True

    @precondition(lambda self: self.dialling)
    @rule(succeeds=st.booleans())
    def dialled(self, succeeds):
        self.dialling -= 1
        if succeeds:
            self.busy.append(Connection())
        elif self.passed_on(self.pool.discard()):
            self.dialling += 1

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), reusable=st.booleans())
    def end(self, data, reusable):
        connection = self.leave(data)
        self.pool.flow(connection)
        if not reusable:
            if self.passed_on(self.pool.discard()):
                self.dialling += 1
        elif self.passed_on(self.pool.release(connection, self.now)):
            self.busy.append(connection)
        else:
            self.idle.append(connection)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def part(self, data):
        self.apart.append(self.leave(data))
        if self.passed_on(self.pool.part(self.apart[-1])):
            self.dialling += 1

    @precondition(lambda self: self.apart)
    @rule()
    def rejoin(self):
        self.apart.pop()
        self.pool.rejoin()

    @rule()
    def adopt(self):
        connection = Connection()
        free = len(self.busy) + self.dialling + len(self.idle) < self.pool.limit
        adopted = self.pool.adopt(connection, self.now)
        assert adopted == (free and not self.waiting)
        if adopted:
            self.idle.append(connection)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data):
        client = data.draw(st.sampled_from(list(self.waiting)))
        ticket = data.draw(st.sampled_from(self.waiting[client]))
        assert self.pool.forget(ticket)
        assert not self.pool.forget(ticket)
        self.waiting[client].remove(ticket)
        if not self.waiting[client]:
            del self.waiting[client]

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def evict(self, data):
        connection = data.draw(st.sampled_from(self.idle))
        assert self.pool.evict(connection)
        assert not self.pool.evict(connection)
        self.idle.remove(connection)

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 11.0, 61.0]))
    def time_passes(self, seconds):
        self.now += seconds
        before = list(self.idle)
        gone = self.pool.expire(self.now)
        assert gone == before[: len(gone)]  # the oldest go
        self.idle = before[len(gone) :]
        assert all(one.idle_since > self.now - self.pool.idle_timeout for one in self.idle)
        assert len(self.idle) >= min(self.pool.keepalive, len(before)) or any(
            one.idle_since <= self.now - self.pool.idle_timeout for one in gone
        )

    @rule()
    def clear(self):
        assert self.pool.clear() == self.idle
        self.idle = []

    @invariant()
    def sums(self):
        pool = self.pool
        assert pool.busy == len(self.busy) + self.dialling
        assert pool.idle == self.idle
        assert sorted(pool.waiting) == sorted(one for line in self.waiting.values() for one in line)
        assert len(pool.waiting) == sum(map(len, self.waiting.values())) <= pool.waiting.limit
        assert pool.apart == len(self.apart)
        assert pool.busy + len(pool.idle) <= pool.limit
        assert not (pool.idle and pool.waiting.size)
        assert list(pool.stalled) == self.stalled
        assert pool.lent == len(self.lent) <= pool.limit
        assert not (pool.waiting.size and pool.stalled and pool.lent < pool.limit)
        assert [one.idle_since for one in pool.idle] == sorted(one.idle_since for one in pool.idle)
        assert pool.pressed() == (2 * (pool.busy + pool.lent) > pool.limit)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=60, stateful_step_count=40, derandomize=True, deadline=None
)
