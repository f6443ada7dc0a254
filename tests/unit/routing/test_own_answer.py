"""What a route answers by itself."""

from rawproxy.config.model import Edits, Redirect, Respond, Route
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.rewrite import context
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.routing.own_answer import own_answer
from rawproxy.routing.route_targets import edits

HEAD = RequestHead(b"GET", b"/a?b", 1, b"", [], 0, False, b"", False, b"h.test", (), 0)
ASKED = Asked(HEAD, context(b"192.0.2.1", b"https", False, False, None), b"", 443, 1)


def test_a_fixed_response_with_variables():
    answer = own_answer(Route(respond=Respond(200, "hello $host\n")))
    assert answer is not None
    assert answer.of(ASKED, None) == (
        200,
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"hello h.test\n",
    )


def test_one_without_a_body_has_no_type():
    answer = own_answer(Route(respond=Respond(204)))
    assert answer is not None and answer.of(ASKED, None) == (204, b"", b"")


def test_the_edits_of_the_route_hold():
    changes = Edits(remove=("Content-Type",), set=(("X-Robots-Tag", "none"),))
    for route in (
        Route(respond=Respond(200, "x"), response_headers=changes),
        Route(redirect=Redirect(301, "/b"), response_headers=changes),
    ):
        answer = own_answer(route)
        assert answer is not None
        lines = answer.of(ASKED, edits(route))[1]
        assert lines.endswith(b"X-Robots-Tag: none\r\n") and b"Content-Type" not in lines


def test_how_long_it_may_be_kept_is_said_of_what_is_no_error():
    """By the status that the client sees, where the answer stands in the place of an error."""
    kept = b"Cache-Control: max-age=60\r\n"
    for route in (
        Route(respond=Respond(200, "x"), cache_control="max-age=60"),
        Route(redirect=Redirect(301, "/b"), cache_control="max-age=60"),
    ):
        answer = own_answer(route)
        assert answer is not None
        for shown, told in ((0, True), (200, True), (307, True), (404, False), (503, False)):
            status, lines, _ = answer.of(ASKED, None, shown)
            assert (status, kept in lines) == (shown or answer.status, told)
    error = own_answer(Route(respond=Respond(404, "x"), cache_control="max-age=60"))
    assert error is not None
    assert kept not in error.of(ASKED, None)[1] and kept in error.of(ASKED, None, 200)[1]


def test_who_has_an_upstream_answers_nothing():
    assert own_answer(Route()) is None
