"""Configurations of nginx, put together at random of what people combine. Pure.

    configurations()   a hypothesis strategy: servers, locations, headers, redirects, values
    Configuration      the text, and which names, ports and paths its requests should try

What is refused by design is left out, but for what depends on two directives. Paths overlap on
purpose: /app, /app/, /apple and expressions over them compete for the same requests.
"""

from typing import NamedTuple

from hypothesis import strategies as st

NAMES = ("a.test", "b.test", "www.a.test", "*.a.test", ".c.test", "A-1.test")
PREFIXES = (
    "/", "/app", "/app/", "/app/admin", "/app/admin/", "/api/", "/api/v1/", "/apple", "/App/",
    "/.well-known/x/", "/a+b/", "/~u/", "/x.y", "/static/", "/app/static/",
)  # fmt: skip
EXACT = ("/", "/app", "/app/", "/api/v1", "/health", "/x.y")
# Each with the number of its groups.
REGEXES = (
    (r"~ \.php$", 0), (r"~* \.(png|jpe?g)$", 1), (r"~ ^/app/([a-z]+)/(.*)$", 2),
    (r"~ ^/user/(?<name>[^/]+)", 1), (r"~ ^/(api|static)/", 1), (r"~* ^/APP", 0),
    (r"~ /admin(/|$)", 1), (r'~ "^/v[0-9]{1,2}/(.*)$"', 1), (r"~ ^/app/(.*)\.(html)$", 2),
)  # fmt: skip
URIS = ("/", "/v1", "/v1/", "/new/app/", "/app/")
VARIABLES = (
    "$host", "$http_host", "$uri", "$request_uri", "$args", "$is_args", "$arg_q", "$arg_missing",
    "$cookie_sid", "$http_x_own", "$remote_addr", "$scheme", "$request_method", "$server_name",
    "$http_user_agent", "${host}x", "$document_uri", "$query_string", "$http_cookie",
    "$mapped", "$by_name", "$own",
)  # fmt: skip
# Of every file; what no block names costs nothing.
MAPS = """map $http_x_own $mapped { default none; "" empty; 1 one; ~^a(?<second>.*)$ some; }
map $host $by_name { hostnames; default other; .a.test a; c.test c; www.* www; }"""
# In front of all locations, and in a location.
OF_SERVER = (
    "if ($request_method = DELETE) { return 405; }", "if ($http_cookie ~ sid) { set $own cookie; }",
    "if ($arg_q = 1) { set $own asked; }", "if ($mapped = one) { return 403; }",
    "if ($scheme = https) { set $own secure; }", "if ($host !~ a) { set $own elsewhere; }",
    "rewrite ^/old/(.*)$ /app/$1 last;", "rewrite ^/static/(.*)\\.html$ /api/v1/$1;",
    "rewrite ^/app/index /index.html? permanent;", "rewrite ^/x\\.y$ /user/x?y=1 last;",
)  # fmt: skip
OF_LOCATION = (
    "if ($request_method = POST) { return 405; }", "if ($http_x_own) { return 302 /own?of=$http_x_own; }",
    "if ($http_user_agent ~* ^UA) { return 410 agent; }", "if ($args ~ ^q=([0-9])) { return 200 $1; }",
    "if ($http_cookie !~* SID=) { set $own none; }", "if ($arg_missing = '') { set $own missing; }",
    "rewrite ^/app/(.*)$ /api/$1 last;", "rewrite ^/api/(.*)$ /user/$1?from=api;", "rewrite /admin /health? last;",
)  # fmt: skip
LISTS = (
    ("deny all;",), ("allow 127.0.0.0/8;", "deny all;"), ("deny 127.0.0.1;", "allow all;"),
    ("allow 10.0.0.0/8;", "deny all;"), ("deny 10.0.0.0/8;",),
)  # fmt: skip
PAGES = (
    "error_page 404 /app/missing;", "error_page 403 =200 /health;", "error_page 500 502 503 @spare;",
    "error_page 403 404 = @spare;", "error_page 401 https://login.test/?rd=$request_uri;",
    "error_page 404 =301 http://b.test$uri;", "error_page 405 410 /api/v1/x?of=$host;",
    "error_page 410 =404 @said;", "error_page 418 = @spare;",
)  # fmt: skip
NAMED = (
    "location @spare { proxy_pass http://api; proxy_set_header X-Spare $uri; }",
    'location @said { return 404 "nothing\\n"; }',
)
KEPT = ("expires 1h;", "expires -1;", "expires max;", "expires off;", "expires epoch;")
STATUSES = (200, 204, 301, 302, 307, 308, 400, 403, 404, 410, 418, 503)
UPSTREAMS = ("app", "api")


class Configuration(NamedTuple):
    """One file, and what to ask it."""

    text: str
    names: tuple[str, ...]
    listens: tuple[str, ...]
    paths: tuple[str, ...]


@st.composite
def values(draw, groups: int = 0, named: bool = False) -> str:
    """What stands as the value of a header, or in a redirect."""
    known = [*VARIABLES, *(f"${one}" for one in range(1, groups + 1)), *(["$name"] * named)]
    known = [f"${{{one[1:]}}}" if one[1:].isidentifier() else one for one in known]
    parts = draw(st.lists(st.sampled_from([*known, "-", "x", " a ", "/", "|"]), max_size=3))
    return "".join(parts).strip()


@st.composite
def request_fields(draw, groups: int = 0, named: bool = False) -> list[str]:
    """Lines of `proxy_set_header`; often none, for those around to hold."""
    if draw(st.integers(0, 2)) == 0:
        return []
    usual = (
        "Host $host", "Host $http_host", "Host $proxy_host", "Host fixed.test",
        "X-Real-IP $remote_addr", "X-Forwarded-Proto $scheme", 'Accept-Encoding ""', 'X-Own ""',
        "X-Forwarded-For $proxy_add_x_forwarded_for", "Connection close", "X-Scheme $scheme",
    )  # fmt: skip
    chosen = draw(
        st.lists(st.sampled_from(usual), max_size=4, unique_by=lambda one: one.split()[0])
    )
    if draw(st.booleans()):
        chosen.append(f'X-Made "{draw(values(groups, named))}"')
    return [f"proxy_set_header {one};" for one in chosen]


@st.composite
def response_fields(draw, groups: int = 0, named: bool = False) -> list[str]:
    """Lines of `add_header` and `proxy_hide_header`."""
    if draw(st.integers(0, 2)) == 0:
        return []
    names = draw(st.lists(st.sampled_from(("X-A", "X-B", "X-Frame-Options")), max_size=3))
    always = draw(st.sampled_from(("", " always")))
    lines = [f'add_header {name} "{draw(values(groups, named))}"{always};' for name in names]
    if draw(st.integers(0, 3)) == 0:
        lines.append(f"proxy_hide_header {draw(st.sampled_from(('X-Up', 'X-Powered-By')))};")
    return lines


@st.composite
def mappings(draw) -> list[str]:
    """Lines about what the upstream says of its own places."""
    lines = draw(
        st.lists(
            st.sampled_from(
                (
                    "proxy_redirect off;", "proxy_redirect default;",
                    "proxy_redirect http://127.0.0.1/ /;", "proxy_redirect /old/ /moved/;",
                    "proxy_redirect http://elsewhere.test/ http://a.test/;",
                    "proxy_cookie_path / /app/;", "proxy_cookie_path /old /;",
                    "proxy_cookie_domain inner.test outer.test;", "proxy_cookie_path off;",
                    "proxy_redirect http:// $scheme://;", "proxy_redirect http://$host/ /;",
                    "proxy_redirect ~^https?://[^/]+/(old|v1)(.*)$ $scheme://$host/$1-moved$2;",
                    "proxy_redirect ~*^/OLD/(?<rest>.*) /new/$rest;",
                    "proxy_cookie_domain ~^(.*)inner\\.test$ $1outer.test;",
                    "proxy_cookie_path ~^/old(/|$) /new$1;",
                )
            ),
            max_size=2,
            unique_by=lambda one: one.split()[0],
        )
    )  # fmt: skip
    return list(lines)


@st.composite
def answers(draw, groups: int = 0, named: bool = False) -> list[str]:
    """A `return`."""
    status = draw(st.sampled_from(STATUSES))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return [f"return {status};"]
    if kind == 1:
        return [f"return {draw(st.sampled_from(('http://', 'https://')))}b.test$request_uri;"]
    where = draw(st.sampled_from(("/to/", "https://$host/", "http://b.test/x?")))
    if status in (301, 302, 307, 308):
        return [f'return {status} "{where}{draw(values(groups, named))}";']
    lines = [f'return {status} "said {draw(values(groups, named))}";']
    return (["default_type text/html;"] if draw(st.booleans()) else []) + lines


@st.composite
def proxied(draw, kind: str, path: str, groups: int, named: bool) -> list[str]:
    """A `proxy_pass` and what belongs to it."""
    target = draw(
        st.sampled_from(("http://10.0.0.1:8000", *(f"http://{one}" for one in UPSTREAMS)))
    )
    lines: list[str] = []
    if kind != "~" and draw(st.booleans()):
        target += draw(st.sampled_from(URIS))
    elif kind != "~" and path.endswith("/") and path != "/" and draw(st.integers(0, 2)) == 0:
        into = draw(st.sampled_from(("/", "/v2/", "/app/")))
        lines.append(
            f"rewrite ^{path.replace('.', chr(92) + '.').replace('+', chr(92) + '+')}(.*)$ {into}$1 break;"
        )
    lines.append(f"proxy_pass {target};")
    lines += draw(request_fields(groups, named))
    lines += draw(mappings())
    more = (
        "client_max_body_size 10;", "client_max_body_size 0;", "proxy_http_version 1.1;",
        "proxy_buffering off;", "proxy_read_timeout 20s;",
    )  # fmt: skip
    return lines + draw(
        st.lists(st.sampled_from(more), max_size=2, unique_by=lambda x: x.split()[0])
    )


@st.composite
def chosen_of(draw, lines: tuple[str, ...], most: int) -> list[str]:
    """Some of these, in any order."""
    return list(draw(st.lists(st.sampled_from(lines), max_size=most, unique=True)))


@st.composite
def pages(draw) -> list[str]:
    """What is shown instead of errors; in most servers nothing."""
    if draw(st.integers(0, 2)):
        return []
    lines = draw(chosen_of(PAGES, 3))
    return lines + ["proxy_intercept_errors on;"] * draw(st.integers(0, 1))


@st.composite
def locations(draw) -> tuple[tuple[str, str], list[str]]:
    """What tells it from others of its server, and its lines."""
    kind = draw(st.sampled_from(("", "", "", "=", "^~", "~", "~")))
    groups, named = 0, False
    if kind == "~":
        head, groups = draw(st.sampled_from(REGEXES))
        named = "(?<name>" in head
        path = head
    else:
        path = draw(st.sampled_from(EXACT if kind == "=" else PREFIXES))
        head = f"{kind} {path}".strip()
    match draw(st.integers(0, 11)):
        case 3 | 7:
            lines = draw(answers(groups, named))
        case 5 if kind != "~":
            lines = []  # nothing: a file is looked for, and there is none
        case _:
            lines = draw(proxied(kind, path, groups, named))
    lines += draw(response_fields(groups, named))
    if not groups and draw(st.integers(0, 3)) == 0:
        lines = [*draw(chosen_of(OF_LOCATION, 2)), *lines]
    if draw(st.integers(0, 7)) == 0:
        lines += draw(st.sampled_from(LISTS))
    if draw(st.integers(0, 7)) == 0:
        lines.append(draw(st.sampled_from(KEPT)))
    return ("=" if kind == "=" else "", path), [f"location {head} {{", *_in(lines), "}"]


@st.composite
def servers(draw, listens: tuple[str, ...], names: tuple[str, ...], is_default: bool) -> list[str]:
    """One server."""
    default = " default_server" if is_default else ""
    lines = [f"listen {one}{' ssl' if one == '443' else ''}{default};" for one in listens]
    if "443" in listens:
        lines += ["ssl_certificate x.pem;", "ssl_certificate_key x.pem;"]
    lines.append(f"server_name {' '.join(names)};")
    lines.append(f"set $own {draw(st.sampled_from(('plain', '$request_method', '$http_x_own')))};")
    if draw(st.integers(0, 3)) == 0:
        lines += draw(chosen_of(OF_SERVER, 2))
    shown = draw(pages())
    lines += shown
    lines += draw(request_fields()) + draw(response_fields())
    if draw(st.integers(0, 19)) == 7:
        return ["server {", *_in([*lines, *draw(answers())]), "}"]
    if draw(st.integers(0, 9)) == 7 and "*" not in names[0]:
        lines.append(
            f"if ($host = {names[0].lower().lstrip('.')}) {{ return 301 https://$host$request_uri; }}"
        )
    found = draw(st.lists(locations(), min_size=4, max_size=9, unique_by=lambda one: one[0]))
    # So that no error page leads to a file, whose own 404 nginx would show.
    if (shown or draw(st.integers(0, 3))) and all(
        path != "/" for _, path in (one[0] for one in found)
    ):
        rest = draw(proxied("", "/", 0, False)) + draw(response_fields())
        found.append((("", "/"), ["location / {", *_in(rest), "}"]))
    for _, inner in found:
        lines += inner
    return ["server {", *_in([*lines, *NAMED]), "}"]


@st.composite
def configurations(draw) -> Configuration:
    """A whole file."""
    lines: list[str] = [*MAPS.splitlines()]
    for name in UPSTREAMS:
        several = draw(st.booleans())
        keep = ["keepalive 8;"] if draw(st.booleans()) else []
        inner = ["server 10.0.0.2:8000;", *(["server 10.0.0.3:8000 weight=2;"] * several), *keep]
        lines += [f"upstream {name} {{", *_in(inner), "}"]
    lines += draw(request_fields()) + draw(response_fields())
    if draw(st.integers(0, 4)) == 0:
        lines.append("underscores_in_headers on;")
    order = draw(st.permutations(NAMES))
    count = draw(st.integers(2, 4))
    listens: tuple[str, ...] = ()
    for at in range(count):
        mine = draw(st.sampled_from((("80",), ("8080",), ("80", "8080"), ("443",), ("80", "443"))))
        is_default = at == count - 1 and draw(st.booleans())
        names = tuple(order[at : at + 1]) if at < count - 1 else tuple(order[at : at + 2])
        lines += draw(servers(mine, names, is_default))
        listens += mine
    text = "\n".join(lines) + "\n"
    return Configuration(text, NAMES, tuple(dict.fromkeys(listens)), PREFIXES + EXACT)


def _in(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
