"""The corpus is replayed, and a little is fuzzed with a fixed seed: `make fuzz` does more."""

import random

import pytest

from .grammar import Source
from .harness import ALL, CORPUS, seeds, shrink
from .oracle import one_request

A_FEW = 2000  # of each target: seconds, with coverage on


@pytest.mark.parametrize("name", ALL)
def test_the_corpus(name):
    for data in seeds(name):
        ALL[name].check(data)


def test_every_folder_of_the_corpus_is_a_target():
    assert {path.name for path in CORPUS.iterdir()} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_few(name):
    source = Source(random.Random(f"a few/{name}"), ALL[name].grow, seeds(name))
    verdicts = {ALL[name].check(source.next()) for _ in range(A_FEW)}
    assert len(verdicts) > 1, "all inputs alike: the grammar is too narrow"


SMUGGLED = b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n%b"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
        (b"Content-Length: +5\r\n", b"hello"),
        (b"Content-Length: 5\r\n", b"hello!"),
        (b"Content-Length: 5\r\n", b"hell"),
        (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhelloXX0\r\n\r\n"),
        (b"Host: x\r\n", b""),
        (b"X:y\r\n", b""),
        (b"X: y\n", b""),
        (b"X: y \r\n", b""),
        (b"X : y\r\n", b""),
        (b"X: y\r\n z\r\n", b""),
        (b"", b"GET / HTTP/1.1\r\n\r\n"),
    ],
)
def test_the_oracle_itself_finds_ambiguity(lines, body):
    with pytest.raises(AssertionError):
        one_request(SMUGGLED % (lines, body))


@pytest.mark.parametrize(
    ("lines", "body", "seen"),
    [
        (b"", b"", b""),
        (b"Content-Length: 5\r\n", b"hello", b"hello"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello"),
    ],
)
def test_the_oracle_itself_reads(lines, body, seen):
    assert one_request(SMUGGLED % (lines, body)).body == seen


def test_failures_are_made_small():
    def check(data: bytes) -> None:
        assert b"needle" not in data

    assert shrink(check, b"hay" * 20 + b"needle" + b"hay" * 20, AssertionError) == b"needle"
