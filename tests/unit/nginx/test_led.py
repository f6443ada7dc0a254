"""What an error or a missing slash leads to: found whatever the server's ifs have said of a request."""

import pytest

from rawproxy.cli import reread
from rawproxy.config.model import Route
from rawproxy.errors import ConfigError

NAMED = "location @spare { proxy_pass http://a:1; proxy_set_header X-Spare $uri; }"
PAGES = f"error_page 403 404 = @spare; {NAMED} location / {{ proxy_pass http://a:1; }}"
BY_PATH = "error_page 403 /x; location /x { return 200 x; } location / { proxy_pass http://a:1; }"
MAPPED = "map $uri $bad { /bad 1; }"
# Both ways go on to the locations, so each of these says what the other one is not.
TWO = "set $own plain; if ($arg_q = 1) { set $own asked; } if ($cookie_no = 1) { return 403; }"


@pytest.fixture
def routes(tmp_path):
    def of(inner: str, name: str = "a.test") -> tuple[Route, ...]:
        path = tmp_path / "site.conf"
        path.write_text(f"{MAPPED}\nserver {{ listen 8080; server_name {name}; {inner} }}\n")
        return reread(["--nginx", str(path)]).sites[0].routes

    return of


def named(found: tuple[Route, ...]) -> list[Route]:
    return [route for route in found if route.named is not None]


@pytest.mark.parametrize("ifs", ["if ($cookie_no = 1) { return 403; }", TWO])
def test_a_named_route_is_for_whatever_the_ifs_of_the_server_say(routes, ifs):
    (route,) = named(routes(ifs + PAGES))
    assert route.when == ()
    assert dict(route.request_headers.set)["X-Spare"] == "$uri"


def test_where_it_says_what_they_have_set_each_way_has_its_own(routes):
    found = named(routes(TWO + "add_header X-Own $own;" + PAGES))
    said = [(dict(one.when), dict(one.response_headers.add)["X-Own"]) for one in found]
    refused = [one for one in said if one[0].get("$cookie_no") == "1"]
    assert sorted(value for _, value in refused) == ["asked", "plain"]
    assert sorted(value for _, value in said) == ["asked", "asked", "plain", "plain"]


def test_where_no_request_reaches_a_location_an_error_still_leads_there(routes):
    found = routes(f"error_page 403 =200 @spare; {NAMED} return 403;")
    assert [one.when for one in named(found)] == [()]


def test_what_a_name_keeps_stays_with_its_test(routes):
    inner = "error_page 403 =403 @say; location @say { return 200 $sub; } return 403;"
    (route,) = named(routes(inner, "~^(?<sub>[a-z]+)[.]x$"))
    assert dict(route.when) == {"$host": "~(?i)^([a-z]+)[.]x$"}
    assert route.respond is not None and route.respond.body == "$1"


def test_a_path_that_was_made_before_the_error_is_asked_for(routes):
    (route,) = named(routes("rewrite ^ /b; return 403;" + PAGES.replace("$uri", "x")))
    assert (route.rewrite, route.again, route.when) == ("/b", False, ())


@pytest.mark.parametrize(
    "inner",
    [
        "error_page 502 @spare; location /a/ { proxy_pass http://a:1/; }" + NAMED,
        "error_page 502 @s; location @s { return 503; }"
        "location /a/ { rewrite ^/a/(.*) /$1 break; proxy_pass http://a:1; }",
        "client_max_body_size 10; location /a/ { rewrite ^/a/(.*) /b/$1 last; }"
        "location /b/ { proxy_pass http://a:1; }",
    ],
)  # fmt: skip
def test_what_such_a_refusal_advises_is_served(routes, inner):
    assert routes(inner)


HANDED = "error_page 418 = @spare; client_max_body_size 9; location / { return 418; }"


def test_what_a_return_hands_on_is_proxied_as_it_came(routes):
    """`return 418` and `error_page 418 =`: no error has an answer yet, so its body is unread."""
    for inner in (HANDED + NAMED, HANDED + NAMED.replace("$uri;", "$uri; client_max_body_size 0;")):
        (route,) = routes(inner)
        assert (route.path, route.named, route.respond, route.error_pages) == ("/", None, None, ())
        assert route.group is not None and route.limits.body == 9
        assert dict(route.request_headers.set)["X-Spare"] == "$uri"


@pytest.mark.parametrize(
    "other",
    [
        HANDED.replace("= @", "=200 @"), HANDED.replace("= @", "@"),
        HANDED.replace("return 418", "return 418 text"), HANDED + "proxy_intercept_errors on;",
        "error_page 418 /x;" + HANDED + "location /x { return 200; }",
    ],
)  # fmt: skip
def test_all_else_that_an_error_leads_to_is_a_page(routes, other):
    found = routes(other + NAMED)
    assert all(route.respond for route in found if route.path == "/" and route.named is None)


def test_what_is_handed_on_may_be_rewritten_there_but_not_looked_up_again(routes):
    made = NAMED.replace("$uri", "x").replace("{ proxy_pass", "{ rewrite ^ /b break; proxy_pass")
    (route,) = routes(HANDED + made)
    assert (route.rewrite, route.again) == ("/b", False) and route.group is not None
    first, *_ = routes(HANDED + made.replace("break", "last"))
    assert first.respond is not None and first.error_pages != ()


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        ("rewrite ^/old/(.*) /new/$1 last;" + "set $own a; if ($cookie_no = 1) { set $own b; return 403; }"
         "add_header X-Own $own;" + PAGES, "rewrite nothing"),
        ("if ($cookie_no = 1) { rewrite ^ /b; return 403; }" + PAGES.replace("$uri", "x"), "rewrite nothing"),
        ("set $own a; if ($uri = /x) { set $own b; return 403; } add_header X-Own $own;" + PAGES
         + "location /y { rewrite ^ /x last; }", "an if of the server has looked at before"),
        ("set $own a; add_header X-Own $own;" + PAGES
         + "location /y { set $own b; proxy_pass http://a:1; }", "$own is set again before an error"),
        ("if ($request_method = POST) { return 403; }" + BY_PATH, "asks for its error page by GET"),
        ("if ($request_method !~ ^(HEAD|POST)$) { return 405; }" + BY_PATH, "the method, GET, of an error page"),
        ("if ($request_method = GET) { return 405; }" + BY_PATH, "the method, GET, of an error page"),
        ("if ($bad) { return 405; }" + BY_PATH, "the path and the method"),
        ("error_page 502 @spare; location /a/ { rewrite ^/a/(.*) /$1 break; proxy_pass http://a:1; }"
         + NAMED, "a rewrite has made before the error"),
        ("location /a/ { rewrite ^/a/(.*) /b/$1 last; client_max_body_size 10; }"
         "location /b/ { proxy_pass http://a:1; }", "type it in the server"),
    ],
)  # fmt: skip
def test_what_an_error_could_not_tell_is_refused(routes, inner, why):
    with pytest.raises(ConfigError, match=r"site\.conf:2: refused") as caught:
        routes(inner)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "inner",
    [
        # What the named one does not say may be set as often as one likes, and a redirect leaves.
        "set $own a;" + PAGES + "location /y { set $own b; proxy_pass http://a:1; }",
        "if ($request_method !~* ^(get|head|post)$) { return 405; }" + BY_PATH,
        "if ($request_method = POST) { return 405; }" + BY_PATH,
        TWO + "add_header X-Own $own; rewrite ^/old /new permanent;" + PAGES,
    ],
)
def test_what_it_does_not_have_to_tell_is_served(routes, inner):
    assert any(route.error_pages for route in routes(inner))


@pytest.mark.parametrize("of_server", ["return 301 /x;", "if ($arg_a = 1) { return 301 /x; }", ""])
def test_headers_of_a_server_may_be_made_by_a_map(routes, of_server):
    """Also of what it answers itself: in the order of these routes the first one that fits counts."""
    found = routes(f"{of_server} add_header X-Bad $bad; location /a {{ proxy_pass http://a:1; }}")
    bad = [
        one for one in found if one.path == "/" and dict(one.response_headers.add) == {"X-Bad": "1"}
    ]
    good = [one for one in found if one.path == "/" and not one.response_headers.add]
    assert bad and all(("$uri", "~*^/bad$") in one.when for one in bad) and len(good) == len(bad)
    assert [one.first for one in bad[:1]] == ["if" in of_server]


@pytest.mark.parametrize(
    ("exact", "prefix", "says"),
    [
        ("proxy_pass http://a:1;", "proxy_pass http://a:1;", "exact"),
        ("return 200 x;", "proxy_pass http://a:1;", "exact"),
        ("proxy_pass http://a:1;", "return 200 x;", "exact"),
        ("", "proxy_pass http://a:1;", "prefix"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_locations_for_a_slash_the_exact_one_says_how(routes, exact, prefix, says, turned):
    both = [f"location /a/ {{ {prefix} expires 2h; add_header X prefix; }}"]
    if exact:
        both.append(f"location = /a/ {{ {exact} expires 1h; add_header X exact; }}")
    (route,) = [one for one in routes(" ".join(both[::-1] if turned else both)) if one.path == "/a"]
    assert route.redirect is not None and route.redirect.status == 301
    assert route.cache_control == {"exact": "max-age=3600", "prefix": "max-age=7200"}[says]
    assert route.response_headers.add == (("X", says),)


def test_a_slash_is_not_added_where_nobody_proxies_or_another_is_for_the_path(routes):
    two = "location /a/ { return 200 x; } location = /a/ { return 200 y; }"
    assert not [one for one in routes(two) if one.path == "/a"]
    own = "location /a/ { proxy_pass http://a:1; } location = /a { return 200 x; }"
    (route,) = [one for one in routes(own) if one.path == "/a"]
    assert route.respond is not None


MAP = "map $http_x $mapped { default none; ~^a(?<rest>.*)$ some; }\n"
COOKIES = "add_header X %s; proxy_cookie_path ~^/old(/|$) /new$1;"


@pytest.mark.parametrize(
    ("inner", "why"),
    [("proxy_set_header X %s; proxy_set_header Y $mapped;", "a map"), (COOKIES, "proxy_redirect")],
)  # fmt: skip
def test_where_nginx_takes_a_number_from_a_later_expression_a_name_is_advised(tmp_path, inner, why):
    """Each expression that fits replaces what $1 says, though it stands in front of it."""

    def read(pattern: str, group: str) -> None:
        path = tmp_path / "site.conf"
        location = f"location ~ {pattern} {{ proxy_pass http://a:1; {inner % group} }}"
        path.write_text(f"{MAP}server {{ listen 8080; {location} }}\n")
        reread(["--nginx", str(path)])

    with pytest.raises(ConfigError, match=rf"\$1: an expression of {why}.*type a name"):
        read("^/(x)", "$1")
    read("^/(?<part>x)", "$part")
    read("^/(x)", "one")
