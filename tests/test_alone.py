"""What `make test` does with tests that fail beside others."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TESTS = """
import os, pytest
def test_good(): pass
def test_disturbed(): assert "PYTEST_XDIST_WORKER" not in os.environ
@pytest.mark.parametrize("number", range({wrong}))
def test_wrong(number): assert number < 0
"""


def run(folder: pathlib.Path, wrong: int) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(TESTS.format(wrong=wrong))
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.alone as one; "
    script += "sys.exit(one.main(['--numprocesses', '2', '--rootdir', '.', 'test_some.py']))"
    command = [sys.executable, "-c", script]
    told = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=folder, env=told, capture_output=True, text=True, check=False
    )


def test_one_that_passes_alone_is_named_and_the_run_passes(tmp_path):
    done = run(tmp_path, 0)
    assert done.returncode == 0, done.stdout
    names = done.stdout.partition("passed alone; somebody has to look at why:")[2]
    assert "test_some.py::test_disturbed" in names and "test_good" not in names


@pytest.mark.parametrize(("wrong", "again"), [(1, True), (6, False)])
def test_one_that_is_wrong_fails_the_run(tmp_path, wrong, again):
    done = run(tmp_path, wrong)
    assert done.returncode == 1, done.stdout
    assert ("beside the others; alone:" in done.stdout) == again
    assert "passed alone" not in done.stdout
