"""Turns of clients, and who has to go where there is no room."""

from rawproxy.balancing.fair_queue import FairQueue


def queue(limit: int, *tickets: str) -> "FairQueue[str]":
    """Each ticket is its client's letter and a number."""
    made: FairQueue[str] = FairQueue(limit)
    for ticket in tickets:
        assert made.put(ticket, ticket[:1].encode()) is None
    return made


def taken(made: "FairQueue[str]") -> str:
    said = []
    while (ticket := made.take()) is not None:
        said.append(ticket)
    return " ".join(said)


def test_clients_take_turns():
    assert taken(queue(9, "a1", "a2", "a3", "b1", "c1", "c2")) == "a1 b1 c1 a2 c2 a3"


def test_one_client_is_served_as_it_came():
    assert taken(queue(9, "a1", "a2", "a3")) == "a1 a2 a3"


def test_who_comes_back_stands_behind_the_others():
    made = queue(9, "a1", "a2", "b1")
    assert made.take() == "a1"
    made.put("c1", b"c")
    assert taken(made) == "b1 a2 c1"


def test_a_flood_gives_way_to_who_has_less():
    made = queue(3, "a1", "a2", "a3")
    assert made.put("a4", b"a") == "a4"
    assert made.put("b1", b"b") == "a3"
    assert made.put("b2", b"b") == "b2"  # both would have as many: nobody is moved for that
    assert made.put("c1", b"c") == "a2"
    assert made.put("d1", b"d") == "d1"  # all have one
    assert len(made) == 3 and list(made) == ["a1", "b1", "c1"]


def test_who_gives_up():
    made = queue(9, "a1", "a2", "b1")
    assert "b1" in made and made.remove("b1") and "b1" not in made
    assert not made.remove("b1")
    assert made.remove("a1")
    assert taken(made) == "a2"
    assert made.take() is None


def test_no_room_at_all():
    assert queue(0).put("a1", b"a") == "a1"
