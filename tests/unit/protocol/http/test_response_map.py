"""Location, Refresh and Set-Cookie said anew, and nothing else touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.protocol.http.path_change import PathChange
from rawproxy.protocol.http.response_map import ResponseMap

STRIPPED = ResponseMap(PathChange("/app", "/"), ["in.test:8080", "in.test"], ((), (), ()))
REPLACED = ResponseMap(PathChange("/app", "/v1"), ["in.test:8080"], ((), (), ()))
ADDED = ResponseMap(PathChange("/", "/v1"), [], ((), (), ()))
PAIRS = ResponseMap(
    None,
    ["in.test"],
    (
        [("http://in.test/", "/app/"), ("http://in.test:81/x", "https://out.test/y")],
        [("/in/", "/app/"), ("/", "/all/")],
        [("in.test", "out.test")],
    ),
)


def located(mapping: ResponseMap, name: str, value: str) -> str:
    block = mapping.of(f"A: b\r\n{name}: {value}\r\nC: d\r\n".encode(), b"Out.test", 200).decode()
    assert block.startswith("A: b\r\n") and block.endswith("\r\nC: d\r\n")
    return block.split("\r\n")[1].partition(": ")[2]


@pytest.mark.parametrize(
    ("mapping", "value", "anew"),
    [
        (STRIPPED, "/x?y#z", "/app/x?y#z"),
        (STRIPPED, "/", "/app/"),
        (STRIPPED, "/app/x", "/app/x"),
        (STRIPPED, "/app", "/app"),
        (STRIPPED, "/apple", "/app/apple"),
        (STRIPPED, "x/y", "x/y"),
        (STRIPPED, "//other.test/x", "//other.test/x"),
        (STRIPPED, "https://out.test/x", "https://out.test/app/x"),
        (STRIPPED, "https://out.test/app/x", "https://out.test/app/x"),
        (STRIPPED, "https://OUT.test", "https://OUT.test/app/"),
        (STRIPPED, "http://in.test:8080/x", "/app/x"),
        (STRIPPED, "http://in.test/app/x", "/app/x"),
        (STRIPPED, "https://other.test/x", "https://other.test/x"),
        (REPLACED, "/v1/x", "/app/x"),
        (REPLACED, "/v1", "/app"),
        (REPLACED, "/v12", "/v12"),
        (REPLACED, "/elsewhere", "/elsewhere"),
        (REPLACED, "http://in.test:8080/elsewhere", "/elsewhere"),
        (ADDED, "/v1/x", "/x"),
        (ADDED, "/x", "/x"),
        (PAIRS, "http://in.test/x", "/app/x"),
        (PAIRS, "http://in.test:81/x/z", "https://out.test/y/z"),
        (PAIRS, "https://in.test/x", "https://in.test/x"),
        (PAIRS, "/x", "/x"),
    ],
)
def test_locations(mapping, value, anew):
    assert located(mapping, "Location", value) == anew
    assert located(mapping, "refresh", f"5; url={value}") == f"5; url={anew}"


@pytest.mark.parametrize(
    ("mapping", "value", "anew"),
    [
        (STRIPPED, "a=b; Path=/", "a=b; Path=/app/"),
        (STRIPPED, "a=b; path=/x; Secure", "a=b; path=/app/x; Secure"),
        (STRIPPED, "a=b; path=/app", "a=b; path=/app"),
        (STRIPPED, "path=/x", "path=/x"),
        (STRIPPED, "a=b; Path=; Domain=in.test", "a=b; Path=; Domain=in.test"),
        (REPLACED, "a=b; Path=/v1/", "a=b; Path=/app/"),
        (REPLACED, "a=b; Path=/", "a=b; Path=/"),
        (PAIRS, "a=b; Path=/in/x; Domain=In.Test", "a=b; Path=/app/x; Domain=out.test"),
        (PAIRS, "a=b; Path=/x; Domain=other.test", "a=b; Path=/all/x; Domain=other.test"),
    ],
)
def test_cookies(mapping, value, anew):
    assert located(mapping, "Set-Cookie", value) == anew


def test_what_is_no_refresh_and_no_place_stays():
    assert located(STRIPPED, "Refresh", "5") == "5"
    block = b"X-Location: /x\r\nLink: </x>\r\n"
    assert STRIPPED.of(block, b"h", 200) is block


@given(st.text("/:.ahtp?# ", max_size=20), st.sampled_from(["Location", "Refresh", "Set-Cookie"]))
def test_whatever_comes_stays_one_line(value, name):
    block = STRIPPED.of(f"{name}: {value}\r\n".encode(), b"out.test", 200)
    assert block.count(b"\r\n") == 1 and block.endswith(b"\r\n")


def test_an_answer_that_succeeds_says_how_long_it_may_be_kept():
    mapping = ResponseMap(None, (), ((), (), ()), "max-age=60")
    said = b"Cache-Control: no-store\r\nA: b\r\nExpires: never\r\n"
    assert mapping.of(said, b"h", 200) == b"A: b\r\nCache-Control: max-age=60\r\n"
    assert mapping.of(said, b"h", 404) == said
