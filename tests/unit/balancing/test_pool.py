"""The pool's decisions; its reprs tell the story."""

from rawproxy.balancing.pool import DIAL, FULL, LOOK, SLOW, WINDOW, Pool
from rawproxy.balancing.pool import Poolable as Conn


def pool(limit=2, keepalive=1, idle_timeout=60.0, queue=1) -> "Pool[Conn, str]":
    return Pool(limit, keepalive, idle_timeout, queue)


def filled(count: int, **options) -> tuple["Pool[Conn, str]", list[Conn]]:
    made = pool(limit=count, **options)
    conns = [Conn() for _ in range(count)]
    for _ in conns:
        assert made.checkout() is DIAL
    for number, conn in enumerate(conns):
        assert made.release(conn, float(number)) is None
    return made, conns


def test_last_in_first_out():
    p, conns = filled(3)
    assert p.checkout() is conns[2]
    assert p.checkout() is conns[1]
    assert repr(p) == "<Pool busy=2 idle=1 waiting=0 limit=3>"


def test_at_the_limit_tickets_wait_in_a_bounded_queue():
    p = pool()
    assert p.checkout() is DIAL
    assert p.checkout() is DIAL
    assert p.checkout() is FULL
    assert p.wait("first") is None
    assert p.wait("second") == "second"
    assert repr(p) == "<Pool busy=2 idle=0 waiting=1 limit=2>"
    conn = Conn()
    assert p.release(conn, 1.0) == "first"
    assert repr(p) == "<Pool busy=2 idle=0 waiting=0 limit=2>"
    assert p.release(conn, 1.0) is None
    assert p.checkout() is conn


def test_a_connection_that_ends_makes_room_for_the_one_who_waits():
    p = pool(limit=1)
    assert p.checkout() is DIAL
    assert p.wait("ticket") is None
    assert p.discard() == "ticket"
    assert repr(p) == "<Pool busy=1 idle=0 waiting=0 limit=1>"
    assert p.discard() is None
    assert repr(p) == "<Pool busy=0 idle=0 waiting=0 limit=1>"


def test_who_gives_up_no_longer_waits():
    p = pool(limit=1)
    p.checkout()
    p.wait("ticket")
    assert p.forget("ticket")
    assert not p.forget("ticket")


def test_a_tunnel_takes_nobodys_place():
    p = pool(limit=1)
    assert p.checkout() is DIAL
    assert p.wait("ticket") is None
    assert p.part(Conn()) == "ticket"
    assert (p.busy, p.apart) == (1, 1)
    assert p.part(Conn()) is None
    assert (p.busy, p.apart) == (0, 2) and p.in_use()
    p.rejoin()
    p.rejoin()
    assert not p.in_use()


def test_a_connection_that_nobody_asked_for():
    p = pool(limit=1)
    conn, another = Conn(), Conn()
    assert p.adopt(conn, 3.0) and conn.idle_since == 3.0
    assert not p.adopt(another, 3.0)
    assert p.checkout() is conn
    p.wait("ticket")
    p.limit = 2
    assert not p.adopt(another, 3.0)  # it is for whoever waits


def stalled(count: int, **options) -> tuple["Pool[Conn, str]", list[Conn]]:
    p, conns = filled(count, **options)
    for conn in reversed(conns):
        assert p.checkout() is conn
        assert p.stall(conn) is None
    return p, conns[::-1]


def test_who_waits_for_its_client_lends_its_place():
    p, conns = stalled(2)
    assert p.checkout() is DIAL
    assert [one.lent for one in conns] == [True, False]  # the one that stalls longest
    p.flow(conns[1])
    assert p.checkout() is FULL
    assert p.wait("ticket") is None
    assert p.stall(conns[0]) is None  # it has no place left
    assert p.stall(conns[1]) == "ticket"
    assert (p.busy, p.lent) == (2, 2)
    assert p.in_use() and p.pressed()


def test_no_more_than_the_limit_are_lent():
    p, _ = stalled(2, queue=2)
    another = Conn()
    assert [p.checkout() for _ in range(2)] == [DIAL, DIAL]
    assert p.stall(another) is None
    assert p.checkout() is FULL
    p.wait("ticket")
    assert p.stall(Conn()) is None
    assert (p.busy, p.lent) == (2, 2)


def test_the_end_of_a_loan_is_the_next_one():
    p, conns = stalled(1)
    another = Conn()
    assert p.checkout() is DIAL
    assert p.stall(another) is None
    p.wait("ticket")
    assert p.repay(conns[0]) == "ticket"
    assert (p.busy, p.lent, conns[0].lent, another.lent) == (1, 1, False, True)
    assert p.repay(another) is None
    assert (p.busy, p.lent) == (1, 0)


def test_one_that_has_lent_its_place_may_become_a_tunnel():
    p, conns = stalled(1)
    assert p.checkout() is DIAL
    assert p.part(conns[0]) is None
    assert (p.busy, p.lent, p.apart) == (1, 0, 1)
    assert not conns[0].lent


def test_a_loan_is_paid_back_by_who_is_slow():
    p, _ = stalled(8)
    for _ in range(2):
        assert p.checkout() is DIAL
    everybody = "abcdefgh"
    assert slowly(p, 1.0, dict.fromkeys(everybody, 0)) == []
    assert slowly(p, 2.0, {**dict.fromkeys(everybody, SLOW), "g": 1, "h": 0}) == []  # a quarter
    assert slowly(p, 3.0, {**dict.fromkeys(everybody, SLOW), "g": 1, "h": 1}) == ["a", "b"]
    assert p.discard() is p.discard() is None
    assert slowly(p, 4.0, dict.fromkeys(everybody, SLOW)) == []


def slowly(p, now: float, moved: dict[str, int]) -> list[str]:
    for holder, so_far in moved.items():
        p.note_progress(holder, so_far)
    return p.slow_holders(now)


def test_while_others_wait_the_slowest_beyond_a_quarter_are_cut():
    p = pool(limit=8, queue=3)
    for _ in range(8):
        p.checkout()
    assert slowly(p, 1.0, {}) == []
    p.wait("one")
    p.wait("two")
    assert slowly(p, 2.0, dict.fromkeys("abcdef", 10)) == []  # nobody at the first look
    assert slowly(p, 2.0 + LOOK / 2, dict.fromkeys("abcdef", 10)) == []  # nor too soon
    fast = 10 + SLOW
    now = {"a": 10 + 50, "b": 10, "c": fast, "d": 10 + 20, "e": 10 + 30, "new": 0}
    assert slowly(p, 3.0, now) == ["b", "d"]  # a quarter of eight are two: a and e may stay
    p.wait("three")
    assert slowly(p, 4.0, dict.fromkeys("uvwxyz", 0)) == []
    assert slowly(p, 5.0, dict.fromkeys("uvwxyz", 0)) == ["u", "v", "w"]  # as many as wait


def test_nobody_is_cut_for_nobody():
    p = pool(limit=4, queue=1)
    for _ in range(4):
        p.checkout()
    p.wait("ticket")
    assert slowly(p, 1.0, dict.fromkeys("abcd", 0)) == []
    p.forget("ticket")
    assert slowly(p, 2.0, dict.fromkeys("abcd", 0)) == []
    p.wait("another")  # it has been seen who is slow
    assert slowly(p, 3.0, dict.fromkeys("abcd", 0)) == ["a"]
    p.forget("another")
    assert p.scarce()
    for _ in range(2):
        p.discard()
    assert not p.scarce()
    assert slowly(p, 4.0, {}) == slowly(p, 5.0, {}) == slowly(p, 6.0, {}) == []
    assert not p.noted_before


def test_even_a_tiny_pool_may_have_one_slow_client():
    p = pool(limit=2, queue=1)
    for _ in range(2):
        p.checkout()
    p.wait("ticket")
    assert slowly(p, 1.0, {"a": 0, "b": 0}) == []
    assert slowly(p, 2.0, {"a": 0, "b": 5}) == ["a"]


def test_fresh_passes_idle_connections_by():
    p, _ = filled(2)
    p.limit = 3
    assert p.fresh() is DIAL
    assert p.fresh() is FULL


def test_eviction():
    p, conns = filled(2)
    assert p.evict(conns[0])
    assert not p.evict(conns[0])
    assert p.idle == [conns[1]]


def test_demand_keeps_connections_and_rest_lets_them_go():
    p, conns = filled(4, keepalive=1)
    assert p.expire(4.0) == []  # all four were needed a moment ago
    assert p.expire(WINDOW) == []  # and still count in the window before
    assert p.expire(2 * WINDOW) == conns[:3]
    assert p.idle == conns[3:]


def test_demand_counts_what_is_busy_now():
    p, conns = filled(3, keepalive=0)
    assert p.checkout() is conns[2]
    p.expire(WINDOW)
    assert p.idle == conns[:2]  # three at the peak, one busy: two may be needed again
    assert p.expire(2 * WINDOW) == conns[:2]


def test_a_peak_made_of_idle_connections_counts():
    p, conns = filled(2, keepalive=0)
    p.expire(WINDOW)
    p.expire(2 * WINDOW - 1)
    p.peak = 0
    assert p.checkout() is conns[1]
    assert p.peak == 1


def test_idle_for_too_long():
    p, conns = filled(3, keepalive=3, idle_timeout=5.0)
    assert p.expire(6.0) == conns[:2]
    assert p.expire(6.5) == []
    assert p.expire(7.0) == conns[2:]


def test_clear():
    p, conns = filled(2)
    assert p.clear() == conns
    assert p.idle == []
