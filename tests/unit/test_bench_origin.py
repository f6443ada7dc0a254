"""`bench/origin.c`: it answers every head once, with an identity of its own. Needs gcc."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from bench.procs import free_ports

MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include "origin.h"
int main(int argc, char **argv) {
    struct epoll_event events[8];
    int loop = epoll_create1(0);
    if (argc != 2 || origin_open(loop, atoi(argv[1]))) return 1;
    puts("ready");
    fflush(stdout);
    for (;;)
        for (int i = 0, got = epoll_wait(loop, events, 8, -1); i < got; i++)
            origin_ready(events[i].data.ptr);
}
"""
SOURCES = Path(__file__).parents[2] / "bench"


@pytest.fixture
def port(tmp_path):
    if not shutil.which("gcc"):
        pytest.skip("needs the Debian package gcc")
    (tmp_path / "main.c").write_text(MAIN)
    command = ["gcc", "-Wall", "-Werror", "-I", SOURCES, "-o", tmp_path / "origin"]
    subprocess.run([*command, tmp_path / "main.c", SOURCES / "origin.c"], check=True)
    (number,) = free_ports(1)
    with subprocess.Popen([tmp_path / "origin", str(number)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield number
        process.terminate()


def answer(client: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"</p>\n"):
        data += client.recv(4096)
    return data


def test_each_head_is_answered_and_no_two_alike(port):
    found = []
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        for head in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /x HTTP/1.1\r\n\r\n"):
            client.sendall(head)
            found.append(answer(client))
        client.sendall(b"GET /y HTTP/1.1\r\nHo")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(4096)
        client.settimeout(10)
        client.sendall(b"st: a\r\n\r\n")
        found.append(answer(client))
    with socket.create_connection(("127.0.0.1", port), 10) as other:
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        found.append(answer(other))
    for one in found:
        head, _, body = one.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(body)
        assert re.search(rb"\r\nDate: \w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d GMT\r\n", head)
    for name in (rb"X-Authentik-Id: ", rb"authentik_session="):
        assert len({re.search(name + rb"([0-9a-f]{32})", one)[1] for one in found}) == len(found)
