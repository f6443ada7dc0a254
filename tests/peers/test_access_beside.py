"""Guards behind rawproxy, nginx and Caddy: what is written of them is what they do."""

import pytest

from tests.outposts.beside import CASES, verdicts
from tests.outposts.fronts import NAMES, versions
from tests.outposts.page import PAGE, RESULTS, TABLE, known, quoted, render
from tests.pointers import dangling

AGAIN = "run `make guards`, or call `write(known())` of tests.outposts.page"
BESIDE = known()["beside"]


@pytest.mark.parametrize("name", NAMES)
def test_each_does_what_was_recorded(name):
    there = versions().get(name)
    if there != known()["versions"][name]:
        pytest.skip(f"needs {name} {known()['versions'][name]}, found {there or 'none'}")
    assert verdicts(name) == BESIDE[name]


def test_where_it_is_done_otherwise_there_is_a_reason_and_where_not_there_is_a_test():
    for one in CASES:
        words = {BESIDE[name][one.title] for name in NAMES}
        assert len(words) == 1 or one.why, f"{one.title}: {words}"
        assert not dangling(one.test), one.test
        assert "test_" in one.test


def test_nobody_is_served_as_another_one_behind_rawproxy():
    words = BESIDE["rawproxy"].values()
    assert not [one for one in words if "root" in one]
    assert [one for one in BESIDE["Caddy"].values() if "root" in one], "or the cases show nothing"


def test_the_pages_are_those_of_the_results():
    assert RESULTS.exists()
    assert TABLE.read_text() == render(known()), AGAIN
    text = PAGE.read_text()
    assert quoted(text, known()) == text, AGAIN
    assert text.count(":begin -->") == 3, "the third is the bench's"
