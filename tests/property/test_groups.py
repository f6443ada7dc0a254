"""Policies and health, whatever comes: every candidate once; every state has a way back."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rawproxy.balancing.health import DOWN, DUE, EJECTED, TRIAL, UP, Health
from rawproxy.balancing.policies import POLICIES, Table, choose, smooth, units
from rawproxy.config.model import Active, Passive, Upstream, single
from rawproxy.errors import ignore
from rawproxy.telemetry.counters import Tally
from rawproxy.upstream.dialling import SharedUpstream
from rawproxy.upstream.endpoint import Clock, Endpoint, EndpointContext

CONFIG = single((Upstream("unix:/u", tls=False, host="", port=0, path="/u"),), max_upstream=8)
(GROUP,) = CONFIG.groups
CONTEXT = EndpointContext(CONFIG, GROUP, Clock(), ignore, ignore, ignore, None)


def member(name: bytes, weight: int, share: float, busy: int) -> Endpoint:
    """One server, of which so many of its eight connections are busy."""
    one = Endpoint(CONTEXT, SharedUpstream(GROUP.upstreams[0], Tally(), None, None))
    one.name = name
    one.weight = weight
    one.share = weight * share
    one.pool.busy = busy
    return one


people = st.builds(
    member,
    st.binary(max_size=8),
    st.integers(1, 256),
    st.floats(0.05, 1.0),
    st.integers(0, 8),
)


@given(
    st.sampled_from(sorted(POLICIES)),
    st.lists(people, min_size=1, max_size=9),
    st.lists(people, max_size=3),
    st.lists(st.binary(max_size=6), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_an_order_names_everybody_once_and_spare_ones_last(policy, members, spare, keys, chance):
    table = Table(members, spare, draw=chance.random)
    for key in keys:
        order = choose(table, POLICIES[policy], key)
        assert len(order) == len(members) + len(spare)
        assert set(order[: len(members)]) == set(members)
        assert order[len(members) :] == spare
        rooms = [member.pool.busy < 8 for member in order[: len(members)]]
        assert rooms[0] or not any(rooms)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_a_schedule_gives_each_its_weight_and_is_smooth(weights):
    turns = smooth(weights)
    total = sum(weights)
    assert [list(turns).count(n) for n in range(len(weights))] == weights
    for index, weight in enumerate(weights):
        seen = 0
        for turn, chosen in enumerate(turns, 1):
            seen += chosen == index
            # Never ahead or behind by more than one round of the others.
            assert abs(seen - weight * turn / total) <= len(weights)


@given(st.lists(st.floats(0.01, 256.0), min_size=1, max_size=20))
def test_units_keep_proportions(shares):
    whole = units(shares)
    assert all(number >= 1 for number in whole)
    for share, number in zip(shares, whole, strict=True):
        for other, count in zip(shares, whole, strict=True):
            if share > 2 * other and max(shares) < 100 * min(shares):
                assert number > count


class HealthMachine(RuleBasedStateMachine):
    """Any order of events: the shares follow the state, and time always leads back."""

    @initialize(
        fails=st.integers(0, 4), active=st.booleans(), slow_start=st.sampled_from([0.0, 5.0])
    )
    def begin(self, fails, active, slow_start):
        self.now = 1000.0
        self.active = Active(rise=2, fall=2) if active else None
        self.passive = Passive(max_fails=fails, window=5.0, back_off=1.0, back_off_max=8.0)
        self.health = Health(self.passive, self.active, slow_start)
        self.before = UP

    def on_response_head(self, changed: bool, allowed: set) -> None:
        after = self.health.state
        assert changed == (after is not self.before)
        assert not changed or (self.before, after) in allowed
        self.before = after

    @rule(seconds=st.floats(0.0, 20.0))
    def time_passes(self, seconds):
        self.now += seconds
        self.on_response_head(self.health.tick(self.now), {(EJECTED, DUE), (TRIAL, DUE)})

    @rule()
    def fails(self):
        changed = self.health.failed(self.now)
        assert self.passive.max_fails or not changed
        self.on_response_head(changed, {(UP, EJECTED), (DUE, EJECTED), (TRIAL, EJECTED)})

    @rule()
    def succeeds(self):
        self.on_response_head(self.health.succeeded(self.now), {(DUE, UP), (TRIAL, UP)})

    @rule()
    def answers_badly(self):
        self.on_response_head(self.health.alive(self.now), {(DUE, UP), (TRIAL, UP)})

    @rule(good=st.booleans())
    def probe(self, good):
        if self.active is None:
            return
        allowed = {(DOWN, UP)} if good else {(s, DOWN) for s in (UP, EJECTED, DUE, TRIAL)}
        self.on_response_head(self.health.probed(good, self.now), allowed)

    @rule()
    def trial(self):
        if self.health.state is DUE:
            self.health.begin_trial(self.now)
            self.before = TRIAL

    @invariant()
    def shares_follow_the_state(self):
        if not hasattr(self, "health"):
            return
        share = self.health.share(self.now)
        assert (share > 0) == (self.health.state is UP)
        assert share <= 1
        assert len(self.health.fails) <= max(self.passive.max_fails, 1)

    def teardown(self):
        if not hasattr(self, "health") or self.health.state is DOWN:
            return
        # Nothing but time and one success, and it is in again.
        self.health.tick(self.now + 100)
        self.health.succeeded(self.now + 100)
        assert self.health.state is UP


TestHealth = HealthMachine.TestCase
