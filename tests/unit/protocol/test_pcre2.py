"""The engine of the compiled build answers as `re` does, and lets nothing go that it still needs."""

import gc
import importlib
import re
import subprocess
import sys
import tracemalloc

import pytest

from rawproxy.protocol.http1 import recogniser

pcre2 = pytest.importorskip(
    "rawproxy.protocol._pcre2", reason="the plain build has none: make test-fast"
)
PATTERN = rb"([A-Z]+) (/[^ ]*)?(?: (x))?"


def both(text, at=0):
    """What the engine and `re` find of PATTERN at one place."""
    return pcre2.compile(rb"\G" + PATTERN).match(text, at), re.compile(PATTERN).match(text, at)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (b"GET /a x", 0),
        (b"GET /a", 0),
        (b"..GET /a x", 2),
        (b"GET ", 0),
        (b"GET /a", -5),  # before the beginning is the beginning
        (b"GET", 99),  # and behind the end is the end
        (b" GET /a", 0),
        (b"", 0),
        (bytearray(b"GET /a x"), 0),
        (memoryview(b"GET /a x")[0:6], 0),
    ],
)
def test_a_match_is_what_re_finds(text, at):
    ours, theirs = both(text, at)
    assert (ours is None) == (theirs is None)
    if theirs is not None:
        assert ours.groups() == theirs.groups()
        assert [ours.span(n) for n in range(4)] == [theirs.span(n) for n in range(4)]
        assert (ours.span(), ours.end(), ours.end(1)) == (
            theirs.span(),
            theirs.end(),
            theirs.end(1),
        )


def test_findall_is_what_re_finds():
    pattern, text = rb"\n(a+): ([^\r]*+)(x)?", b"\naa: 1\r\nb: 2\r\na: \r\n"
    assert pcre2.compile(pattern).findall(text) == re.compile(pattern).findall(text)
    assert pcre2.compile(pattern).findall(b"") == []


def test_a_match_keeps_what_it_was_made_of():
    text = bytearray(b"GET /a x")
    match = pcre2.compile(PATTERN).match(text)
    text[:] = b"?" * 8
    kept = pcre2.compile(PATTERN).match(b"POST /" + b"b" * 5000)
    gc.collect()
    assert match.groups() == (b"GET", b"/a", b"x")
    assert kept.groups() == (b"POST", b"/" + b"b" * 5000, None)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: pcre2.compile(b"(a"), ValueError),
        (lambda: pcre2.compile("a"), TypeError),
        (lambda: pcre2.compile(b"a").match("a"), TypeError),
        (lambda: pcre2.compile(b"a").match(1), TypeError),
        (lambda: pcre2.compile(b"a").match(), TypeError),
        (lambda: pcre2.compile(b"a").match(b"a", "0"), TypeError),
        (lambda: pcre2.compile(b"a").match(b"a", 1 << 80), OverflowError),
        (lambda: pcre2.compile(b"a").match(b"a").span(1), IndexError),
        (lambda: pcre2.compile(b"a").match(b"a").end(-1), IndexError),
        (lambda: pcre2.compile(b"a").match(b"a").span(0, 0), TypeError),
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
    pattern, text = pcre2.compile(PATTERN), b"GET /" + b"a" * 100
    log = pcre2.compile(rb"(a)(b)?")

    def work():
        for _ in range(2000):
            match = pattern.match(text, 0)
            match.groups(), match.span(1), match.end()
            pattern.match(b"?"), pattern.match(bytearray(text))
            log.findall(b"abaab")
        for _ in range(50):
            with pytest.raises(ValueError):
                pcre2.compile(b"(")
            pcre2.compile(PATTERN).match(text)

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
    match = recogniser.REQUEST(head, 0)
    assert match is not None and match.end() == len(head)


CONFINED = """
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE: as MemoryDenyWriteExecute= of systemd
    sys.exit(77)
from rawproxy.protocol import _pcre2
pattern = _pcre2.compile(rb"\\G(a+)(b)?")
print(pattern.jit, pattern.match(b"aab").groups())
"""


def test_where_memory_may_not_become_code_the_answers_are_the_same():
    done = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this kernel cannot forbid it: Linux 6.3 can")
    assert done.stdout == "False (b'aa', b'b')\n", done.stderr
    assert pcre2.compile(b"a").jit


def test_the_recognisers_use_it():
    assert "PCRE2" in importlib.import_module("rawproxy.protocol.regex").ENGINE
    assert re.fullmatch(r"10\.\d+", pcre2.VERSION)
