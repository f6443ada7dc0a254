"""Faults of the whole process: descriptors, disk, names."""

import asyncio
import contextlib
import resource
import socket

from rawproxy.config.model import Upstream
from tests.process import RawProxy

from .h2raw import eventually, upstream
from .rig import Rig, always, get, read_response, response, run

DESCRIPTORS = 100


class FewDescriptors(RawProxy):
    """rawproxy that may have so many, and takes no notice of that when it admits clients."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments, "--limit", "connections=100000", https=False)
        for process in self.family():
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def ask(sock: socket.socket) -> bytes:
    sock.sendall(get(b"/5"))
    got = b""
    while not got.endswith(bytes(5)):
        more = sock.recv(65536)
        assert more, got
        got += more
    return got


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 15)


def test_file_descriptors_run_out():
    """Accepting pauses; those who are there are served; it comes back by itself."""
    with (
        upstream() as port,
        FewDescriptors("--upstream", f"http://127.0.0.1:{port}", "--access-log", "off") as proxy,
        connect(proxy.http) as bystander,
    ):
        assert ask(bystander).startswith(b"HTTP/1.1 200")
        with contextlib.ExitStack() as stack:
            # More than it can accept; the kernel keeps the rest for it.
            crowd = [stack.enter_context(connect(proxy.http)) for _ in range(2 * DESCRIPTORS)]
            eventually(lambda: "accepting pauses" in proxy.err())
            for _ in range(20):
                assert ask(bystander).startswith(b"HTTP/1.1 200")
            for sock in crowd[:-1]:
                sock.close()
            # Its turn comes once those before it have left.
            assert ask(crowd[-1]).startswith(b"HTTP/1.1 200")
        with connect(proxy.http) as late:
            assert ask(late).startswith(b"HTTP/1.1 200")
        assert ask(bystander).startswith(b"HTTP/1.1 200")


def test_the_disk_is_full_under_the_access_log():
    with (
        upstream() as port,
        RawProxy(
            "--upstream", f"http://127.0.0.1:{port}", "--access-log", "/dev/full", https=False
        ) as proxy,
        connect(proxy.http) as client,
    ):
        for _ in range(3):
            for _ in range(10):
                assert ask(client).startswith(b"HTTP/1.1 200")
            eventually(lambda: "the access log cannot be written" in proxy.err())
        assert proxy.err().count("the access log cannot be written") < 5  # one each ten seconds
        assert "No space left on device" in proxy.err()


def test_a_name_that_is_not_resolved():
    """502 and the client may go on; where there is another upstream, that one answers."""

    async def test():
        nowhere = Upstream("http://x", tls=False, host="no-such-host.invalid", port=1)
        async with Rig(always(response(b"ok")), upstreams=[nowhere]) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get(b"/", b"Content-Length: 2", method=b"POST") + b"hi")
                head, _ = await read_response(reader)
                assert head.startswith(b"HTTP/1.1 502")
            assert not rig.service.endpoints[0].pool.busy
            writer.close()

        async def serve(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError):
                await always(response(b"ok"))(reader, writer)
            writer.close()  # one that raises does that too, but not in every Python

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        here = Upstream("http://y", tls=False, host="127.0.0.1", port=port)
        async with Rig(always(response()), upstreams=[nowhere, here]) as rig:
            for _ in range(3):
                assert (await rig.ask(get()))[1] == b"ok"
        server.close()

    run(test())
