"""Sites by Host and routes by path: the longest, by whole segments, and no way around one."""

import contextlib
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.config.path_regex import path_regex
from rawproxy.errors import ClientError
from rawproxy.routing import match
from rawproxy.routing.match import RouteEntry, Routes, Sites, readings, unreadable


def routes(*paths: str) -> Routes[str]:
    """Routes that lead to their own paths; `=` in front of an exact one, as in nginx."""
    return Routes([RouteEntry(p.removeprefix("=").encode(), p.startswith("="), p) for p in paths])


AUTHENTIK = routes("/", "/outpost.goauthentik.io", "/ws/", "=/exact", "/outpost.goauthentik.io/a")


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (b"/", "/"),
        (b"/outpost.goauthentik.io", "/outpost.goauthentik.io"),
        (b"/outpost.goauthentik.io?x=/ws/", "/outpost.goauthentik.io"),
        (b"/outpost.goauthentik.io/", "/outpost.goauthentik.io"),
        (b"/outpost.goauthentik.io/start?rd=https://a//..", "/outpost.goauthentik.io"),
        (b"/outpost.goauthentik.io/a", "/outpost.goauthentik.io/a"),
        (b"/outpost.goauthentik.io/a/b", "/outpost.goauthentik.io/a"),
        (b"/outpost.goauthentik.io/ab", "/outpost.goauthentik.io"),
        (b"/outpost.goauthentik.iox", "/"),
        (b"/OUTPOST.goauthentik.io", "/"),
        (b"/outpostXgoauthentikXio", "/"),
        (b"/ws", "/"),
        (b"/ws/", "/ws/"),
        (b"/ws/x", "/ws/"),
        (b"/exact", "=/exact"),
        (b"/exact?a", "=/exact"),
        (b"/exact/", "/"),
        (b"*", "/"),
        # odd, but they lead to one place however they are read
        (b"/%C3%BC", "/"),
        (b"/a%2Fb", "/"),
        (b"/a//b", "/"),
        (b"/a;b=c", "/"),
        (b"/.well-known/x", "/"),
        (b"/outpost.goauthentik.io/b%2Fc;d//e", "/outpost.goauthentik.io"),
        (b"/ws/%77", "/ws/"),
        (b"/a%00b", "/"),
        (b"/a%23b/ws", "/"),
        (b"/what%3Fws", "/"),
        (b"/a%20b.", "/"),
        (b"/a./%20b%20/c...", "/"),
        (b"/ws/a%00", "/ws/"),
        (b"/v1.2/x.tar.gz", "/"),
    ],
)
def test_the_longest_path_by_whole_segments(target, value):
    assert AUTHENTIK.find(target) == value


@pytest.mark.parametrize(
    "target",
    [
        b"/%6futpost.goauthentik.io",
        b"/%256futpost.goauthentik.io",
        b"/outpost%2Egoauthentik.io",
        b"//outpost.goauthentik.io",
        b"/outpost.goauthentik.io;x",
        b"/outpost.goauthentik.io%2Fx",
        b"/outpost.goauthentik.io%252Fx",
        b"/outpost.goauthentik.io\\x",
        b"/outpost.goauthentik.io%5cx",
        b"/outpost.goauthentik.io//a",
        b"/%65xact",
        b"/exact;a",
        b"/ws%2f",
        b"/ws\\",
        b"/x/../ws/",
        b"/./ws/",
        b"/x/%2e%2E/ws/",
        b"/x/%252e./ws/",
        b"/x/..;/ws/",
        b"/x\\..\\ws/",
        b"/x/..",
        b"/x/.",
        b"/..%2Fws/",
        b"/exact%00",
        b"/exact%00.html",
        b"/exact%2500x",
        b"/exact%23x",
        b"/exact%2523",
        b"/exact%3f",
        b"/exact%3Fa/b",
        b"/exact%20",
        b"/%20exact",
        b"/exact%09%0a",
        b"/exact%2520",
        b"/exact.",
        b"/exact...",
        b"/exact%2e%20.",
        b"/exact.;x",
        b"/outpost.goauthentik.io./x",
        b"/outpost.goauthentik.io%20/a",
        b"/outpost.goauthentik.io/%20a",
        b"/outpost.goauthentik.io/a%3fx",
        b"/outpost.goauthentik.io/a%00/b",
        b"/outpost.goauthentik.io.%00",
        b"/%20/ws/",
    ],
)
def test_nobody_gets_past_a_route_by_spelling(target):
    with pytest.raises(ClientError) as caught:
        AUTHENTIK.find(target)
    assert caught.value.status == 400


def test_no_route_is_404():
    some = routes("/app", "=/")
    assert some.find(b"/app/x") == "/app"
    assert some.find(b"*") == "=/"
    for target in (b"/x", b"/apple", b"/a//b"):
        with pytest.raises(ClientError) as caught:
            some.find(target)
        assert caught.value.status == 404
    with pytest.raises(ClientError):
        Routes([]).find(b"/")


def test_verdicts_are_remembered_and_bounded():
    some = routes("/", "/app")
    for _ in range(2):
        for number in range(100):
            assert some.find(b"/%%20%d" % number) == "/"
            assert some.find(b"/%%20%d" % number) == "/"
            with pytest.raises(ClientError):
                some.find(b"/app%%00%d" % number)
    assert len(some._known) <= 64


def test_where_all_paths_lead_to_one_route_none_is_looked_at():
    assert routes("/").find(b"/x/../%2e%2e//..;/\\") == "/"
    with pytest.raises(ClientError):
        routes("=/").find(b"/a/..")


PATHS = st.lists(st.sampled_from(["", "a", "b", "ab", "a.b", "c"]), min_size=1, max_size=4).map(
    lambda parts: re.sub("//+", "/", "/" + "/".join(parts))
)
TABLES = st.lists(PATHS | PATHS.map("=".__add__), min_size=1, max_size=5, unique=True)


def reference(paths: list[str], path: str) -> str | None:
    """What the docstring says, a route at a time."""
    if f"={path}" in paths:
        return f"={path}"
    found = [
        one
        for one in paths
        if not one.startswith("=")
        and (path == one or path.startswith(one if one.endswith("/") else one + "/"))
    ]
    return max(found, key=len, default=None)


@given(TABLES, PATHS)
def test_plain_paths(paths, path):
    expected = reference(paths, path)
    if expected is None:
        with pytest.raises(ClientError):
            routes(*paths).find(path.encode())
    else:
        assert routes(*paths).find(path.encode()) == expected


@pytest.mark.parametrize("paths", [("/", "=/"), ("/", "=//a"), ("/app/x", "/b"), ("=/app/x", "/")])
@pytest.mark.parametrize(
    "path", ["/", "/app", "/app/", "/app/x", "/app/x/y", "/appx", "/b/c", "/c"]
)
def test_a_path_that_begins_like_no_route_is_not_searched_for(paths, path):
    table, expected = routes(*paths), reference(list(paths), path)
    assert table._heads is not None
    table._begins = None if path in ("/appx", "/c") else table._begins
    with contextlib.nullcontext() if expected else pytest.raises(ClientError):
        assert table.find(path.encode()) == expected


def test_whether_a_path_has_dots_is_what_its_readings_say():
    signs = [b"/", b".", b"\\", b";", b"?", b"a", b"%2e", b"%5C"]
    for size in range(5):
        for parts in itertools.product(signs, repeat=size):
            target = b"/" + b"".join(parts)
            path = match.path_of(target)
            assert match.has_dots(target) is any(map(match._DOTS, readings(path))), target


def test_where_a_path_may_begin_within_a_segment_all_are_searched():
    partial = RouteEntry(b"/app", False, "/app", partial=True)
    table = Routes([RouteEntry(b"/", False, "/"), partial])
    assert (table._heads, table.find(b"/apple"), table.find(b"/ap")) == (None, "/app", "/")
    below = RouteEntry(b"/app/", False, "/app/", partial=True)
    table = Routes([RouteEntry(b"/", False, "/", partial=True), below])
    assert table._heads == {b"/app"}
    found = [table.find(path) for path in (b"/app/x", b"/app", b"/apple/x", b"/")]
    assert found == ["/app/", "/", "/", "/"]
    expression = RouteEntry(b"~a", False, "~a", path_regex("a"))
    assert Routes([RouteEntry(b"/", False, "/"), expression])._heads is None


def spelt(path: str, data) -> bytes:
    """The same path as some server reads it."""
    pieces = []
    for char in path:
        ways = [
            char.encode(),
            b"%%%02X" % ord(char),
            b"%%%02x" % ord(char),
            b"%%25%02x" % ord(char),
        ]
        if char == "/":
            ways = (
                [
                    b"/",
                    b"//",
                    b"%2F",
                    b"\\",
                    b"%5C",
                    b"/%2f",
                    b";x/",
                    b"./",
                    b"%20/",
                    b"/%09",
                    b"%2E%2f",
                ]
                if pieces
                else [b"/", b"//"]
            )
        pieces.append(data.draw(st.sampled_from(ways)))
    ends = [b"", b"", b"%00x", b"%2500/x", b"%23", b"%3f/x", b"%20", b".", b"%2e%20.", b";x%00"]
    return b"".join(pieces) + data.draw(st.sampled_from(ends))


@given(TABLES, PATHS, st.data())
def test_however_a_path_is_spelt_it_gets_its_own_route_or_none(paths, path, data):
    if len(paths) == 1 and paths[0] == "/":
        return  # nothing to get past
    odd = spelt(path, data)
    with contextlib.suppress(ClientError):
        assert routes(*paths).find(odd) == reference(paths, path)


@given(st.text(alphabet="/a.%2eF\\;5c03", max_size=12).map(lambda text: "/" + text))
def test_a_reading_of_a_reading_is_a_reading(text):
    path = text.encode()
    assert path in set(readings(path))
    assert all(one.startswith((b"/", b"\\")) for one in readings(path))


# ── sites ───────────────────────────────────────────────────────────────────────────────────────

SITES = Sites(
    [
        (("a.test", "*.b.test"), routes("/")),
        (("x.b.test", "*.c.b.test"), routes("/", "/x")),
        ((), routes("=/")),
    ]
)


@pytest.mark.parametrize(
    ("host", "value"),
    [
        (b"a.test", "/"),
        (b"A.Test:8443", "/"),
        (b"a.test.", "/"),
        (b"y.b.test", "/"),
        (b"9-y.b.test.", "/"),
        (b"XN--4CA.B.test:80", "/"),
        (b"x.b.test", "/x"),
        (b"y.c.b.test:1", "/x"),
    ],
)
def test_sites(host, value):
    assert SITES.find(host, b"/x") == value


@pytest.mark.parametrize("host", [b"b.test", b".b.test", b"other", b"[::1]:80", b"", b"y.z.b.test",
                                  b"a_b.b.test", b"a%41.b.test", b"a~b.b.test", b"y.b.test..",
                                  b"y..b.test", b"*.b.test", b"z.x.b.test", b"(a).b.test"])  # fmt: skip
def test_other_names_are_for_the_site_without_one(host):
    assert SITES.find(host, b"/") == "=/"


@pytest.mark.parametrize(
    ("host", "value"),
    [
        (b"x.a.test", "/"),
        (b"Y.x.a.test:80", "/"),
        (b"a.test", "=/"),
        (b"b.a.test", "/b"),
        (b"x.b.a.test", "/b"),
        (b"x.c.a.test", "/c"),  # one label comes before any number
        (b"y.x.c.a.test", "/"),
        (b"a_b.a.test", "=/"),
        (b"y..a.test", "=/"),
        (b"x.other", "=/"),
        (b"." * 200 + b"a.test", "=/"),
    ],
)
def test_a_wildcard_for_any_number_of_labels(host, value):
    sites = Sites(
        [
            (("**.a.test",), routes("/")),
            (("**.b.a.test", "b.a.test"), routes("/b")),
            (("*.c.a.test",), routes("/c")),
            ((), routes("=/")),
        ]
    )
    assert sites.routes(host).find(value.removeprefix("=").encode()) == value


def test_a_site_without_names_serves_all_while_there_is_no_other():
    sites = Sites([((), routes("/"))])
    for host in (b"a.test", b"", b"[::1]:80", b"y..a.test"):
        assert sites.find(host, b"/") == "/"
    for name in ("a.test", "*.a.test", "**.a.test", "~a.test$"):
        sites = Sites([((), routes("/"))])
        sites.add((name,), routes("=/"))
        assert [sites.find(host, b"/") for host in (b"b", b"")] == ["/", "/"]
        assert sites.find(b"a.test" if name[0] == "a" else b"x.a.test", b"/") == "=/", name


def test_no_site_is_421_but_for_http_1_0():
    named = Sites([(("*.a.test",), routes("/")), (("b.test",), routes("=/"))])
    assert named.find(b"", b"/") == "/", "without a Host: the first site"
    with pytest.raises(ClientError, match=r"no site is called c\.test") as caught:
        named.find(b"c.test", b"/")
    assert caught.value.status == 421


def test_regexes_are_asked_in_order_behind_exact_paths_and_before_others():
    value = "first second exact prefix firm".split()
    entries = [
        RouteEntry(b"", False, value[0], path_regex("^/a.*[.]php$")),
        RouteEntry(b"", False, value[1], path_regex("[.]php$")),
        RouteEntry(b"/a.php", True, value[2]),
        RouteEntry(b"/", False, value[3]),
        RouteEntry(b"/firm", False, value[4], None, True),
    ]
    found = Routes(entries)
    assert found.find(b"/a.php") == "exact"
    assert found.find(b"/ab.php?x") == "first"
    assert found.find(b"/b.php") == "second"
    assert found.find(b"/b.html") == "prefix"
    assert found.find(b"/firm/b.php") == "firm"
    with pytest.raises(ClientError, match="several ways"):
        found.find(b"/b%2Ephp")
    with pytest.raises(ClientError, match="several ways"):
        found.find(b"/b.php;x")
    only = Routes(entries[:1])
    with pytest.raises(ClientError, match="no route"):
        only.find(b"/b.php")


def test_where_paths_change_dot_segments_are_refused():
    """`/../x` would come out of what the prefix stands for."""
    changed = Routes([RouteEntry(b"/", False, "v1", whole=False)])
    assert changed.find(b"/x") == "v1"
    for target in (b"/../x", b"/%2e%2e/x", b"/a/..;/x"):
        with pytest.raises(ClientError, match="dot segment"):
            changed.find(target)
    assert Routes([RouteEntry(b"/", False, "v1")]).find(b"/../x") == "v1"


def test_a_listener_without_a_site_serves_nobody():
    with pytest.raises(ClientError, match="no site is called"):
        Sites([]).find(b"a.test", b"/")
    with pytest.raises(ClientError):
        Sites([]).find(b"", b"/")


def test_a_partial_path_is_whatever_begins_so():
    loose = Routes(
        [RouteEntry(b"/app", False, "app", partial=True), RouteEntry(b"/", False, "rest")]
    )
    assert [loose.find(one) for one in (b"/app", b"/app/x", b"/apple", b"/ap")] == [
        "app", "app", "app", "rest",
    ]  # fmt: skip


UNREADABLE = [
    b"/%",
    b"/a%zz",
    b"/a/%0",
    b"/%00",
    b"/..",
    b"/a/../../b",
    b"/%2e%2e/a",
    b"/a%2f..%2F..",
    b"//..//a",
]


@pytest.mark.parametrize("path", UNREADABLE)
def test_what_nginx_cannot_read_is_refused_where_a_route_says_so(path):
    assert unreadable(path)
    for entries in (
        [RouteEntry(b"/", False, 1, as_nginx=True)],
        [RouteEntry(b"/", False, 1, as_nginx=True), RouteEntry(b"/x", False, 2)],
    ):
        with pytest.raises(ClientError) as caught:
            Routes(entries).find(path + b"?q")
        assert caught.value.status == 400
    early = RouteEntry(b"/", False, 1, first=True, as_nginx=True)
    with pytest.raises(ClientError):
        Routes([early, RouteEntry(b"/", False, 2)], conditional=True).early(path)
    assert Routes([RouteEntry(b"/", False, 1)]).find(path) == 1


@pytest.mark.parametrize(
    "path", [b"/", b"/a/../b", b"/%41%2e", b"/a/./..", b"/...", b"/a%25zz", b"/a..b/..c"]
)
def test_what_nginx_reads_is_let_in(path):
    assert not unreadable(path)
    assert Routes([RouteEntry(b"/", False, 1, as_nginx=True)]).find(path) == 1


def test_paths_that_may_have_several_readings_are_told_from_all_others():
    odd = re.compile(rb"[%;\\]|//|/\.|\.(?:/|\Z)").search
    for size in range(6):
        for letters in itertools.product(b"/.%;a", repeat=size):
            path = bytes(letters)
            is_odd = odd(path) is not None
            assert match._odd(path) is is_odd, path
            for query in (b"", b"?", b"?/..;%"):
                assert match._plain_path(path + query) == (None if is_odd else path), path
    assert match._odd(b"/a\\b") and not match._odd(b"/a.b/c..d/e")
    assert match._plain_path(b"*") == b"/"


def test_a_name_by_an_expression():
    sites = Sites(
        [
            (("a.test", "*.b.test"), routes("/")),
            (("~^(?i)APP[.]",), routes("=/app")),
            (("~[.]test$",), routes("=/test")),
        ]
    )
    assert sites.find(b"a.test", b"/") == sites.find(b"x.b.test", b"/") == "/"
    assert sites.find(b"App.test:80", b"/app") == "=/app", "the first one that matches"
    assert sites.find(b"other.test", b"/test") == "=/test"
    with pytest.raises(ClientError, match="no site is called"):
        sites.find(b"other.tld", b"/")
