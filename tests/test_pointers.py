"""What docs/threats.md names exists."""

from tests.pointers import TESTS, dangling, pointers


def test_threats_names_tests_that_exist():
    text = (TESTS.parent / "docs" / "threats.md").read_text()
    assert len(pointers(text)) > 50
    assert dangling(text) == []


def test_a_pointer_that_leads_nowhere_is_found():
    good = (
        "`test_pointers.py`, `tests/test_pointers.py::test_a_pointer_that_leads_nowhere_is_found`"
    )
    assert dangling(good) == []
    bad = good + " `wire/test_nothing.py::test_x` `test_pointers.py::test_y` `test_z.py`"
    assert dangling(bad) == [
        "wire/test_nothing.py::test_x",
        "test_pointers.py::test_y",
        "test_z.py::",
    ]
