"""A folder of fragments: what its writers left in it, and nothing that is half written."""

import asyncio
import os

import pytest

from rawproxy.discovery import folder as module
from rawproxy.discovery.folder import FolderSource
from rawproxy.discovery.source import LARGEST, SourceError
from tests.process import PATIENCE


def put(folder, name, text):
    (folder / ".new").write_text(text)
    os.replace(folder / ".new", folder / name)


def texts(fragments):
    return {name: one.text for name, one in fragments.items()}


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


class Watched:
    """A folder that is watched while a test runs."""

    def __init__(self, folder) -> None:
        self.source = FolderSource(str(folder))
        self.reports: list[dict[str, str]] = []

    def hear(self, fragments) -> None:
        self.reports.append(texts(fragments))

    async def __aenter__(self):
        self.task = asyncio.create_task(self.source.run(self.hear))
        await until(lambda: self.reports or self.task.done())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def says(self, **expected):
        wanted = {f"{name}.toml": text for name, text in expected.items()}
        await until(lambda: self.reports and self.reports[-1] == wanted)


def test_what_is_there_now(tmp_path):
    put(tmp_path, "b.toml", "b = 1")
    put(tmp_path, "a.toml", "a = 1")
    (tmp_path / ".hidden.toml").write_text("no")
    (tmp_path / "other.txt").write_text("no")
    (tmp_path / "broken.toml").write_bytes(b"\xff")
    (tmp_path / "large.toml").write_bytes(b"#" * (LARGEST + 1))
    (tmp_path / "folder.toml").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "link.toml")
    found = FolderSource(str(tmp_path)).now()
    assert list(found) == ["a.toml", "b.toml", "broken.toml", "folder.toml", "large.toml"]
    assert found["a.toml"].text == "a = 1" and found["a.toml"].where == f"{tmp_path}/a.toml"
    assert found["a.toml"].folder == str(tmp_path) and not found["a.toml"].wrong
    assert found["broken.toml"].wrong == ": not UTF-8; save it as UTF-8, as TOML wants"
    assert found["large.toml"].wrong.startswith(": larger than 1 MiB")
    assert found["folder.toml"].wrong == ": cannot be read: Is a directory"


def test_a_folder_that_is_not_there_or_has_too_much(tmp_path, monkeypatch):
    with pytest.raises(SourceError, match="No such file or directory; make it"):
        FolderSource(str(tmp_path / "none")).now()
    monkeypatch.setattr(module, "MOST", 1)
    put(tmp_path, "a.toml", "")
    put(tmp_path, "b.toml", "")
    with pytest.raises(SourceError, match="2 files; at most 1"):
        FolderSource(str(tmp_path)).now()


@pytest.mark.parametrize("inotify", [True, False], ids=["inotify", "polling"])
def test_files_come_change_and_go(tmp_path, monkeypatch, inotify):
    if not inotify:
        monkeypatch.setattr(module._Inotify, "of", classmethod(lambda cls, path: None))
        monkeypatch.setattr(module, "LOOK", 0.02)

    async def test():
        put(tmp_path, "a.toml", "1")
        async with Watched(tmp_path) as watched:
            await watched.says(a="1")
            put(tmp_path, "b.toml", "2")
            await watched.says(a="1", b="2")
            put(tmp_path, "a.toml", "3")
            await watched.says(a="3", b="2")
            os.rename(tmp_path / "b.toml", tmp_path / "c.toml")
            await watched.says(a="3", c="2")
            os.remove(tmp_path / "a.toml")
            await watched.says(c="2")
            many = len(watched.reports)
            (tmp_path / "other.txt").write_text("nobody cares")
            await asyncio.sleep(0.1)
            assert len(watched.reports) == many

    asyncio.run(test())


def test_a_file_is_read_when_its_writer_has_closed_it(tmp_path):
    async def test():
        async with Watched(tmp_path) as watched:
            await watched.says()
            with (tmp_path / "a.toml").open("w") as file:
                file.write("half")
                file.flush()
                put(tmp_path, "b.toml", "whole")
                await watched.says(b="whole")
                file.write(" and half")
            await watched.says(a="half and half", b="whole")
            assert {"a.toml": "half", "b.toml": "whole"} not in watched.reports

    asyncio.run(test())


def test_a_link_that_moves_is_noticed_as_kubernetes_does_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.02)

    async def test():
        for name, text in (("one", "1"), ("two", "2")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.toml").write_text(text)
        os.symlink("one", tmp_path / "..data")
        os.symlink("..data/a.toml", tmp_path / "a.toml")
        async with Watched(tmp_path) as watched:
            await watched.says(a="1")
            os.symlink("two", tmp_path / "..new")
            os.rename(tmp_path / "..new", tmp_path / "..data")
            await watched.says(a="2")

    asyncio.run(test())


def test_a_folder_that_goes_and_comes_back(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "AGAIN", 0.05)
    folder = tmp_path / "sites.d"
    folder.mkdir()
    put(folder, "a.toml", "1")

    async def test():
        async with Watched(folder) as watched:
            await watched.says(a="1")
            os.rename(folder, tmp_path / "away")
            await until(lambda: "has gone; its fragments stay" in caplog.text)
            assert watched.reports[-1] == {"a.toml": "1"}, "what is known stays"
            folder.mkdir()
            put(folder, "b.toml", "2")
            await watched.says(b="2")

    asyncio.run(test())
