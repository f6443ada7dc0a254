"""Listening sockets: whole or not at all, and never lost while they are wanted."""

import gc
import os
import socket

import pytest

from rawproxy.config.model import Address
from rawproxy.net.listening import ListeningSockets, bind, explained, release
from rawproxy.process.systemd import PassedSocket

LOCAL = ("--http", Address("127.0.0.1", 0))


@pytest.fixture
def stock():
    made = ListeningSockets()
    yield made
    made.close()


def connects(sock: socket.socket) -> bool:
    with socket.socket(sock.family) as client:
        return client.connect_ex(sock.getsockname()) == 0


def test_each_worker_has_a_socket_of_its_own(stock):
    plan = stock.prepare([LOCAL], 3)
    stock.adopt(plan)
    ((_, address, rows),) = plan.rows
    assert address == LOCAL[1]
    assert len({sock.getsockname() for row in rows for sock in row}) == 1
    given = [plan.of(slot, 3)[0][1] for slot in range(3)]
    assert sorted(fd for fds in given for fd in fds) == sorted(s.fileno() for s in rows[0])
    assert [len(fds) for fds in given] == [1, 1, 1]


def test_nothing_is_accepted_before_it_is_adopted(stock):
    plan = stock.prepare([LOCAL], 1)
    (sock,) = plan.fresh
    assert not connects(sock)
    stock.adopt(plan)
    assert connects(sock)


def test_fewer_workers_share_the_sockets_and_more_get_new_ones(stock):
    stock.adopt(stock.prepare([LOCAL], 3))
    before = [fd for slot in range(3) for fd in stock.plan.of(slot, 3)[0][1]]
    stock.adopt(stock.prepare([LOCAL], 2))
    assert [len(stock.plan.of(slot, 2)[0][1]) for slot in range(2)] == [2, 1]
    plan = stock.prepare([LOCAL], 5)
    assert len(plan.fresh) == 2
    stock.adopt(plan)
    after = [fd for slot in range(5) for fd in stock.plan.of(slot, 5)[0][1]]
    assert set(before) < set(after)
    assert len(after) == 5


def test_a_plan_that_fails_leaves_nothing(stock, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = ("--https", Address("127.0.0.1", taken.getsockname()[1]))
        gc.collect()  # what earlier tests left open must not be closed in between
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match=r"--https 127.0.0.1:\d+: Address already in use"):
            stock.prepare([LOCAL, ("--http", Address(path=str(tmp_path / "s"))), busy], 2)
        assert set(os.listdir("/proc/self/fd")) == before
        assert not (tmp_path / "s").exists()


def test_a_port_that_another_master_shares_is_refused(stock):
    stock.adopt(stock.prepare([LOCAL], 2))
    port = stock.plan.rows[0][2][0][0].getsockname()[1]
    other = ListeningSockets()
    with pytest.raises(OSError, match="Address already in use"):
        other.prepare([("--http", Address("127.0.0.1", port))], 2)
    other.close()


def test_an_address_that_is_wanted_no_more_is_closed(stock, tmp_path):
    path = tmp_path / "s"
    unix = ("--http", Address(path=str(path)))
    stock.adopt(stock.prepare([LOCAL, unix], 2))
    shared = {fd for slot in range(2) for fd in stock.plan.of(slot, 2)[1][1]}
    assert len(shared) == 1
    kept = stock.plan.rows[0][2][0][0]
    stock.adopt(stock.prepare([LOCAL], 2))
    assert not path.exists()
    assert connects(kept)


def test_every_address_of_the_machine(stock):
    stock.adopt(stock.prepare([("--http", Address(None, 0))], 2))
    rows = stock.plan.rows[0][2]
    assert len({row[0].getsockname()[1] for row in rows}) == 1
    assert rows[0][0].family == socket.AF_INET


def test_the_same_address_twice(stock):
    stock.adopt(stock.prepare([LOCAL, LOCAL], 1))
    ports = {rows[0][0].getsockname()[1] for *_, rows in stock.plan.rows}
    stock.adopt(stock.prepare([LOCAL, LOCAL], 1))
    assert len(ports) == 2
    assert {rows[0][0].getsockname()[1] for *_, rows in stock.plan.rows} == ports


def test_what_is_privileged_is_said_with_a_way_out():
    error = PermissionError(13, "Permission denied")
    text = str(explained("--https", Address(None, 443), error))
    assert text.startswith("--https :443: Permission denied; ports below 1024 need root")
    assert str(explained("--http", Address("h", 8080), error)) == "--http h:8080: Permission denied"
    assert str(explained("--http", Address(path="/s"), error)) == "--http /s: Permission denied"


def test_alone():
    (sock,) = bind(Address("127.0.0.1", 0))
    assert connects(sock)
    release(sock)


def systemds(family=socket.AF_INET, where=("127.0.0.1", 0), listening=True) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(where)
    if listening:
        sock.listen()
    return sock


def test_sockets_that_systemd_listens_on_are_used_and_never_closed(tmp_path):
    tcp, unix = systemds(), systemds(socket.AF_UNIX, str(tmp_path / "s"))
    port = tcp.getsockname()[1]
    stock = ListeningSockets([PassedSocket(tcp.detach(), "web"), PassedSocket(unix.detach(), "")])
    wanted = [
        ("--http", Address("localhost", port)),
        ("--http", Address(path=str(tmp_path / "s"))),
    ]
    plan = stock.prepare(wanted, 3)
    assert not plan.fresh
    stock.adopt(plan)
    for slot in range(3):
        assert [len(fds) for _, fds in plan.of(slot, 3)] == [1, 1]
    with pytest.raises(OSError, match="systemd passed a socket that no option names"):
        stock.prepare(wanted[:1], 3)
    stock.close()
    assert (tmp_path / "s").exists()
    assert connects(stock.passed[0])
    for sock in stock.passed:
        sock.close()


def test_a_socket_for_every_address_is_recognised():
    sock = systemds(where=("0.0.0.0", 0))
    port = sock.getsockname()[1]
    stock = ListeningSockets([PassedSocket(sock.detach(), "")])
    assert not stock.prepare([("--http", Address(None, port))], 1).fresh
    with pytest.raises(OSError, match=f"--http 0.0.0.0:{port}"):
        stock.prepare([LOCAL], 1)
    stock.passed[0].close()


def test_what_systemd_passes_has_to_listen():
    sock = systemds(listening=False)
    with pytest.raises(OSError, match="systemd passed web: type ListenStream="):
        ListeningSockets([PassedSocket(sock.detach(), "web")])
    with pytest.raises(OSError, match="systemd passed 999: Bad file descriptor"):
        ListeningSockets([PassedSocket(999, "")])


def test_the_admins_socket_is_the_first_workers_alone(stock):
    stock.adopt(stock.prepare([("--admin", Address("127.0.0.1", 0)), LOCAL], 2))
    assert [len(stock.plan.of(slot, 2)) for slot in range(2)] == [2, 1]
