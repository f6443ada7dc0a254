"""The pool as a state machine: whatever happens in whatever order, its sums are right."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rawproxy.pool import DIAL, FULL, Pool


class Connection:
    idle_since = 0.0


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
        self.waiting: list[int] = []
        self.idle: list[Connection] = []
        self.tickets = 0

    @rule(fresh=st.booleans())
    def checkout(self, fresh):
        got = self.pool.fresh() if fresh else self.pool.checkout()
        if got is DIAL:
            assert fresh or not self.idle
            self.dialling += 1
        elif got is FULL:
            assert len(self.busy) + self.dialling + len(self.idle) == self.pool.limit
            if not self.idle:  # whoever wants a fresh one does not wait beside idle ones
                self.wait()
        else:
            assert got is self.idle.pop()  # last in, first out
            self.busy.append(got)

    def wait(self):
        self.tickets += 1
        if self.pool.wait(self.tickets):
            self.waiting.append(self.tickets)
        else:
            assert len(self.waiting) >= self.pool.queue

    def passed_on(self, ticket):
        """Who waits longest is next."""
        assert ticket == (self.waiting.pop(0) if self.waiting else None)
        return ticket is not None

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
        connection = self.busy.pop(data.draw(st.integers(0, len(self.busy) - 1)))
        if not reusable:
            if self.passed_on(self.pool.discard()):
                self.dialling += 1
        elif self.passed_on(self.pool.release(connection, self.now)):
            self.busy.append(connection)
        else:
            self.idle.append(connection)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data):
        ticket = data.draw(st.sampled_from(self.waiting))
        assert self.pool.forget(ticket)
        assert not self.pool.forget(ticket)
        self.waiting.remove(ticket)

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
        assert list(pool.waiting) == self.waiting
        assert pool.busy + len(pool.idle) <= pool.limit
        assert not (pool.idle and pool.waiting)
        assert [one.idle_since for one in pool.idle] == sorted(one.idle_since for one in pool.idle)
        assert pool.pressed() == (2 * pool.busy > pool.limit)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=60, stateful_step_count=40, derandomize=True, deadline=None
)
