"""What is read of a run's output, and what the page says of it."""

import json
import pathlib

import pytest

from tests import wheel
from tests.pythons import matrix, table
from tests.pythons.places import Here, Place

PLAIN = """
SKIPPED [3] tests/peers/test_nginx.py: needs the Debian package nginx
SKIPPED [1] tests/unit/test_cost.py:378: that engine is the one of this run
FAILED tests/wire/test_tls.py::test_one - AssertionError: 1
ERROR tests/wire/test_tls.py::test_two - OSError
1 failed, 2,000 passed
2 failed, 2994 passed, 4 skipped, 1 error in 66.67s (0:01:06)
"""


class Told(Place):
    """A place that prints what it is told to."""

    def __init__(self, folder, **outputs):
        super().__init__("nowhere", "python3")
        self.project = folder
        self.outputs = outputs
        self.scripts = []

    def run(self, script):
        self.scripts.append(script)
        return next(answer for word, answer in self.outputs.items() if word in script)


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (PLAIN, (2994, 4, 3)),
        ("==== 5 passed in 0.10s ====\n", (5, 0, 0)),
        ("1 passed, 1 warning in 0.10s\n", (1, 0, 0)),
        ("3 failed in 1.00s\n", (0, 0, 3)),
        ("Killed\n", None),
    ],
)
def test_counts_are_those_of_the_closing_line(output, found):
    assert matrix.counts(output) == (dict(zip(matrix.KINDS, found, strict=True)) if found else {})


def test_a_run_notes_each_step_and_what_failed(tmp_path):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "rawproxy-1-cp312-cp312-manylinux_2_17_x86_64.whl").touch()
    good = "10 passed in 1s\n".replace("1s", "1.0s")
    checked = "── compiled\nok   demo over https: 200\n── plain\nBAD  demo over https: 502\n"
    place = Told(
        tmp_path,
        facts=(0, "facts 3.12.1 3.0.16 2.36\n"),
        setup=(0, ""),
        pytest=(1, PLAIN),
        check=(1, checked),
        wheel=(0, ""),
        fast=(0, good),
    )
    heard = []
    result = matrix.test(place, "tests/unit", lambda one: heard.append(dict(one.demo)))
    assert (result.python, result.openssl, result.glibc) == ("3.12.1", "3.0.16", "2.36")
    assert result.plain == {"passed": 2994, "skipped": 4, "failed": 3}
    assert result.compiled == {"passed": 10, "skipped": 0, "failed": 0}
    assert result.demo == {"plain": False, "compiled": True}
    assert result.failures == [
        "plain: tests/wire/test_tls.py::test_one - AssertionError: 1",
        "plain: tests/wire/test_tls.py::test_two - OSError",
        "wheel: demo over https: 502",
    ]
    assert len(heard) == 3 and not result.good()
    assert place.scripts[3].endswith("-q tests/wire/test_tls.py")  # and it failed again
    assert "FAST_TESTS='tests/unit'" in place.scripts[5]
    text = table.page([result])
    assert "| 3.12.1 | nowhere | 3.0.16 | 2,994 / 4 / 3 | 10 / 0 / 0 | no, yes |" in text
    assert "manylinux_2_17" in text and "Not had, or not run yet: 3.11, 3.13" in text
    assert "* needs the Debian package nginx\n" in text


def test_what_passes_by_itself_has_passed_and_is_named():
    first = "FAILED tests/wire/test_a.py::test_slow - AssertionError\n"
    first += "FAILED tests/wire/test_b.py::test_wrong - AssertionError\n"
    first += "2 failed, 5 passed in 1.0s\n"
    second = (
        "FAILED tests/wire/test_b.py::test_wrong - AssertionError\n1 failed, 4 passed in 1.0s\n"
    )

    class Twice(Told):
        def run(self, script):
            self.scripts.append(script)
            return 1, first if len(self.scripts) == 1 else second

    place, result = Twice(pathlib.Path()), matrix.Result("here", "3.12.1", selection="tests/wire")
    matrix.tested(place, result, "compiled")
    assert place.scripts[1].endswith("FAST_TESTS='tests/wire/test_a.py tests/wire/test_b.py'")
    assert result.compiled == {"passed": 6, "skipped": 0, "failed": 1}
    assert result.again == ["compiled: tests/wire/test_a.py::test_slow"]
    assert [matrix.name_of(line) for line in result.failures] == [
        "compiled: tests/wire/test_b.py::test_wrong"
    ]
    assert "passed only when its file ran by itself" in table.page([result])


def test_what_was_asked_again_alone_is_no_run_of_its_own():
    output = (
        "FAILED tests/wire/test_a.py::test_slow - AssertionError\n"
        "FAILED tests/wire/test_b.py::test_wrong - AssertionError\n"
        "2 failed, 5 passed, 3 skipped in 1.0s\n\n"
        "2 failed beside the others; alone:\n\n"
        "FAILED tests/wire/test_b.py::test_wrong - AssertionError\n"
        "1 failed, 1 passed, 5 deselected in 1.0s\n"
    )
    place = Told(pathlib.Path(), fast=(1, output))
    result = matrix.Result("here", "3.12.1", selection="tests/wire")
    matrix.tested(place, result, "compiled")
    assert place.scripts[1:] == [matrix.compiled_tests(place, "tests/wire/test_b.py")]
    assert result.compiled == {"passed": 6, "skipped": 3, "failed": 1}
    assert result.again == ["compiled: tests/wire/test_a.py::test_slow"]
    assert result.failures == ["compiled: tests/wire/test_b.py::test_wrong - AssertionError"]


def test_too_many_failures_are_no_accident():
    lines = "".join(f"FAILED tests/wire/test_{n}.py::t - x\n" for n in range(matrix.AGAIN + 1))
    place = Told(pathlib.Path(), pytest=(1, f"{lines}9 failed, 1 passed in 1.0s\n"))
    result = matrix.Result("here", "3.12.1", selection="tests/wire")
    matrix.tested(place, result, "plain")
    assert len(place.scripts) == 1 and len(result.failures) == matrix.AGAIN + 1


def test_what_cannot_be_built_is_told_and_ends_nothing(tmp_path):
    place = Told(
        tmp_path,
        facts=(0, "facts 3.12.1 3.0.16 \n"),
        setup=(2, ""),
        check=(2, "make: error\n"),
        wheel=(2, ""),
    )
    result = matrix.test(place, "tests/unit", lambda _: None)
    assert result.failures == ["plain: cannot be installed", "compiled: cannot be built"]
    assert not result.good() and "| \u2013 | \u2013 | no, no |" in table.page([result])


def test_a_later_run_takes_the_place_of_an_earlier_one():
    old = matrix.Result("here", "3.12.1")
    other = matrix.Result("there", "3.12.1")
    new = matrix.Result("here", "3.12.4")
    assert table.merged([old, other], new) == [other, new]


def test_make_is_told_of_a_python_of_this_machine_alone(tmp_path):
    assert matrix.make(Here(pathlib.Path("/opt/python3.12"), "3.12.1"), "wheel").endswith(
        " PYTHON=/opt/python3.12"
    )
    assert "PYTHON" not in matrix.make(Told(tmp_path), "wheel")


def test_the_page_says_what_the_results_say():
    if not table.RESULTS.exists():
        pytest.skip("make test-pythons has not been run")
    assert table.page(table.read()) == table.PAGE.read_text()
    assert json.loads(table.RESULTS.read_text())


def test_the_wheel_is_asked_for_every_module_that_is_compiled():
    names = wheel.hot_modules((wheel.ROOT / "setup.py").read_text())
    assert "rawproxy.proxy.exchange" in names and "rawproxy.protocol.regex" in names
    files = {name: wheel.ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names}
    assert not [name for name, path in files.items() if not path.exists()]


def test_a_wheel_that_is_not_there_says_what_to_type(tmp_path):
    with pytest.raises(wheel.WheelError, match="type make wheel"):
        wheel.found(tmp_path, "*.whl")
