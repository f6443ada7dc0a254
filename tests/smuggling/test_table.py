"""The committed table is that of the corpus, and what it claims holds."""

import asyncio
import re

import pytest

from tests.pointers import dangling, names_in, pointers

from . import judge, verdict
from .cases import Answer, Case
from .peers import PEERS, running
from .rules import RULES
from .stand import PATIENCE
from .table import CORPUS, TABLE, digest, lets_through, load, refuses, render
from .table import PEERS as NAMES

RECORDED = load()
VERDICTS = RECORDED["cases"]
TRIES = 5
STALE = "the corpus has changed: type `make rules`"


def test_ids_are_unique():
    assert len({case.id for case in CORPUS}) == len(CORPUS)


def test_every_rule_has_tests_and_they_exist():
    numbers = [rule.number for rule in RULES]
    assert numbers == sorted(set(numbers)) and {*range(1, 42)} <= {*numbers}
    for rule in RULES:
        assert dangling(rule.tests) == []
        named = [name for file, name in pointers(rule.tests) if name in names_in(file)]
        numbered = any(f"rule_{rule.number}" in name for name in named)
        assert any(case.rule == rule.number for case in CORPUS) or numbered or named, rule


def test_the_table_is_that_of_the_corpus():
    assert {case.id for case in CORPUS} == set(VERDICTS), STALE
    assert all(digest(case) == VERDICTS[case.id]["raw"] for case in CORPUS), STALE
    assert TABLE.read_text() == render(RECORDED), STALE


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CORPUS])
def test_never_forwards_what_others_rightly_refuse(case):
    """Where one of them refuses what we let through, the case says why that is right."""
    row = VERDICTS[case.id]
    if isinstance(case, Case):
        word = "answered" if case.refused.isdigit() and case.refused < "400" else "refused"
        expected = f"{word} {case.refused}" if case.refused else "forwarded"
    else:
        expected = "passed" if case.got else "refused 502"
    assert row["rawproxy"].split(",")[0] == expected
    if lets_through(row["rawproxy"]) and any(refuses(row[name]) for name in NAMES):
        assert re.search(r"RFC \d{4} \d", case.defence), f"{case.id}: {row}"


def sample():
    """Of every rule, version and kind: a case that a peer refuses, and one that it lets through."""
    for peer in PEERS:
        kinds = {}
        for case in CORPUS:
            words = VERDICTS[case.id][peer.name]
            if "waits" not in words:
                kind = type(case), case.rule, getattr(case, "front", ""), refuses(words)
                kinds.setdefault(kind, case)
        yield pytest.param(peer, list(kinds.values()), id=peer.name)


@pytest.mark.parametrize(("peer", "cases"), list(sample()))
def test_peers_do_what_was_recorded(peer, cases):
    version = peer.installed()
    if version != RECORDED["versions"][peer.name]:
        pytest.skip(
            f"needs {peer.name} {RECORDED['versions'][peer.name]}, found {version or 'none'}"
        )
    assert len(cases) > 40
    moved = {}
    with asyncio.Runner() as runner, running(peer, runner) as target:
        for case in cases:
            recorded = VERDICTS[case.id][peer.name]
            for _ in range(TRIES):
                if isinstance(case, Answer):
                    words = verdict.of_answer(
                        case, runner.run(judge.answer(case, target, PATIENCE))
                    )
                else:
                    words = verdict.of_case(case, runner.run(judge.request(case, target, PATIENCE)))
                if words == recorded:
                    break
                # A peer may begin to forward while it still reads what it will refuse: whether the
                # upstream hears of it is a race. So is whether a reset overtakes the answer that
                # refuses (Caddy, HTTP/2). Nothing else gets a second try.
                resets = getattr(case, "front", "") == "h2" and refuses(words) and refuses(recorded)
                if not resets and " then " not in words + recorded:
                    moved[case.id] = words, recorded
                    break
            else:
                moved[case.id] = words, recorded
    assert moved == {}
