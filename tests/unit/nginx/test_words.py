"""Every directive has one word, and all of nginx's that a proxy is made of have one."""

from collections import Counter

import pytest

from docs import write_from_nginx
from rawproxy.nginx.cases import case
from rawproxy.nginx.reading import Directive
from rawproxy.nginx.words import BLOCKS, DIFFERENT, EXACT, REFUSED, UNKNOWN, tables, word
from tests.nginx.directives import BY_MODULE, OF_UPSTREAM


def test_no_directive_stands_twice():
    names = Counter(
        name for part, words in tables().items() if part not in BLOCKS for name in words
    )
    assert [name for name, times in names.items() if times > 1] == []


def test_what_stands_in_a_block_too_is_looked_up_by_the_block():
    both = [name for name in tables()["upstream"] if name in ("keepalive_timeout", "server")]
    assert both == ["server", "keepalive_timeout"]
    assert word("keepalive_timeout").word == DIFFERENT
    assert word("keepalive_timeout", "upstream").word == EXACT
    assert word("proxy_pass", "upstream") == UNKNOWN
    assert word("proxy_pass", "location").word == EXACT


@pytest.mark.parametrize("module", BY_MODULE)
def test_the_directives_of_a_module_are_in_the_table(module):
    page = write_from_nginx.page()
    for name in BY_MODULE[module].split():
        assert word(name) != UNKNOWN, name
        assert f"| `{name}` | " in page, name


def test_the_directives_of_an_upstream_block_are_in_the_table():
    for name in OF_UPSTREAM.split():
        assert word(name, "upstream") != UNKNOWN, name
        assert f"| `{name}` | " in write_from_nginx.page(), name


@pytest.mark.parametrize(
    ("name", "args", "block", "said"),
    [
        ("recursive_error_pages", ("on",), "", DIFFERENT),
        ("set_real_ip_from", ("10.0.0.0/8",), "", EXACT),
        ("set_real_ip_from", ("10.0.0.0/8",), "server", DIFFERENT),
        ("set_real_ip_from", ("10.0.0.0/8",), "location", REFUSED),
        ("random", (), "upstream", DIFFERENT),
        ("random", ("two", "least_conn"), "upstream", EXACT),
        ("random", ("two", "least_time=header"), "upstream", DIFFERENT),
        ("proxy_ignore_client_abort", ("on",), "location", DIFFERENT),
        ("proxy_ignore_client_abort", ("off",), "location", EXACT),
        ("proxy_force_ranges", ("on",), "location", DIFFERENT),
        ("ip_hash", (), "upstream", DIFFERENT),
    ],
)
def test_where_it_depends_on_what_is_said_and_where(name, args, block, said):
    assert case(Directive(name, args, "x", 1), block).word == said


def test_a_listener_for_http3_has_a_word_of_its_own():
    def listen(*args: str):
        return case(Directive("listen", args, "x", 1), "server")

    assert listen("443", "ssl").word == EXACT
    assert listen("443", "quic", "reuseport").word == DIFFERENT
    assert "HTTP/3" in listen("443", "quic").note
    assert case(Directive("nonsense", (), "x", 1)).word == REFUSED
