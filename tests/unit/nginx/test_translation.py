"""A file into ours: what is refused is refused with file and line, and nothing is left unsaid."""

import re
import tomllib

import pytest
from click.testing import CliRunner

from docs import write_from_nginx
from rawproxy.cli import rawproxy, reread
from rawproxy.errors import ConfigError
from rawproxy.nginx.translation import served, translated
from rawproxy.nginx.words import WORDS
from tests.nginx.stand import CONFIGS

SERVER = "server {{ listen 8080; server_name a.test; {} }}\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "site.conf"
        path.write_text(text)
        return str(path)

    return write


def proxied(more: str) -> str:
    return SERVER.format(f"location / {{ proxy_pass http://127.0.0.1:1; {more} }}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SERVER.format("return 99;"), "no status of an answer"),
        (SERVER.format("location ~ ^/(?!a) { return 200; }"), "looking ahead"),
        (SERVER.format("location / { try_files $uri @app; }"), "no files are served here"),
        (SERVER.format("nonsense on;"), "not known here"),
        (SERVER.format("location /a/ { proxy_pass http://u:1/b?c=1; }"), "would stand behind the query"),
        (SERVER.format("location / { if (-f $request_filename) { return 403; } }"), "only variables"),
        (SERVER.format("if ($upstream_status = 1) { return 403; }"), "$upstream_status is not known"),
        (SERVER.format("if ($arg_a = $arg_b) { return 403; }"), "two values are not compared"),
        (SERVER.format("if ($arg_a) { set $x 1; } rewrite ^/a/(.*) /b/$1 last;"), "beside an if or a map"),
        (SERVER.format("rewrite ^/a /b; rewrite ^/b /c;"), "type one for both, or `last`"),
        (SERVER.format("rewrite ^/a /b; if ($uri = /b) { return 403; }"), "has changed"),
        (SERVER.format("set $x $uri; location / { rewrite ^ /b last; }"), "$x is made of a path"),
        (SERVER.format("set $x 1; location / { set $x 2; rewrite ^ /b last; }"), "$x is set again"),
        (SERVER.format("set $x 1; if ($arg_a) { set $x 2; rewrite ^ /b last; }"), "$x is another one"),
        ("map $uri $m { /a 1; }\n" + SERVER.format("location / { if ($m) { rewrite ^ /b last; } }"), "$m is made of"),
        (SERVER.format("location /a { location /a/b { return 200; } }"), "a location within"),
        ("map $b $a { x y; }\nmap $a $b { x y; }\n" + proxied("add_header X $a;"), "made of itself"),
        (SERVER.format("".join(f"if ($arg_{n}) {{ set $a{n} 1; }}" for n in range(8))), "more than 64 ways"),
        (proxied("proxy_set_header X-Up $upstream_addr;"), "$upstream_addr is not known here"),
        (proxied("proxy_set_body x;"), "the body passes as it came"),
        (proxied("proxy_redirect ~^http://(?=x)(.*)$ http://$1;"), "looking ahead"),
        (proxied("proxy_redirect http://x/ http://$1/;"), "$1 is not known here"),
        (proxied("proxy_cookie_path / '/; Secure';"), "set its cookies' flags"),
        (proxied("expires @15h30m;"), "type a time from now on"),
        (proxied("expires modified +24h;"), "type a time from now on"),
        (proxied("expires $expires;"), "type a time from now on"),
        (SERVER.format("auth_request /auth; location = /auth { return 200; }"), "has to be a proxy_pass"),
        (SERVER.format("location = / { auth_request /auth; }"), "no location for it"),
        (proxied("auth_request_set $x $upstream_status;"), "only its answer's fields"),
        (proxied("limit_req zone=z;"), "no limit_req_zone"),
        ("limit_req_zone $uri zone=z:1m rate=1r/s;" + proxied("limit_req zone=z;"), "counted by $uri"),
        ("limit_conn_zone $uri zone=z:1m;" + proxied("limit_conn z 1;"), "not by $uri"),
        (proxied("auth_basic x;"), "without auth_basic_user_file"),
        (proxied("error_page 502 = @x;"), "no files are served here"),
        (proxied("error_page 301 /x;"), "only errors lead elsewhere"),
        (proxied("error_page 404 /f; proxy_intercept_errors on; } location /f { root /x;"), "no files are served"),
        (proxied("error_page 404 @f; } location @f { proxy_pass http://a:1; deny all;"), "one for everybody"),
        (SERVER.format("rewrite ^/a /b; error_page 404 /f; location /f { proxy_pass http://a:1; }"), "lead to an @name"),
        (SERVER.format("location / { proxy_pass http://$http_x; }"), "differs from request"),
        ("upstream u { server a:1; hash $uri; }\nserver { location / { proxy_pass http://u; } }", "of $remote_addr alone"),
        ("upstream u { server a:1 down; }\nserver { location / { proxy_pass http://u; } }", "is up"),
        ("server { server_name a.x ~^(?<sub>.+)[.]x$; return 200 $sub; }", "has to be the only one"),
        ("server { server_name a.* ~^x$; }", "type the names"),
        ("server { server_name a.* a.b.*; }", "one begins the other"),
        ("server { listen 1 default_server; }\nserver { listen 1 default_server; }", "a second default_server"),
        ("set_real_ip_from ::1; real_ip_header X-A; server { real_ip_header X-B; }", "one real_ip_header"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_and_what_to_type(written, text, why):
    path = written(text)
    with pytest.raises(ConfigError) as caught:
        reread(["--nginx", path])
    said = str(caught.value)
    assert why in said and path in said
    assert said.startswith(f"{path}:") or " as TOML:" in said


def test_what_is_no_nginx_file(written, tmp_path):
    path = written("server { listen 80;\n proxy_pass x\n}\n}")
    with pytest.raises(ConfigError, match=rf"^{path}:3: unexpected"):
        translated(path)
    with pytest.raises(ConfigError, match="No such file"):
        translated(str(tmp_path / "nothing.conf"))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.conf")), ids=lambda path: path.stem)
def test_every_directive_has_its_word(path):
    made = translated(str(path))
    assert not made.refused
    lines = {one.place for one in made.remarks}
    text = re.sub(
        r"^map [^}]+}", lambda match: "\n" * match[0].count("\n"), path.read_text(), flags=re.M
    )
    for number, line in enumerate(text.splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text.endswith(";") and "''" not in text and "default " not in text:
            assert f"{path}:{number}" in lines, line
    assert tomllib.loads(made.text)["site"]


def test_it_becomes_a_configuration(written):
    config = reread(
        ["--nginx", written(proxied("proxy_read_timeout 5s; client_max_body_size 2m;"))]
    )
    named, unnamed = config.sites
    assert (named.names, unnamed.names) == (("a.test",), ())
    route = named.routes[0]
    assert (route.limits.body, route.deadlines.response_head) == (2 << 20, 5)
    assert route.request_headers.set == (("Host", "127.0.0.1:1"),)
    assert not config.redirect and not config.https


def test_the_parameters_of_an_upstreams_servers(written):
    block = "upstream u {{ server a:1 {0}; server b:1 {1}; keepalive 9; }}\n"
    use = "server { listen 8080; location / { proxy_pass http://u; } }"
    same = "max_conns=5 slow_start=30s max_fails=2"
    group = reread(["--nginx", written(block.format(same, same + " weight=3 backup") + use)])
    (found,) = group.groups
    assert (found.max_upstream, found.keepalive, found.slow_start) == (5, 5, 30)
    assert [(one.weight, one.backup) for one in found.upstreams] == [(1, False), (3, True)]
    for name in ("max_conns=5", "slow_start=3s", "max_fails=2", "route=a"):
        with pytest.raises(ConfigError, match=name.partition("=")[0]):
            served(written(block.format(name, "") + use))


def test_names_by_expressions_and_wildcards(written):
    location = "location / { proxy_pass http://127.0.0.1:1; add_header X $server_name; }"
    text = "".join(
        f"server {{ listen 8080; server_name {name}; {location} }}"
        for name in ("_", "App.*", ".b.test *.c.b.test")
    )
    sites = tomllib.loads(served(written(text)).text)["site"]
    names = [(one.get("server-name"), one.get("server-name-regex")) for one in sites]
    assert names == [
        (None, None), (None, [r"^app\..+$"]), (["b.test", "**.b.test", "**.c.b.test"], None),
    ]  # fmt: skip
    first = [one["route"][0]["response-headers"]["add"]["X"] for one in sites]
    assert first == ["_", "app.*", "b.test"]
    (one,) = tomllib.loads(
        served(written(f"server {{ listen 1; server_name ~^W[0-9]+; {location} }}")).text
    )["site"][:1]
    assert one["server-name-regex"] == ["(?i)^W[0-9]+"]


def test_one_resolver_for_the_whole_file(written):
    path = written("resolver 127.0.0.11 valid=30s;\n" + proxied("resolver 127.0.0.11;"))
    assert reread(["--nginx", path]).resolver.host == "127.0.0.11"
    path = written(proxied("resolver 127.0.0.11;") + "resolver 127.0.0.53;")
    with pytest.raises(ConfigError, match=r":2: refused: resolver .*: one resolver"):
        served(path)


def routes_of(written, text: str) -> list[dict]:
    """The routes that are served under a.test."""
    return tomllib.loads(served(written(text)).text)["site"][0]["route"]


def test_an_if_of_a_server_comes_before_its_locations(written):
    text = "if ($request_method ~ ^(TRACK|TRACE)$) { return 405; } location / { return 200 x; }"
    first, other = routes_of(written, SERVER.format(text))
    assert first == {
        "path": "/", "as-nginx": True, "first": True, "when": {"$method": "~^(?:TRACK|TRACE)$"},
        "respond": {"status": 405},
    }  # fmt: skip
    assert other["path"] == "/" and "when" not in other
    text = "if ($host ~* ^www\\.(?<rest>.+)$) { return 301 https://$rest$request_uri; }"
    first, *_ = routes_of(written, SERVER.format(text))
    assert first["when"] == {"$host": "~*^www\\.(.+)$"}
    assert first["redirect"] == "https://$1$request_uri"


def test_where_nginx_looks_for_files_few_methods_are_allowed(written):
    """It answers the others by 405 before it looks, and `error_page 405` leads on from there."""
    text = "error_page 405 /pages; location /pages { return 200 x; } location /files { root /srv; }"
    *found, other, rest = [one for one in routes_of(written, SERVER.format(text)) if "status" in
                           one.get("respond", {}) and one["respond"]["status"] != 200]  # fmt: skip
    assert [(one["path"], one["respond"]["status"]) for one in found] == [
        ("/files", 405), ("/files", 404),
    ]  # fmt: skip
    assert found[0]["when"] == {"$method": ["!GET", "!HEAD", "!POST"]} and "when" not in found[1]
    assert other == {**rest, "when": found[0]["when"], "respond": {"status": 405}}
    assert rest["path"] == "/" and found[0]["error-page"] == rest["error-page"] == {"405": "/pages"}


def test_a_redirect_to_a_part_of_the_name_that_was_asked_for(written):
    text = "if ($host ~* ^www[.](.+)$) { return 301 https://$1$request_uri; } return 301 https://www.$host/;"
    first, other = reread(["--nginx", written(SERVER.format(text))]).sites[0].routes
    assert first.redirect.target == "https://$1$request_uri"
    assert other.redirect.target == "https://www.$host/"


def test_what_an_if_sets_and_a_later_one_asks(written):
    text = """set $block 0;
    if ($http_user_agent ~* bot) { set $block 1; }
    if ($uri = /robots.txt) { set $block 0; }
    if ($block) { return 403; }
    location / { proxy_pass http://127.0.0.1:1; }"""
    routes = routes_of(written, SERVER.format(text))
    (answered,) = [one for one in routes if "first" in one]
    passed = [one for one in routes if "first" not in one]
    assert answered["when"] == {"$http_user_agent": "~*bot", "$uri": "!/robots.txt"}
    assert [one["when"] for one in passed] == [
        {"$http_user_agent": "~*bot", "$uri": "/robots.txt"},
        {"$http_user_agent": "!~*bot", "$uri": "/robots.txt"},
        {"$http_user_agent": "!~*bot", "$uri": "!/robots.txt"},
    ]
    assert all(one["group"] == "127-0-0-1-1" for one in passed)


def test_the_last_if_of_a_location_has_its_say_in_all(written):
    text = """proxy_set_header X-A outer; if ($arg_a) { proxy_set_header X-A a; }
    if ($arg_b = b) { add_header X-B b; proxy_pass http://127.0.0.1:2; }"""
    both, a, b, none = routes_of(written, proxied(text))
    assert both["when"] == {"$arg_a": ["!", "!0"], "$arg_b": "b"}
    assert both["group"] == b["group"] == "127-0-0-1-2"
    assert both["request-headers"]["set"]["X-A"] == "outer", "of the if that came last"
    assert a["request-headers"]["set"]["X-A"] == "a"
    assert b["response-headers"] == {"add": {"X-B": "b"}} and "when" not in none


def test_a_map_is_a_choice_among_routes(written):
    maps = """map $http_origin $cors { default ""; "~^https://(.+)\\.a\\.test$" $http_origin; x.test y; }
    map $host $pool { hostnames; default 127.0.0.1:1; *.b.test 127.0.0.1:2; .c.test 127.0.0.1:3; d.* 127.0.0.1:4; }"""
    routes = routes_of(written, maps + proxied("add_header X-Cors $cors;"))
    assert [(one.get("when"), one["response-headers"]["add"]["X-Cors"]) for one in routes[:2]] == [
        ({"$http_origin": "~*^x\\.test$"}, "y"),
        ({"$http_origin": "~^https://(?:.+)\\.a\\.test$"}, "$http_origin"),
    ]
    assert "response-headers" not in routes[2] and "when" not in routes[2]
    routes = routes_of(written, maps + SERVER.format("location / { proxy_pass http://$pool; }"))
    assert [(one.get("when", {}).get("$host"), one["group"][-1]) for one in routes] == [
        ("~*^.+[.]b\\.test$", "2"), ("~*^(?:.+[.])?c\\.test$", "3"), ("~*^d[.].+$", "4"), (None, "1"),
    ]  # fmt: skip


def test_a_guard_in_front_of_a_location(written):
    text = """location / { auth_request /auth; error_page 401 = @login;
      auth_request_set $user $upstream_http_x_user; auth_request_set $mail $upstream_http_x_mail;
      auth_request_set $c $upstream_http_set_cookie; add_header Set-Cookie $c;
      proxy_set_header X-User $user; proxy_set_header Remote-Mail $mail; proxy_pass http://127.0.0.1:1; }
    location = /auth { internal; proxy_pass http://127.0.0.1:2/check; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; proxy_set_header Host $host; proxy_set_header X-Uri $request_uri; }
    location @login { return 302 https://sso.test/?rd=$scheme://$http_host$request_uri; }
    location /open { proxy_pass http://127.0.0.1:1; proxy_set_header X-User $user;
      auth_request_set $user $upstream_http_x_user; }"""
    document = tomllib.loads(served(written(SERVER.format(text))).text)
    assert document["auth"] == {"auth": {
        "kind": "request", "group": "127-0-0-1-2", "path": "/check", "timeout": 60,
        "headers": {"X-Uri": "$request_uri"}, "copy": ["X-User"], "copy-as": {"Remote-Mail": "x-mail"},
        "sign-in": "https://sso.test/?rd=$scheme://$http_host$request_uri",
    }}  # fmt: skip
    routes = {one["path"]: one for one in document["site"][0]["route"]}
    assert routes["/"]["auth"] == "auth" and "auth" not in routes["/open"]
    assert routes["/auth"]["respond"] == {"status": 404}
    assert routes["/open"]["request-headers"]["remove"] == ["X-User"]


def test_lists_passwords_and_rates(written, tmp_path):
    zones = "limit_req_zone $binary_remote_addr zone=one:10m rate=30r/m; limit_conn_zone $remote_addr zone=c:1m;"
    text = """satisfy any; allow 10.0.0.0/8; deny all; auth_basic "Members"; auth_basic_user_file m;
    location /a { proxy_pass http://127.0.0.1:1; limit_req zone=one burst=5 nodelay; limit_conn c 3; }
    location /b { proxy_pass http://127.0.0.1:1; auth_basic off; allow all; }
    location /c { return 204; }"""
    routes = {one["path"]: one for one in routes_of(written, zones + SERVER.format(text))}
    shared = {
        "deny": ["!10.0.0.0/8", "all"],
        "basic-auth": "m",
        "realm": "Members",
        "satisfy": "any",
    }
    assert routes["/a"].items() >= shared.items()
    assert routes["/a"]["request-rate"] == {"requests": 30, "per": 60, "zone": "one", "burst": 5}
    assert routes["/a"]["connections"] == 3
    assert routes["/b"]["deny"] == ["!all"] and "basic-auth" not in routes["/b"]
    assert not routes["/c"].keys() & shared.keys(), "return comes first"
    assert routes["/"].items() >= shared.items() and routes["/"]["respond"] == {"status": 404}


def test_options_beside_it(written):
    path = written(proxied(""))
    assert reread(["--nginx", path, "--workers", "2"]).workers == 2
    with pytest.raises(ConfigError, match=f"--http stands in {path} already"):
        reread(["--nginx", path, "--http", ":8081"])
    with pytest.raises(ConfigError, match="--nginx and --config exclude each other"):
        reread(["--nginx", path, "--config", path])


def test_the_command_writes_the_file_and_says_the_rest(written, tmp_path):
    path, out = written(proxied("proxy_http_version 1.1;")), tmp_path / "out.toml"
    done = CliRunner().invoke(rawproxy, ["import-nginx", path, "-o", str(out)])
    assert done.exit_code == 0
    assert f"{path}:1: different on purpose: proxy_http_version 1.1: always 1.1" in done.stderr
    assert tomllib.loads(out.read_text()) == served(path).tables
    done = CliRunner().invoke(rawproxy, ["import-nginx", written(proxied("proxy_store on;"))])
    assert done.exit_code == 1 and "refused" in done.stderr


def test_the_page_is_current():
    assert write_from_nginx.PAGE.read_text() == write_from_nginx.page(), "type make docs"
    assert all(f"| `{name}` |" in write_from_nginx.page() for name in WORDS)


def config_of(written, inner: str):
    return reread(["--nginx", written("server { listen 8080; " + inner + " }")])


def route_of(written, location: str, at: int = 0):
    text = "server { listen 8080; " + location + " }"
    return reread(["--nginx", written(text)]).sites[0].routes[at]


def test_a_uri_of_proxy_pass_replaces_to_the_letter(written):
    route = route_of(written, "location /a/ { proxy_pass http://a:1/b; }")
    assert (route.path, route.replace_prefix, route.as_nginx) == ("/a/", "/b", True)
    assert route_of(written, "location = /a { proxy_pass http://a:1/b?c=1; }").rewrite == "/b?c=1"


@pytest.mark.parametrize(
    ("said", "pairs"),
    [
        ("", (("http://a:1/", "/"),)),
        ("proxy_redirect default;", (("http://a:1/", "/"),)),
        ("proxy_redirect off;", ()),
        ("proxy_redirect http://x/ /y/; proxy_redirect http://x/ /z/;", (("http://x/", "/y/"),)),
    ],
)
def test_where_the_upstream_sends_clients(written, said, pairs):
    for location in ("/b/", "~ ^/c"):
        route = route_of(written, f"location {location} {{ proxy_pass http://a:1; {said} }}")
        assert route.mapping.locations == pairs
    for location in ("/b/", "= /b"):
        route = route_of(written, f"location {location} {{ proxy_pass http://a:1/c/; }}")
        assert route.mapping.locations == (("http://a:1/c/", location.removeprefix("= ")),)
        assert not route.mapping.back or route.rewrite


def test_where_the_upstream_sends_clients_by_expressions(written):
    said = "proxy_redirect ~*^http://(?<host>[^/]+)(/.*)$ $scheme://$host.x$2; proxy_redirect http://$host/ /;"
    route = route_of(
        written, f"location / {{ proxy_pass http://a:1; {said} proxy_cookie_path ~^/in(/|$) /$1; }}"
    )
    assert route.mapping.locations == (
        ("~*^http://([^/]+)(/.*)$", "$scheme://$1.x$2"),
        ("http://$host/", "/"),
    )
    assert route.mapping.cookie_paths == (("~^/in(/|$)", "/$1"),)


@pytest.mark.parametrize(
    ("said", "ours"),
    [("30d", "max-age=2592000"), ("1m30s", "max-age=90"), ("0", "max-age=0"), ("+1h", "max-age=3600"),
     ("max", "max-age=315360000"), ("epoch", "no-cache"), ("-1", "no-cache"), ("off", None)],
)  # fmt: skip
def test_how_long_answers_may_be_kept(written, said, ours):
    inner = (
        f"expires {said}; location / {{ proxy_pass http://a:1; }} location /x {{ return 200 x; }}"
    )
    for route in config_of(written, inner).sites[0].routes:
        assert route.cache_control == ours


@pytest.mark.parametrize(
    ("said", "ours"),
    [("", "X-Real-IP"), ("real_ip_header CF-Connecting-IP;", "CF-Connecting-IP"),
     ("real_ip_header X-Forwarded-For;", ""), ("real_ip_header proxy_protocol;", "")],
)  # fmt: skip
def test_how_a_proxy_before_us_names_the_client(written, said, ours):
    text = f"set_real_ip_from 10.0.0.0/8; {said} server {{ listen 8080; return 200; }}"
    assert reread(["--nginx", written(text)]).client_field == ours


def test_what_the_groups_of_a_name_keep(written):
    text = "server { listen 8080; server_name ~^(?<sub>[a-z]+)[.]x$; location / { return 302 https://$sub.y/; } }"
    named, unnamed = reread(["--nginx", written(text)]).sites
    (route,) = named.routes
    assert route.when == (("$host", "~(?i)^([a-z]+)[.]x$"),)
    assert route.redirect.target == "https://$1.y/"
    (route,) = unnamed.routes  # the only server of the address serves other names too
    assert (route.when, route.redirect.target) == ((), "https://.y/")


def test_a_variable_ends_where_it_ended_in_the_file(written):
    text = "set $a $http_x; set $b $$args; location / { return 200 ${a}other$b-${host}s; }"
    assert route_of(written, text).respond.body == "${http_x}other$$$args-${host}s"


def test_what_is_said_several_times_or_empty(written):
    lines = "add_header A 1; add_header A 2; add_header A 3; proxy_set_header B 1; proxy_set_header B 2;"
    empty = 'add_header C ""; set $nothing ""; proxy_set_header D $nothing;'
    route = route_of(written, f"location / {{ {empty} proxy_pass http://a:1; {lines} }}")
    assert route.response_headers.add == (("A", "1"), ("A", "2"), ("A", "3"))
    assert [one for one in route.request_headers.set if one[0] != "Host"] == [
        ("B", "1"),
        ("B", "2"),
    ]
    assert route.request_headers.remove == ("D",)
    assert route_of(written, 'location / { return 204 "never sent"; }').respond.body == ""


def test_a_blank_in_a_redirect_is_escaped(written):
    assert route_of(written, 'return 301 "/a b$uri";').redirect.target == "/a%20b$uri"


def test_what_answers_for_a_whole_server_has_its_headers(written):
    route = route_of(written, "add_header A 1; return 301 https://$host$request_uri;")
    assert route.response_headers.add == (("A", "1"),)


def test_what_a_rewrite_has_changed_is_not_taken_for_what_came(written):
    rewrite = "rewrite ^/a/(.*)$ /$1 break; proxy_pass http://a:1;"
    with pytest.raises(ConfigError, match="behind a rewrite"):
        route_of(written, f"location /a/ {{ {rewrite} add_header A $uri; }}")
    assert route_of(written, f"location /a/ {{ {rewrite} add_header A $request_uri; }}")


def test_a_path_that_is_looked_up_again_becomes_a_route_with_again(written):
    more = "location /a/ { internal; proxy_pass http://a:1; }"
    rewrites = "rewrite ^/b/(.*)$ /a/$1 last; rewrite ^/c /d?x? break;"
    site = config_of(written, f"{rewrites} location /e {{ rewrite ^ /a/; }} {more}").sites[0]
    first = [route for route in site.routes if route.first]
    assert [(one.rewrite, one.again) for one in first] == [("/a/$1", True), ("/d?x?", True)]
    (moved,) = [route for route in site.routes if route.path == "/e"]
    assert moved.again and moved.rewrite == "/a/" and moved.group is None
    assert {route.path for route in site.routes if route.internal} == {"/a/", "/a"}


def test_an_error_page_becomes_a_key_of_each_route(written):
    pages = (
        "error_page 404 403 =200 /e/x; error_page 502 @sorry; error_page 404 https://never.test/;"
    )
    inner = "location @sorry { return 503 x; } location /e/ { internal; proxy_pass http://a:1; }"
    ours = "location = /50x { root /files; } location /f { error_page 500 /50x; proxy_pass http://a:1; }"
    routes = config_of(written, f"{pages} proxy_intercept_errors on; {inner}").sites[0].routes
    for route in routes:
        assert [(one.first, one.to, one.answer) for one in route.error_pages] == [
            (404, "/e/x", 200), (403, "/e/x", 200), (502, "@sorry", -1),
        ]  # fmt: skip
        assert route.intercept or route.path == "/e"
    assert [one.respond.status for one in routes if one.named == "@sorry"] == [503]
    routes = config_of(written, f"error_page 502 @sorry; {inner} {ours}").sites[0].routes
    assert not any(one.intercept for one in routes)
    (route,) = [one for one in routes if one.path == "/f"]
    assert route.error_pages == ()  # a page of ours, as no files are served


def test_a_401_of_a_guard_leads_to_no_page(written):
    text = """location / { auth_request /auth; error_page 401 403 https://z/; proxy_pass http://a:1; }
    location = /auth { internal; proxy_pass http://a:1; }"""
    (route,) = [one for one in config_of(written, text).sites[0].routes if one.path == "/"]
    assert [one.first for one in route.error_pages] == [403]


def test_a_location_that_nothing_leads_to_is_not_there(written):
    routes = config_of(written, "location /a/ { internal; proxy_pass http://a:1; }").sites[0].routes
    assert all(route.respond.status == 404 for route in routes if route.path == "/a/")


@pytest.mark.parametrize(
    ("names", "ours", "said"),
    [
        ("*.A.test", ("**.a.test",), "*.a.test"),
        (".a.test b.test", ("a.test", "**.a.test", "b.test"), "a.test"),
        ("_", (), "_"),
    ],
)
def test_names_of_a_server(written, names, ours, said):
    text = f"server {{ listen 8080; server_name {names}; return 200 $server_name; }}"
    site = reread(["--nginx", written(text)]).sites[0]
    assert (site.names, site.routes[0].respond.body) == (ours, said)


def test_a_location_for_all_before_regexes_is_the_only_one_for_all(written):
    text = "server { listen 8080; location ^~ / { proxy_pass http://a:1; } }"
    (site,) = reread(["--nginx", written(text)]).sites
    assert [(one.path, one.before_regex) for one in site.routes] == [("/", True)]


def test_an_exact_location_with_a_slash_is_led_to_as_well(written):
    routes = config_of(written, "location = /a/ { proxy_pass http://a:1; }").sites[0].routes
    (route,) = [one for one in routes if one.path == "/a"]
    assert (route.path, route.exact, route.redirect.status) == ("/a", True, 301)
