"""What is told though it works."""

import os
import pathlib
import tempfile

import pytest

from rawproxy.config import caution
from rawproxy.config.caution import cautions, is_everybodys
from rawproxy.config.model import Certificate, Group, single


@pytest.fixture
def key():
    """In a folder of its own: pytest's are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = pathlib.Path(folder, "key.pem")
        path.write_text("")
        path.chmod(0o644)
        yield path


def test_a_key_that_everybody_can_read(key):
    assert is_everybodys(str(key))
    link = key.parent / "link"
    link.symlink_to(key)
    assert is_everybodys(str(link))
    key.chmod(0o640)
    assert not is_everybodys(str(key)) and not is_everybodys(str(link))


def test_in_a_closed_folder_nobody_can(key):
    key.parent.chmod(0o700)
    assert not is_everybodys(str(key))


def test_what_is_not_there_is_somebody_elses_news(tmp_path):
    assert not is_everybodys(str(tmp_path / "none"))


def test_each_is_told_once(key, monkeypatch):
    pair = Certificate("cert.pem", str(key))
    config = single((), certificates=(pair, pair), upstream_cert=pair)
    assert isinstance(config.groups[0], Group)
    monkeypatch.setattr(caution.os, "geteuid", lambda: 1000)
    said = cautions(config)
    assert [line.partition(" ")[0] for line in said] == ["--key", "--upstream-key"]
    assert all("chmod o-r" in line for line in said)
    key.chmod(0o600)
    assert cautions(config) == []
    monkeypatch.setattr(caution.os, "geteuid", lambda: 0)
    (line,) = cautions(config)
    assert line.startswith("this is root") and "DynamicUser" in line and "--user" in line
