"""The engine of the compiled build answers as `re` does, and lets nothing go that it still needs."""

import gc
import importlib
import os
import re
import subprocess
import sys
import tracemalloc

import pytest

from rawproxy.protocol.http1 import recogniser

pcre2 = pytest.importorskip(
    "rawproxy.protocol._pcre2", reason="the plain build has none: make test-fast"
)
PATTERN = rb"([A-Z]+) (/[^ ]*)?(?: (x))?(?: ([0-9]+))?"


def by_re(text, at):
    """The facts of PATTERN by `re`: bytes, where a group starts, where one ends, a number."""
    match = re.compile(PATTERN).match(text, at)
    if match is None:
        return None
    return match.end(), match[1], match.start(2), match.end(3), int(match[4] or -1)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (b"GET /a x", 0),
        (b"GET /a", 0),
        (b"..GET /a x", 2),
        (b"GET ", 0),
        (b" GET /a", 0),
        (b"GET / x 0123", 0),
        (b"GET / x 12", 3),
        (b"GET / 999999999999999999", 0),
        (b"", 0),
    ],
)
def test_facts_are_what_re_finds(text, at):
    assert pcre2.compile(rb"\G" + PATTERN, b"bsen").facts(text, at) == by_re(text, at)


@pytest.mark.parametrize("at", [-5, 7, 99])
def test_nothing_stands_where_there_are_no_bytes(at):
    assert pcre2.compile(rb"\G(a*)", b"b").facts(b"aaaaaa", at) is None


def test_the_recognisers_find_by_either_engine_the_same():
    """`re` picks what `kinds` says by functions of their own."""
    request = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%bA: b\r\n\r\n"
    response = b"HTTP/1.1 200 Very OK\r\nConnection: close\r\n%bA: b\r\n\r\n"
    fields = [
        b"", b"Content-Length: 017\r\n", b"Transfer-Encoding: chunked\r\n", b"Date: x\r\n",
        b"User-Agent: a\r\nReferer: b\r\n", b"Authorization: c\r\n", b"Upgrade: d\r\n",
    ]  # fmt: skip
    heads = [head % field for head in (request, response) for field in fields]
    code = f"""
from rawproxy.protocol.http1.recogniser import LOGGED_REQUEST, REQUEST, RESPONSE
for head in {heads!r}:
    print([read(b"GET" + head, 3) for read in (REQUEST, LOGGED_REQUEST, RESPONSE)])
"""
    told = []
    for engine in ("re", ""):
        env = {**os.environ, "RAWPROXY_REGEX": engine}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        told.append(done.stdout)
    assert told[0] == told[1]
    assert told[0].count("(") == 21  # each request by two readers, each response by one


def test_findall_is_what_re_finds():
    pattern, text = rb"\n(a+): ([^\r]*+)(x)?", b"\naa: 1\r\nb: 2\r\na: \r\n"
    assert pcre2.compile(pattern).findall(text) == re.compile(pattern).findall(text)
    assert pcre2.compile(pattern).findall(b"") == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: pcre2.compile(b"(a"), ValueError),
        (lambda: pcre2.compile("a"), TypeError),
        (lambda: pcre2.compile(), TypeError),
        (lambda: pcre2.compile(b"(a)", "b"), TypeError),
        (lambda: pcre2.compile(b"(a)", b"b", b""), TypeError),
        (lambda: pcre2.compile(b"(a)", b"bb"), ValueError),
        (lambda: pcre2.compile(b"(a)(b)", b"b"), ValueError),
        (lambda: pcre2.compile(b"(a)", b"x"), ValueError),
        (lambda: pcre2.compile(b"(a)" * 32), ValueError),
        (lambda: pcre2.compile(b"(a)").facts(b"a", 0), TypeError),
        (lambda: pcre2.compile(b"a").facts("a", 0), TypeError),
        (lambda: pcre2.compile(b"a").facts(bytearray(b"a"), 0), TypeError),
        (lambda: pcre2.compile(b"a").facts(), TypeError),
        (lambda: pcre2.compile(b"a").facts(b"a", "0"), TypeError),
        (lambda: pcre2.compile(b"a").facts(b"a", 1 << 80), OverflowError),
        (lambda: pcre2.compile(b"(a)", b"n").facts(b"a", 0), ValueError),
        (lambda: pcre2.compile(b"(1+)", b"n").facts(b"1" * 19, 0), ValueError),
        (lambda: pcre2.compile(b"(a)(b)").findall("a"), TypeError),
        (lambda: pcre2.compile(b"(a)").findall(b"a"), ValueError),
        (lambda: pcre2.compile(b"(a)*(b)*").findall(b"a"), ValueError),
        (lambda: type(pcre2.compile(b"a"))(), TypeError),
    ],
)
def test_what_cannot_be_is_an_error(call, error):
    with pytest.raises(error):
        call()


def test_the_error_of_a_pattern_says_where():
    with pytest.raises(ValueError, match="parenthesis at position 2"):
        pcre2.compile(b"(a")


def test_nothing_is_left_of_what_is_done_with():
    """A reference too many would be memory that grows with each request."""
    pattern, text = pcre2.compile(PATTERN, b"bsen"), b"GET /" + b"a" * 5000 + b" x 1234567"
    log = pcre2.compile(rb"(a)(b)?")

    def work():
        for _ in range(2000):
            pattern.facts(text, 0), pattern.facts(b"?", 0)
            log.findall(b"abaab")
        for _ in range(50):
            with pytest.raises(ValueError):
                pcre2.compile(b"(")
            pcre2.compile(PATTERN, b"bsen").facts(text, 0)

    def held() -> int:
        """Bytes that this file's lines have allocated, those of the engine that they call too.

        What another thread of the run makes meanwhile is not in it.
        """
        gc.collect()
        here = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)])
        return sum(trace.size for trace in here.traces)

    work()
    before = sys.getrefcount(text)
    tracemalloc.start()
    work()
    start = held()
    work()
    grown = held() - start
    tracemalloc.stop()
    assert sys.getrefcount(text) == before
    # One object of each turn would be 30,000 and more, one of each pattern 1,600 and more.
    assert grown < 1000


def test_a_head_of_many_lines_does_not_use_up_its_stack():
    """Of PCRE2's machine code: it remembers no way back for a line that has matched."""
    lines = b"".join(b"x-%d: value %d\r\n" % (n, n) for n in range(60_000))
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"
    found = recogniser.REQUEST(head, 0)
    assert found is not None and found[0] == len(head)


CONFINED = """
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE: as MemoryDenyWriteExecute= of systemd
    sys.exit(77)
from rawproxy.protocol import _pcre2
pattern = _pcre2.compile(rb"\\G(a+)(b)?", b"bb")
print(pattern.jit, pattern.facts(b"aab", 0))
"""


def test_where_memory_may_not_become_code_the_answers_are_the_same():
    done = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this kernel cannot forbid it: Linux 6.3 can")
    assert done.stdout == "False (3, b'aa', b'b')\n", done.stderr
    assert pcre2.compile(b"a").jit


def test_the_recognisers_use_it():
    assert "PCRE2" in importlib.import_module("rawproxy.protocol.regex").ENGINE
    assert re.fullmatch(r"10\.\d+", pcre2.VERSION)
