"""An authority's refusal in words."""

import pytest

from rawproxy.acme import advice
from rawproxy.acme.timing import Trouble


@pytest.mark.parametrize("kind", [*advice._CHECK, "somethingNew"])
@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01", "dns-01", ""])
def test_a_line_has_the_name_the_words_and_what_to_check(kind, challenge):
    line = advice.refusal("*.a.test", kind, "no\n\tway", challenge)
    assert line.startswith(f"*.a.test: the authority says {kind}")
    assert ": no way; " in line and "{" not in line
    assert len(line.partition("; ")[2]) > 10
    assert (f"({challenge})" in line) == bool(challenge)


def test_what_to_check_is_about_the_challenge():
    assert "port 80" in advice.refusal("a.test", "connection", "x")
    assert "port 443" in advice.refusal("a.test", "connection", "x", "tls-alpn-01")
    assert "http://a.test/.well-known/" in advice.refusal("a.test", "unauthorized", "x")
    assert "_acme-challenge.a.test" in advice.refusal("*.a.test", "unauthorized", "x", "dns-01")


def test_a_whole_page_is_cut():
    assert len(advice.refusal("a.test", "dns", "long " * 1000)) < 700


def test_whose_fault_it_is():
    assert advice.fault_of("rateLimited") is Trouble.LIMITED
    assert advice.fault_of("serverInternal") is Trouble.AWAY
    assert advice.fault_of("dns") is Trouble.REFUSED
    assert advice.kind_of("urn:ietf:params:acme:error:dns") == "dns"


def test_an_authority_that_is_away():
    assert "may this machine connect" in advice.away("https://ca", "refused")
    assert "--acme-ca-root" in advice.away("https://ca", "[SSL: CERTIFICATE_VERIFY_FAILED]")
    assert "PEM file" in advice.away("https://ca", "invalid path: /x")


def test_a_clock_that_is_off():
    assert "2.0 hours behind" in advice.clock_is_off("https://ca", 7200)
    assert "2.0 hours ahead" in advice.clock_is_off("https://ca", -7200)


def test_an_error_carries_what_follows_from_it():
    error = advice.IssueError(Trouble.LIMITED, "words", 5.0, "http-01")
    assert (error.trouble, error.words, error.wait, error.challenge) == (
        Trouble.LIMITED, "words", 5.0, "http-01",
    )  # fmt: skip
    assert str(error) == "words"
