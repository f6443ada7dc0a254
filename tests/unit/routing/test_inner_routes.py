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
