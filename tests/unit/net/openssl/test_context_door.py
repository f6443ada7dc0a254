"""The door to OpenSSL's contexts: it opens here, and stays shut where anything is not as it knows."""

import ssl
import sys
import types

import pytest

from rawproxy.net.openssl import at_start, context_door
from rawproxy.net.openssl.context_door import TICKET_KEYS, ContextDoor, Library


def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def ticket_keys(door: ContextDoor, of: ssl.SSLContext) -> bytes:
    """What OpenSSL has, by SSL_CTRL_GET_TLSEXT_TICKET_KEYS."""
    import ctypes

    buffer = ctypes.create_string_buffer(TICKET_KEYS)
    assert door._library.control(of, 58, TICKET_KEYS, buffer) == 1
    return buffer.raw


def test_it_opens_here():
    door = ContextDoor()
    assert not door.is_open
    assert door.find_out() is None
    assert door.is_open
    one, other = context(), context()
    keys = bytes(range(TICKET_KEYS))
    assert door.set_ticket_keys(one, keys)
    assert ticket_keys(door, one) == keys
    assert ticket_keys(door, other) != keys
    assert door.keep_no_sessions(one)
    assert door._library.control(one, 45, 0, None) == 0  # SSL_CTRL_GET_SESS_CACHE_MODE
    assert door._library.control(other, 45, 0, None) == 2  # the server's, as by default
    assert door.set_groups(one, b"P-256")
    assert not door.set_groups(one, b"no such group")


def test_a_subclass_has_it_in_the_same_place():
    class Mine(ssl.SSLContext):
        more = 1

    door = ContextDoor()
    door.find_out()
    mine = Mine(ssl.PROTOCOL_TLS_SERVER)
    mine.other = 2
    assert door.set_ticket_keys(mine, bytes(TICKET_KEYS))
    assert ticket_keys(door, mine) == bytes(TICKET_KEYS)


def test_keys_of_another_size_are_a_bug():
    with pytest.raises(ValueError, match="80 bytes, not 48"):
        ContextDoor().set_ticket_keys(context(), bytes(48))


def nothing_is_done(door: ContextDoor) -> None:
    assert not door.is_open
    assert not door.set_ticket_keys(context(), bytes(TICKET_KEYS))
    assert not door.keep_no_sessions(context())
    assert not door.set_groups(context(), b"P-256")


def test_before_it_is_opened_nothing_is_done():
    nothing_is_done(ContextDoor())


def no_ctypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctypes", None)


def another_python(monkeypatch):
    monkeypatch.setattr(sys, "implementation", types.SimpleNamespace(name="pypy"))


def another_openssl(monkeypatch):
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_NUMBER", 1)


def no_symbols(monkeypatch):
    monkeypatch.setattr(context_door, "_ssl", sys.modules["_socket"])
    import ctypes

    # Of a module that is linked with no OpenSSL.
    monkeypatch.setattr(ctypes, "PyDLL", lambda name: types.SimpleNamespace())


def no_address(monkeypatch):
    monkeypatch.setattr(Library, "word", lambda library, of: 0)


def an_odd_address(monkeypatch):
    monkeypatch.setattr(Library, "word", lambda library, of: id(of) + 1)


def nothing_there(monkeypatch):
    monkeypatch.setattr(Library, "word", lambda library, of: 4096)


def something_else_there(monkeypatch):
    junk = bytearray(b"\xa5" * 4096)
    import ctypes

    monkeypatch.setattr(
        Library,
        "word",
        lambda library, of: ctypes.addressof((ctypes.c_char * 4096).from_buffer(junk)),
    )


def no_proc(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("/proc")

    monkeypatch.setattr("builtins.open", missing)


def one_for_all(monkeypatch):
    """Readable, and a context; but always the same one."""
    plain = Library.word
    first: list[ssl.SSLContext] = []

    def word(library, of):
        first.append(of)
        return plain(library, first[0])

    monkeypatch.setattr(Library, "word", word)


@pytest.mark.parametrize(
    "world",
    [
        no_ctypes,
        another_python,
        another_openssl,
        no_symbols,
        no_address,
        an_odd_address,
        nothing_there,
        something_else_there,
        no_proc,
        one_for_all,
    ],
)
def test_where_anything_is_otherwise_it_stays_shut(world, monkeypatch):
    door = ContextDoor()
    with monkeypatch.context() as changed:
        world(changed)
        line = door.find_out()
    assert line and "cannot be reached" in line
    nothing_is_done(door)


def test_each_use_asks_again(monkeypatch):
    door = ContextDoor()
    door.find_out()
    monkeypatch.setattr(Library, "agrees", lambda library, of: False)
    assert not door.set_ticket_keys(context(), bytes(TICKET_KEYS))
    assert not door.keep_no_sessions(context())
    assert not door.set_groups(context(), b"P-256")


def test_at_the_start_it_is_said(monkeypatch):
    monkeypatch.setattr(context_door.door, "find_out", lambda: "no way in")
    assert at_start.found_out() == ["no way in"]
