"""What errors say of a peer's bytes."""

import ast
import pathlib
import re

import pytest

import rawproxy
from rawproxy.config.model import Limits
from rawproxy.errors import DETAIL, ClientError, ProxyError, escaped
from rawproxy.protocol.http1.body import BodyError, ChunkedBody
from rawproxy.protocol.http1.head_limits import find_response
from rawproxy.protocol.http1.parser import request_parser, response_parser
from rawproxy.protocol.http2.fields import field, request
from rawproxy.protocol.http2.frames import StreamFault

LIMITS = Limits()
NOTATION = re.compile(r"\bb['\"]|bytearray").search  # bytes as Python writes them
BYTES = b"a\xffb'c\"d\\e\x80"


def test_escaped():
    assert escaped(b"plain text!") == '"plain text!"'
    assert escaped(b"\r\n\0\x7f\xff\t") == '"\\x0d\\x0a\\x00\\x7f\\xff\\x09"'
    assert escaped(b'"\\') == '"\\x22\\x5c"', "the quotes are ours, and an escape is one"


def test_a_cause_is_no_longer_than_it_need_be():
    assert ClientError("x" * 400).detail == "x" * 400
    assert len(ClientError("x" * 100_000).detail) == DETAIL + 3


REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: h\r\n%b: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n",
    b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n",
    b"%b / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/%b\r\nHost: h\r\n\r\n",
    b"GET http://%b/ HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: %b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nExpect: %b\r\n\r\n",
    b"OPTIONS / HTTP/1.1\r\nHost: h\r\n: %b\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\n%b: x\r\n\r\n",
    b"HTTP/1.1 %b OK\r\n\r\n",
    b"HTTP/%b 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n",
]


@pytest.mark.parametrize("lane", ["auto", "h11"])
@pytest.mark.parametrize("raw", [*REQUESTS, *RESPONSES])
@pytest.mark.parametrize("what", [BYTES, b"'\"\\\xff" * 9, b"\xff" * 5000])
def test_no_cause_is_in_the_notation_of_python(lane, raw, what):
    make = request_parser if raw in REQUESTS else response_parser
    with pytest.raises(ProxyError) as caught:
        make(lane, LIMITS)(raw % what, 0)
    detail = caught.value.detail
    assert not NOTATION(detail) and detail.isascii() and detail.isprintable()


def test_nor_are_others():
    with pytest.raises(ProxyError, match=r'begins "\\xffSSH\\x22"') as caught:
        find_response(b'\xffSSH"', LIMITS)
    assert not NOTATION(caught.value.detail)
    with pytest.raises(BodyError, match=r'^not a chunk size: "5\\x00h\\x0d\\x0a"$'):
        ChunkedBody(100, 100).feed(b"5\0h\r\n")
    with pytest.raises(StreamFault, match=r'the field "X\\xff"'):
        request([field(b"X\xff", b"y")], True, LIMITS)


def test_nothing_writes_a_peers_bytes_so():
    """`!r` is for what an admin typed, and for developers."""
    known = {"toml_file", "errors", "option_values", "route_values", "addresses", "endpoint", "top"}
    for path in pathlib.Path(rawproxy.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        shown = [node for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)]
        if path.stem not in known:
            assert not [ast.unparse(node) for node in shown if node.conversion == ord("r")], path
