"""Modules of a few lines: handshake, errors, engine."""

import os
import subprocess
import sys

import pytest

from rawproxy.errors import (
    CapacityError,
    ClientError,
    ConfigError,
    DialError,
    PrematureCloseError,
    ProxyError,
    Retry,
    Source,
    failure,
)
from rawproxy.protocol.http1.parser import parse_request, parse_response
from rawproxy.protocol.websocket.upgrade import check_switch

ASKED = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
GRANTED = b"Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


@pytest.mark.parametrize(
    ("asked", "granted", "wrong"),
    [
        (ASKED, GRANTED, None),
        (b"", GRANTED, "a 101 that nobody asked for"),
        (
            ASKED,
            GRANTED.replace(b"websocket", b"h2c"),
            'a 101 to "h2c" where websocket was asked for',
        ),
        (
            ASKED,
            GRANTED.replace(b"s3p", b"S3P"),
            "the Sec-WebSocket-Accept of the 101 does not match the request's key",
        ),
    ],
)
def test_rule_34_only_the_upgrade_that_was_asked_for(asked, granted, wrong):
    request = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\n" + asked + b"\r\n")
    response = parse_response(b"HTTP/1.1 101 S\r\n" + granted + b"\r\n")
    assert check_switch(request, response) == wrong


def test_errors_know_source_retry_and_status():
    assert (ProxyError("x").status, ProxyError("x").source) == (500, Source.PROXY)
    assert (ClientError("x").status, ClientError("x", 431).status) == (400, 431)
    assert (DialError("x").status, DialError("x").retry) == (502, Retry.YES)
    assert PrematureCloseError("x").retry is Retry.IF_REUSED
    assert repr(CapacityError("full")) == "CapacityError(503, 'full')"


@pytest.mark.parametrize(
    ("error", "lines", "code"),
    [
        (ConfigError("--http: a", "--https: b"), ["--http: a", "--https: b"], 2),
        (OSError("the port is taken"), ["cannot start: the port is taken"], 1),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            ["cannot start: No such file or directory: /x"],
            1,
        ),
        (PermissionError(1, "Not permitted"), ["cannot start: Not permitted"], 1),
        (KeyError("gone"), ["cannot start: KeyError: 'gone'"], 1),
        (ZeroDivisionError(), ["cannot start: ZeroDivisionError: ZeroDivisionError"], 1),
    ],
)
def test_why_it_cannot_start(error, lines, code):
    assert failure(error) == (lines, code)


def test_the_engine_of_the_standard_library_can_be_chosen():
    """Whatever else is installed; a process of its own, as the choice is made once."""
    code = (
        "from rawproxy.protocol import regex; print(regex.ENGINE, regex.all_of(rb'(a)(b)')(b'ab'))"
    )
    env = {**os.environ, "RAWPROXY_REGEX": "re"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "re [(b'a', b'b')]\n"
