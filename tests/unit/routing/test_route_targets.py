"""What a route of the configuration is prepared for."""

from rawproxy.config.model import Route, Site, Upstream, single
from rawproxy.routing.route_targets import RouteTarget


def test_an_upstream_may_name_itself_with_and_without_its_own_port():
    """What it says of its own places becomes the client's, however it calls itself."""
    route = Route("/app", replace_prefix="/")
    upstreams = (
        Upstream("http://in.test", False, "in.test", 80),
        Upstream("https://in6", True, "2001:db8::1", 9443),
    )
    config = single(upstreams)
    target = RouteTarget(config, Site(routes=(route,)), route)
    assert target.edits is not None and target.edits.map is not None
    for said, anew in (
        ("http://in.test/x", "/app/x"),
        ("http://in.test:80/x", "/app/x"),
        ("https://[2001:db8::1]:9443/x", "/app/x"),
        ("https://[2001:db8::1]/x", "https://[2001:db8::1]/x"),
    ):
        block = target.edits.map(f"Location: {said}\r\n".encode(), b"out.test", 200)
        assert block.decode() == f"Location: {anew}\r\n"
