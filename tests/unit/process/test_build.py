"""What a build tells of itself, and when a plain one says that there is a faster one."""

import asyncio
import importlib
import logging
import os
import pathlib
import platform
import re
import subprocess
import sys
from importlib import metadata

import pytest

import rawproxy
from rawproxy.process import build, server
from rawproxy.protocol import regex
from rawproxy.proxy import exchange
from tests.process import PATIENCE

COMPILED = pathlib.Path(exchange.__file__).suffix == ".so"


def test_the_version_names_the_build():
    told = re.fullmatch(
        r"rawproxy (\S+) \((compiled|plain), heads read by (re|PCRE2 10\.\d+),"
        r" Python (\S+), OpenSSL (\d+\.\d+\.\d+), (uvloop \S+|asyncio's loop)\)",
        build.described(),
    )
    assert told, build.described()
    assert told[1] == metadata.version("rawproxy")  # pyproject.toml's is the package's too
    assert (told[2] == "compiled") == COMPILED == build.is_compiled()
    assert told[3] == regex.ENGINE
    assert told[4] == platform.python_version()


def test_every_process_of_the_tests_has_the_build_that_is_to_be_tested(tmp_path):
    """`make test-fast` says which: no file of the plain one may be in the way."""
    if "RAWPROXY_TESTED" in os.environ:
        assert os.environ["RAWPROXY_TESTED"] == ("compiled" if COMPILED else "plain")
    package = pathlib.Path(rawproxy.__file__).parent
    for path in package.rglob("*.so"):
        name = ".".join(
            ["rawproxy", *path.relative_to(package).parent.parts, path.stem.split(".")[0]]
        )
        # The folder of `make test-fast` has the package by a link.
        assert path.samefile(importlib.import_module(name).__file__)
    for folder in (None, tmp_path):
        command = [sys.executable, "-m", "rawproxy", "--version"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout == build.described() + "\n"


def test_without_uvloop_it_names_the_loop_that_serves(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert build.described().endswith(", asyncio's loop)")


class Processor:
    """The time that a process has used up, as the test wants it: so much at each look."""

    def __init__(self, *shares):
        self.shares = list(shares)
        self.used = 0.0
        self.looks = asyncio.Event()

    def __call__(self):
        if self.shares:
            self.used += self.shares.pop(0) * build.SPAN
        else:
            self.looks.set()
        return self.used


def said(caplog):
    return [one.getMessage() for one in caplog.records if "plain build" in one.getMessage()]


@pytest.mark.parametrize(
    ("shares", "times"),
    [
        ([0, 0.1, 0.1, 0.1], 0),  # it never did much
        ([900, 0.1, 900], 1),  # the start does not count
        ([0, 900, 900, 900], 1),  # said once, then never looked at again
    ],
)
def test_it_is_said_once_and_only_under_load(caplog, monkeypatch, shares, times):
    monkeypatch.setattr(build, "SPAN", 0.02)

    async def run():
        used = Processor(*shares)
        end = build.watch_load(used)
        if times:
            async with asyncio.timeout(PATIENCE):
                while not said(caplog):
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.06)
        else:
            await asyncio.wait_for(used.looks.wait(), PATIENCE)
        end()

    with caplog.at_level(logging.WARNING, "rawproxy"):
        asyncio.run(run())
    assert len(said(caplog)) == times


def test_a_watch_that_has_ended_says_nothing(caplog, monkeypatch):
    monkeypatch.setattr(build, "SPAN", 0.01)

    async def run():
        build.watch_load(Processor(0, 900, 900))()
        await asyncio.sleep(0.03)

    with caplog.at_level(logging.WARNING, "rawproxy"):
        asyncio.run(run())
    assert not said(caplog)


def test_the_line_says_what_to_type():
    line = build.advice()
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert "make wheel && " in line and sys.executable in line and f"-{tag}-*.whl" in line


@pytest.mark.parametrize(("compiled", "quiet"), [(False, False), (False, True), (True, False)])
def test_one_worker_of_a_plain_build_watches(monkeypatch, tmp_path, compiled, quiet):
    """And it ends with what the worker has opened."""
    from contextlib import AsyncExitStack

    from rawproxy.config.addresses import parse_upstream
    from rawproxy.config.model import Address, single

    calls = []
    monkeypatch.setattr(build, "is_compiled", lambda: compiled)
    monkeypatch.setattr(
        build, "watch_load", lambda: calls.append("begun") or (lambda: calls.append("ended"))
    )
    config = single(
        upstreams=(parse_upstream("http://127.0.0.1:1"),),
        http=(Address("127.0.0.1", 0),),
        access_log="off",
    )

    async def run():
        async with AsyncExitStack() as stack:
            server.open_server(config, stack, quiet=quiet)

    asyncio.run(run())
    assert calls == ([] if compiled or quiet else ["begun", "ended"])
