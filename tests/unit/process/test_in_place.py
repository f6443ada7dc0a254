"""A change goes through all workers or through none, whatever becomes of them."""

import pytest

from rawproxy.process.in_place import ADOPTING, NONE, PIECE, PREPARING, InPlace, pieces

from .crew import FakeChild, FakeLoop

PATCH = {"top": {}, "groups": [], "sites": [[0, 1]]}


class Crew:
    """A change under way, and what was told of it."""

    def __init__(self, workers: int = 2) -> None:
        self.loop = FakeLoop()
        self.told: list[object] = []
        self.workers = [FakeChild(slot) for slot in range(workers)]
        self.change = InPlace(
            self.loop,
            lambda: self.told.append("decided"),
            lambda seconds: self.told.append("done" if seconds >= 0 else seconds),
            self.told.append,
        )
        self.change.begin(PATCH, {"files": []}, self.workers)

    def says(self, slot: int, **message) -> None:
        self.change.hear(self.workers[slot], {"change": self.change.number, **message})

    def orders(self) -> list[list[str]]:
        return [[one["do"] for one in child.said if "do" in one] for child in self.workers]


def test_all_prepare_then_all_adopt():
    crew = Crew()
    assert crew.change.progress is PREPARING
    assert crew.workers[0].said[-1] == {
        "change": 1,
        "patch": {"top": {}, "groups": []},
        "files": [],
    }
    crew.says(0, **{"is": "prepared"})
    crew.says(0, **{"is": "adopted"})
    assert crew.orders() == [[], []] and not crew.told, "one of them is not ready yet"
    crew.says(1, **{"is": "prepared"})
    assert crew.orders() == [["adopt"], ["adopt"]] and crew.told == ["decided"]
    assert crew.change.progress is ADOPTING
    crew.says(0, **{"is": "adopted"})
    crew.says(1, **{"is": "adopted"})
    assert crew.told == ["decided", "done"] and crew.change.progress is NONE
    crew.loop.go()
    crew.says(1, **{"is": "adopted"})
    crew.change.ended(crew.workers[0], "it left")
    assert crew.told == ["decided", "done"] and not any(one.killed for one in crew.workers)


@pytest.mark.parametrize("adopting", [False, True])
def test_a_master_that_stops_is_told_nothing_more(adopting):
    crew = Crew()
    if adopting:
        crew.says(0, **{"is": "prepared"})
        crew.says(1, **{"is": "prepared"})
    crew.told.clear()
    crew.change.give_up()
    assert crew.orders() == [["adopt" if adopting else "drop"]] * 2
    for slot in (0, 1):
        crew.says(slot, **{"is": "adopted"})
        crew.change.ended(crew.workers[slot], "it has drained")
    crew.loop.go()
    assert not crew.told and crew.change.progress is NONE
    assert not any(one.killed for one in crew.workers)


def test_one_refusal_is_everybodys():
    crew = Crew()
    crew.says(0, **{"is": "prepared"})
    crew.says(1, failed=["--cert f: no"])
    assert crew.told == [["--cert f: no"]]
    assert crew.orders() == [["drop"], ["drop"]]
    crew.says(0, **{"is": "prepared"})
    assert crew.told == [["--cert f: no"]], "too late"


def test_a_worker_that_dies_before_the_decision_undoes_it():
    crew = Crew()
    crew.says(0, **{"is": "prepared"})
    crew.change.ended(crew.workers[1], "it was killed by SIGKILL")
    assert crew.told == [["worker 1 (1001) ended while it prepared it: it was killed by SIGKILL"]]
    assert crew.orders() == [["drop"], []]


def test_a_worker_that_dies_after_the_decision_does_not():
    crew = Crew()
    for slot in (0, 1):
        crew.says(slot, **{"is": "prepared"})
    crew.change.ended(crew.workers[1], "it was killed by SIGKILL")
    crew.says(0, **{"is": "adopted"})
    assert crew.told == ["decided", "done"]


def test_who_takes_too_long():
    crew = Crew()
    crew.says(0, **{"is": "prepared"})
    crew.loop.go()
    assert crew.told == [["a worker has not prepared the change within 30 s"]]
    crew = Crew()
    for slot in (0, 1):
        crew.says(slot, **{"is": "prepared"})
    crew.says(0, **{"is": "adopted"})
    crew.loop.go()
    assert [one.killed for one in crew.workers] == [False, True]


def test_a_stranger_and_an_old_change_are_not_heard():
    crew = Crew()
    crew.change.ended(FakeChild(9), "x")
    crew.change.hear(crew.workers[0], {"change": 0, "failed": ["x"]})
    assert not crew.told


def test_without_workers_it_is_decided_at_once():
    assert Crew(0).told == ["decided", "done"]


def test_dropping_what_is_not_under_way_says_nothing():
    crew = Crew()
    crew.change.drop(["stop"])
    crew.change.drop(["stop"])
    assert crew.told == [["stop"]]


@pytest.mark.parametrize("many", [0, 1, PIECE, PIECE + 1])
def test_a_patch_comes_in_pieces_that_are_read_in_a_moment(many):
    messages = pieces(3, {"top": {}, "groups": [], "sites": list(range(many))}, {"files": ["f"]})
    *parts, last = messages
    assert [one for part in parts for one in part["sites"]] == list(range(many))
    assert all(len(part["sites"]) <= PIECE for part in parts)
    assert last == {"change": 3, "patch": {"top": {}, "groups": []}, "files": ["f"]}
