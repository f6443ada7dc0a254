"""Routes that are found by their name, and errors that lead nowhere."""

import pytest

from rawproxy.config.model import ErrorPage, Respond, Route, Site, single
from rawproxy.errors import ClientError
from rawproxy.routing.error_places import ErrorPages
from rawproxy.routing.inner_routes import InnerRoutes
from rawproxy.routing.route_targets import RouteTarget

from .test_conditions import asked


def inner(*routes: Route) -> InnerRoutes:
    config = single(())
    site = Site(routes=routes)
    return InnerRoutes(routes, [RouteTarget(config, site, route) for route in routes])


def test_of_routes_with_one_name_the_first_that_fits_is_taken():
    names = inner(
        Route(named="@spare", when=(("$method", "POST"),), respond=Respond(201)),
        Route(named="@spare", when=(("$method", "GET"),), respond=Respond(202)),
    )
    for method, status in (("POST", 201), ("GET", 202)):
        target, where = names.named("@spare", asked(f"{method} /x", "Host: h.test"))
        assert target.answer.of(asked(f"{method} /x", "Host: h.test"), None)[0] == status
        assert where == b""
    with pytest.raises(ClientError, match="no route of this name is for such a request"):
        names.named("@spare", asked("PUT /x", "Host: h.test"))


def test_an_error_without_a_page_leads_nowhere():
    pages = ErrorPages((ErrorPage(500, 599, "https://b.test/"),), True)
    request = asked("GET /x", "Host: h.test")
    assert pages.place(404, inner(), request, True, False) is None
    place = pages.place(503, inner(), request, True, False)
    assert place is not None and place.status == 302


@pytest.mark.parametrize(
    ("method", "by_path", "by_name"), [("POST", 201, 202), ("GET", 201, 201), ("HEAD", 203, 203)]
)
def test_a_page_by_its_path_is_asked_for_by_get_and_one_by_its_name_as_it_came(
    method, by_path, by_name
):
    found = inner(
        *(
            Route(when=(("$method", one),), respond=Respond(status), **where)
            for where in ({"path": "/page"}, {"named": "@page"})
            for one, status in (("GET", 201), ("POST", 202), ("HEAD", 203))
        )
    )
    request = asked(f"{method} /x", "Host: h.test")
    for to, status in (("/page", by_path), ("@page", by_name)):
        place = ErrorPages((ErrorPage(404, 404, to),), True).place(404, found, request, True, False)
        assert place is not None and place.target.answer.status == status
        assert place.keeps == (to == "@page")


@pytest.mark.parametrize(
    ("cache", "lines"), [("no-cache", b"Cache-Control: no-cache\r\n"), (None, b"")]
)
def test_a_redirect_in_place_of_an_error_may_be_kept_as_the_route_says(cache, lines):
    pages = ErrorPages((ErrorPage(404, 404, "https://b.test/", 301),), False, cache)
    place = pages.place(404, inner(), asked("GET /x", "Host: h.test"), True, False)
    assert place is not None and (place.status, place.lines) == (301, lines)


@pytest.mark.parametrize("guarded", [False, True])
def test_an_error_does_not_show_what_a_guard_stands_before(guarded):
    """Neither by its path nor by its name, also where the route answers by itself."""
    config = single(())
    routes = (
        Route("/secret", respond=Respond(200, "secret")),
        Route(named="@secret", respond=Respond(200, "secret")),
    )
    targets = [RouteTarget(config, Site(routes=routes), route) for route in routes]
    for target in targets:
        target.guard = object() if guarded else None
    found, request = InnerRoutes(routes, targets), asked("GET /x", "Host: h.test")
    for to in ("/secret", "@secret"):
        pages = ErrorPages((ErrorPage(404, 404, to),), True)
        place = pages.place(404, found, request, True, False)
        assert (place is None) == guarded
