"""What a package index shows of the README: no link in it leads nowhere."""

import pathlib
import re
import runpy
import shutil
import sys
import types

import pytest

TOP = pathlib.Path(__file__).parent.parent


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The long description that setup.py gives, where `urls` are added to pyproject.toml."""

    def shown(urls: str = "") -> str:
        for name in ("setup.py", "pyproject.toml", "README.md"):
            shutil.copy(TOP / name, tmp_path)
        with (tmp_path / "pyproject.toml").open("a") as file:
            file.write(urls)
        given: dict[str, str] = {}
        stand_in = types.SimpleNamespace(setup=lambda **words: given.update(words))
        monkeypatch.setitem(sys.modules, "setuptools", stand_in)
        monkeypatch.delenv("RAWPROXY_COMPILE", raising=False)
        runpy.run_path(str(tmp_path / "setup.py"))
        return given["long_description"]

    return shown


def test_without_a_repository_links_become_paths(shown):
    text = shown()
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link] == []
    assert "| `docs/options.md` |" in text


def test_with_one_they_lead_there(shown):
    text = shown('\n[project.urls]\nSource = "https://git.test/a/b/"\n')
    assert "](https://git.test/a/b/blob/HEAD/docs/options.md)" in text
    assert "![Ratios to nginx, row by row](https://git.test/a/b/raw/HEAD/bench/results/" in text
