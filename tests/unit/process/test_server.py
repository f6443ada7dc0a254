"""What Python could raise nowhere: whose doing it is, as each Python tells it."""

import logging
import types

import pytest

from rawproxy.process import server

NAME = b"n\xe4me.test"
OLD = {"err_msg": None, "object": NAME}
NEW = {
    "err_msg": f"Exception ignored in ssl servername callback while decoding name {NAME!r}",
    "object": None,
}


def decoding(text: bytes) -> UnicodeDecodeError:
    with pytest.raises(UnicodeDecodeError) as caught:
        text.decode("ascii")
    return caught.value


@pytest.mark.parametrize("told", [OLD, NEW], ids=["until 3.13", "since 3.14"])
def test_a_server_name_that_is_not_ascii_is_a_peers_doing(caplog, told):
    with caplog.at_level(logging.DEBUG, "rawproxy"):
        server._on_unraisable(types.SimpleNamespace(exc_value=decoding(NAME), **told))
    assert [one.levelname for one in caplog.records] == ["DEBUG"]


@pytest.mark.parametrize(
    ("error", "told"),
    [(decoding(NAME), {"err_msg": "in a destructor", "object": None}), (ValueError("x"), NEW)],
)
def test_anything_else_is_a_bug_of_ours(caplog, error, told):
    with caplog.at_level(logging.DEBUG, "rawproxy"):
        server._on_unraisable(types.SimpleNamespace(exc_value=error, **told))
    assert [one.levelname for one in caplog.records] == ["ERROR"]
