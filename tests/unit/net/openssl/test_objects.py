"""What Python's ssl may lack: found out at the start, said, and gone without."""

import contextlib
import socket
import ssl

import pytest
import trustme

from rawproxy.net.openssl import at_start, objects

CA = trustme.CA()
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
SERVER.set_alpn_protocols(["http/1.1"])
CA.issue_cert("up.test").configure_cert(SERVER)
CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CLIENT.set_alpn_protocols(["http/1.1"])
CA.configure_trust(CLIENT)


@pytest.fixture(params=["whole", "bare"])
def reach(request, monkeypatch) -> objects.Reach:
    """All there is, or nothing of it."""
    there = request.param == "bare"
    for name in ("beneath", "bare", "accept"):
        monkeypatch.setattr(objects.reach, name, there)
    return objects.reach


def test_here_is_everything():
    assert objects.Reach().find_out() == []
    assert at_start.found_out() == []


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("_by_whole", ["_sslobj"]),
        ("_by_bare", ["_wrap_socket"]),
        ("both", ["_sslobj", "_wrap_socket"]),
    ],
)
@pytest.mark.parametrize("how", ["no such attribute", "another meaning", "works at once"])
def test_what_is_missing_is_said(monkeypatch, missing, said, how):
    class Other:
        read = write = shutdown = pending = print

        def do_handshake(self) -> None:
            if how == "another meaning":
                raise ValueError("do what?")

    def make(sock, context):
        if how == "no such attribute":
            raise AttributeError
        return sock, Other()

    for name in ("_by_whole", "_by_bare") if missing == "both" else (missing,):
        monkeypatch.setattr(objects, name, make)
    reach = objects.Reach()
    (line,) = reach.find_out()
    assert all(name in line for name in said) and "costs" in line
    assert reach.beneath is ("_sslobj" not in said)
    assert reach.bare is ("_wrap_socket" not in said)


def tried(call, *args):
    """What `call` returns; None where it has to wait."""
    try:
        return call(*args)
    except ssl.SSLWantReadError:
        return None


def shaken(*sides) -> None:
    for _ in range(3):
        for tls in sides:
            tried(tls.do_handshake)


@pytest.fixture
def pair():
    """Both ends of an accepted connection, with no more Python around them than is needed."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = stack.enter_context(socket.create_connection(server.getsockname()))
        number, peer = objects.accepted(server)
        theirs = objects.BareSocket(socket.AF_INET, socket.SOCK_STREAM, 0, number)
        stack.callback(theirs.close)
        assert peer == ours.getsockname()
        for sock in (ours, theirs):
            sock.setblocking(False)
        yield ours, theirs


@pytest.mark.parametrize("sni", [False, True])
def test_both_sides_serve_with_and_without(reach, pair, sni, monkeypatch):
    asked = []
    callback = (lambda sock, name, context: asked.append(name)) if sni else None
    monkeypatch.setattr(SERVER, "sni_callback", callback)
    kept, tls = objects.server_side(pair[1], SERVER)
    assert isinstance(kept, ssl.SSLSocket) is (sni or not reach.bare)
    client = CLIENT.wrap_socket(pair[0], server_hostname="up.test", do_handshake_on_connect=False)
    with contextlib.closing(kept), client:
        core = objects.core(client)
        shaken(core, tls)
        assert asked == ["up.test"] * sni
        assert core.write(b"hello") == 5 and tls.read(2) == b"he"
        assert tls.pending() == 3 and tls.read(9) == b"llo"
        assert (tls.server_side, core.server_side) == (True, False)
        assert tls.context is SERVER and not tls.session_reused
        assert tls.version() == "TLSv1.3" and tls.selected_alpn_protocol() == "http/1.1"
        assert core.getpeercert(True) and tls.getpeercert(True) is None
        assert tried(tls.read, 1) is None
        with pytest.raises(ssl.SSLError):  # the client's has not come yet
            tls.shutdown()
        while (data := tried(core.read, 1)) is None:  # a ticket
            pass
        assert data == b""
        core.shutdown()


def test_who_has_gone_leaves_the_socket_with_the_caller(reach):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket() as sock:  # as one that was reset: it has no peer
        if not reach.bare:
            with pytest.raises(OSError):
                objects.server_side(sock, SERVER)
        assert sock.fileno() >= 0
