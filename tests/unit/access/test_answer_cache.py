"""Remembered answers: which are, for how long, and how many."""

import pytest

from rawproxy.access.answer_cache import ENTRIES, LINES, AnswerCache, key_of
from rawproxy.access.verdicts import AuthVerdict, Ruling, closed

YES = AuthVerdict(Ruling.PASS, b"X-User: alice\r\n")


def test_an_answer_holds_for_its_time_and_no_longer():
    cache = AnswerCache(5.0)
    cache.keep(b"k", YES, 100.0)
    assert cache.find(b"k", 104.9) == YES
    assert cache.hits == 1
    assert cache.find(b"other", 104.9) is None
    assert cache.find(b"k", 105.0) is None
    assert cache.find(b"k", 101.0) is None, "it is gone"
    assert cache.hits == 1


@pytest.mark.parametrize(
    "verdict",
    [
        closed("away"),
        AuthVerdict(Ruling.ANSWER, status=403),
        AuthVerdict(Ruling.PASS, YES.lines, cookies=b"Set-Cookie: a=b\r\n"),
        AuthVerdict(Ruling.PASS, b"X-User: %b\r\n" % (b"a" * LINES)),
    ],
)
def test_refusals_cookies_and_what_is_large_are_not_kept(verdict):
    cache = AnswerCache(5.0)
    cache.keep(b"k", verdict, 100.0)
    assert cache.find(b"k", 100.0) is None


def test_there_are_so_many_and_the_oldest_go():
    cache = AnswerCache(1000.0)
    for number in range(ENTRIES + 3):
        cache.keep(b"%d" % number, YES, float(number))
    cache.keep(b"3", YES, 2000.0)
    cache.keep(b"new", YES, 2000.0)
    assert [cache.find(b"%d" % number, 2000.0) is None for number in (0, 2, 3, 4)] == [
        True,
        True,
        False,
        True,
    ]
    assert len(cache._entries) <= ENTRIES


def test_every_byte_of_a_question_makes_another_key():
    assert key_of(b"GET / HTTP/1.1\r\nCookie: a\r\n\r\n") != key_of(
        b"GET / HTTP/1.1\r\nCookie: b\r\n\r\n"
    )
