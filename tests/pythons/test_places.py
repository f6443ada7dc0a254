"""Which Pythons are found, and what is copied for them."""

import os
import pathlib
import platform
import subprocess
import sys

from tests import debian
from tests.process import needs
from tests.pythons import places
from tests.pythons.__main__ import kind_of


def test_a_python_says_what_it_is_itself():
    version, python = places.identified(pathlib.Path(sys.executable))
    assert version == platform.python_version()
    assert python.samefile(sys.executable)


def test_what_does_not_run_is_no_python(tmp_path):
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    assert places.identified(broken)[0] == ""
    assert places.identified(tmp_path / "none")[0] == ""


def said_to_be(folder, version):
    """A program that says of itself that it is this Python."""
    program = folder / version / "bin" / f"python{version.rpartition('.')[0]}"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho {version} $0\n")
    program.chmod(0o755)
    return program


def test_of_each_minor_version_the_newest_is_taken(tmp_path, monkeypatch):
    root = tmp_path / "versions"
    for version in ("3.10.9", "3.11.2", "3.12.9", "3.12.10"):
        said_to_be(root, version)
    given = said_to_be(tmp_path, "3.14.0")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent" + os.pathsep + str(root / "3.11.2" / "bin"))
    monkeypatch.setattr(places, "identified", told_by_the_program)
    found = places.on_this_machine([given])
    assert [here.project.name for here in found] == ["3.11.2", "3.12.10", "3.14.0"]
    assert found[2].python == str(given)


def told_by_the_program(python):
    done = subprocess.run(["/bin/sh", str(python)], capture_output=True, text=True, check=True)
    version, _, path = done.stdout.strip().partition(" ")
    return version, pathlib.Path(path)


@needs("git")
def test_a_copy_follows_the_work_tree_and_leaves_alone_what_is_the_same(tmp_path, monkeypatch):
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    (tree / "inner").mkdir(parents=True)
    copy.mkdir()
    for name in ("same", "changes", "inner/goes", ".gitignore", "ignored"):
        (tree / name).write_text("ignored\n")
    subprocess.run(["git", "init", "--quiet", str(tree)], check=True)
    monkeypatch.setattr(debian, "ROOT", tree)
    debian.copy_sources(copy)
    assert (copy / "inner" / "goes").exists() and not (copy / "ignored").exists()
    os.utime(copy / "same", (1, 1))
    os.utime(copy / "changes", (1, 1))
    (copy / "built").touch()  # there, by `make`
    (tree / "changes").write_text("other\n")
    (tree / "inner" / "goes").unlink()
    debian.copy_sources(copy)
    assert (copy / "same").stat().st_mtime == 1
    assert (copy / "changes").read_text() == "other\n"
    assert not (copy / "inner" / "goes").exists() and (copy / "built").exists()


def test_a_release_has_one_file_of_a_kind():
    names = {
        "rawproxy-1.0-cp313-cp313-manylinux_2_17_x86_64.whl": "cp313",
        "rawproxy-1.0-py3-none-any.whl": "py3",
        "rawproxy-1.0.tar.gz": "gz",
    }
    assert {name: kind_of(pathlib.Path(name)) for name in names} == names
