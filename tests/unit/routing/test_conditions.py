"""Which route serves a request, where more than its path decides."""

import pytest

from rawproxy.config.model import Config, Respond, Route, Site, single
from rawproxy.errors import ClientError
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.routing.conditions import Conditions
from rawproxy.routing.route_targets import RouteTarget, fitting
from rawproxy.routing.site_routes import RouteTargets
from tests.unit.access import heads


def asked(line: str, *fields: str) -> Asked:
    method, target = line.split()
    head = heads.request(*fields[1:], target=target, method=method)
    return heads.asked(head._replace(host=fields[0].removeprefix("Host: ").encode()))


def holds(asked_of: Asked, **when: str) -> tuple[bytes, ...] | None:
    return Conditions([(f"${name}", test) for name, test in when.items()]).captures(asked_of)


ONE = asked("GET /a/b?x=1", "Host: a.test", "Origin: https://app.a.test", "X-Odd: ~!=")


@pytest.mark.parametrize(
    ("name", "test", "expected"),
    [
        ("method", "GET", True),
        ("method", "get", False),
        ("method", "!POST", True),
        ("method", "!GET", False),
        ("http_origin", "!", True),
        ("http_none", "!", False),
        ("http_none", "", True),
        ("http_origin", "~[.]a[.]test$", True),
        ("http_origin", "~[.]A[.]TEST$", False),
        ("http_origin", "~*[.]A[.]TEST$", True),
        ("http_origin", "!~evil", True),
        ("http_origin", "!~*HTTPS", False),
        ("http_x_odd", "=~!=", True),
        ("http_x_odd", "!~!=", False),
        ("request_uri", "/a/b?x=1", True),
        ("path", "/a/b", True),
    ],
)
def test_a_test(name, test, expected):
    assert (holds(ONE, **{name: test}) is not None) is expected


def test_all_have_to_hold_and_the_last_expression_keeps_what_it_found():
    assert holds(ONE, method="GET", path="!/") == ()
    assert holds(ONE, method="GET", path="/") is None
    assert holds(ONE, http_origin="~//([a-z]+)[.](.*)", method="GET") == (b"app", b"a.test")
    assert holds(ONE, http_origin="~//([a-z]+)[.]", path="~^/(.)/(.)") == (b"a", b"b")
    assert holds(ONE.matched((b"z",)), http_origin="~https", method="!x") == (b"z",)


def answers(*routes: Route):
    """What is found for a request, by the answer's status."""
    targets = RouteTargets(Config(sites=(Site(routes=routes),)))
    sites = targets.for_listener(None)
    assert sites is not None

    def status(line: str, *fields: str) -> int:
        one = asked(line, "Host: h", *fields)
        found = fitting(sites.routes(b"h"), one.head.target, one)
        assert found.answer is not None
        return found.answer.status

    return status


def own(status: int, path: str = "/", **facts) -> Route:
    return Route(path, group=None, respond=Respond(status), **facts)


def test_the_first_variant_that_fits_else_the_one_without_a_when():
    post, bot = (("$method", "POST"),), (("$http_user_agent", "~*bot"),)
    status = answers(own(200), own(205, when=post), own(206, when=bot), own(299, "/x"))
    assert status("GET /") == 200
    assert status("POST /", "User-Agent: Bot") == 205
    assert status("GET /y", "User-Agent: Bot") == 206
    assert status("POST /x") == 299, "a longer path has no such variant"


def test_a_path_of_which_no_variant_fits():
    status = answers(own(200, when=(("$arg_a", "1"),)))
    assert status("GET /?a=1") == 200
    with pytest.raises(ClientError, match="no route of this path is for such a request") as caught:
        status("GET /?a=2")
    assert caught.value.status == 404


def test_routes_that_are_first_come_before_all_paths_in_their_order():
    status = answers(
        own(200),
        own(201, "/x", exact=True),
        own(202, first=True, when=(("$method", "POST"),)),
        own(203, "/x", first=True, when=(("$arg_a", "1"),)),
        own(204, path_regex="^/r/", first=True),
        own(205, "/x/y", exact=True, first=True),
        own(206, "/par", partial=True, first=True),
    )
    assert status("GET /") == 200 and status("GET /x") == 201
    assert status("POST /x?a=1") == 202
    assert status("GET /x/z?a=1") == 203 and status("GET /xy?a=1") == 200
    assert status("GET /r/1") == 204
    assert status("GET /x/y") == 205
    assert status("GET /party") == 206


def test_nobody_gets_past_a_first_route_by_spelling():
    status = answers(
        own(200), own(403, "/admin", first=True), own(201, first=True, when=(("$arg_z", "1"),))
    )
    assert status("GET /admin/x") == 403
    for path in ("/%61dmin/x", "//admin/x", "/x/../admin"):
        with pytest.raises(ClientError) as caught:
            status(f"GET {path}")
        assert caught.value.status == 400
    assert status("GET /%7Ex") == 200


def test_a_route_with_a_when_alone_is_looked_at():
    one = Site(routes=(Route(when=(("$method", "GET"),)),))
    assert RouteTargets(Config(sites=(one,))).for_listener(None) is not None


def test_a_route_without_a_when_fits_whatever_a_request_is_like():
    route = Route("/")
    target = RouteTarget(single(()), Site(routes=(route,)), route)
    assert target.fits(ONE)
