"""systemd's protocol: its messages over a real datagram socket, its variables."""

import socket

import pytest

from rawproxy.process import systemd
from rawproxy.process.systemd import Notifier, PassedSocket
from tests.process import PATIENCE


@pytest.mark.parametrize("abstract", [False, True])
def test_messages_arrive(tmp_path, abstract):
    name = f"rawproxy-test-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(PATIENCE)
        notifier = Notifier("@" + name if abstract else name)
        for message, expected in [
            (systemd.ready("2 workers"), b"READY=1\nSTATUS=2 workers"),
            (
                systemd.reloading(12.5),
                b"RELOADING=1\nMONOTONIC_USEC=12500000\nSTATUS=reloading",
            ),
            (systemd.ready("refused: a\nREADY=0"), b"READY=1\nSTATUS=refused: a READY=0"),
            (systemd.stopping("draining"), b"STOPPING=1\nSTATUS=draining"),
            (systemd.status("x"), b"STATUS=x"),
            (systemd.alive(), b"WATCHDOG=1"),
        ]:
            notifier.send(message)
            assert manager.recv(4096) == expected
        notifier.close()


def test_nobody_to_notify(tmp_path):
    for address in ("", str(tmp_path / "nobody")):
        notifier = Notifier(address)
        notifier.send(systemd.alive())
        notifier.close()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog(environment, seconds):
    assert systemd.watchdog(environment, 7) == seconds


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ()),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "8"}, ()),
        ({"LISTEN_FDS": "many", "LISTEN_PID": "7"}, ()),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "7"}, (PassedSocket(3, ""), PassedSocket(4, ""))),
        (
            {"LISTEN_FDS": "2", "LISTEN_PID": "7", "LISTEN_FDNAMES": "web:tls"},
            (PassedSocket(3, "web"), PassedSocket(4, "tls")),
        ),
    ],
)
def test_passed_sockets(environment, expected):
    assert systemd.passed(environment, 7) == expected
