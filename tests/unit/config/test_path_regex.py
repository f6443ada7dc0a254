"""Regular expressions over paths: linear whatever is asked, and refused in words where not."""

import time

import pytest

from rawproxy.config import path_regex as module
from rawproxy.config.path_regex import PathRegexes, path_regex
from rawproxy.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "path", "captures"),
    [
        ("^/user/([0-9]+)/(.*)$", b"/user/12/a/b", (b"12", b"a/b")),
        ("^/user/([0-9]+)/(.*)$", b"/user/x/a/b", None),
        (r"\.(?:png|jpe?g)$", b"/a.jpeg", ()),
        (r"\.(?:png|jpe?g)$", b"/a.jpeg/x", None),
        ("(?i)/API", b"/x/api", ()),
        ("^/(a)?(b)?", b"/b", (b"", b"b")),
        ("^/(.)$", b"/\xe4", (b"\xe4",)),
        ("^/$", b"/\n", None),
    ],
)
def test_it_searches_bytes(pattern, path, captures):
    assert path_regex(pattern).captures(path) == captures


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing )"),
        ("/(?!a)", "looking ahead or behind"),
        (r"/(a)\1", "references back"),
        ("/" + "(a)" * 10, "10 groups"),
        ("a{2000}", "invalid repetition size"),
    ],
)
def test_what_is_refused(pattern, why):
    with pytest.raises(ConfigError, match=why.replace("(", r"\(").replace(")", r"\)")):
        path_regex(pattern)


def test_without_re2_the_error_says_what_to_type(monkeypatch):
    monkeypatch.setattr(module, "re2", None)
    with pytest.raises(ConfigError, match=r"pip install 'rawproxy\[regex\]'"):
        path_regex("/")


def test_several_are_asked_in_order():
    first = PathRegexes([path_regex(one) for one in ("^/a", "b$", "^/ab$")]).first
    assert [first(path) for path in (b"/ab", b"/xb", b"/x")] == [0, 1, -1]


def test_what_holds_other_engines_for_minutes_takes_no_time():
    """16 kB is the longest path that is let in."""
    for pattern in ("^/(a+)+$", "^/(a|aa)+$", "^/(.*a){12}$", "^/(.*?)(.*?)(.*?)(.*?)x$"):
        began = time.process_time()
        path_regex(pattern).captures(b"/" + b"a" * 16_000 + b"!")
        assert time.process_time() - began < 0.1, pattern
