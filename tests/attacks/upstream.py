"""`python -m tests.attacks.upstream`: what all proxies stand in front of. It prints its port.

`GET /<n>` is answered by n bytes; a request body is read to its end first (with a 100 before, where
one is expected); an upgrade becomes a WebSocket that says nothing. HEAD has the fields of GET.
`/big-head` has 8 KB of fields. `/stream` sends for as long as somebody reads; a process of its own
does that, so that who waits for a small answer waits for the proxy, and not for a busy upstream.
"""

import asyncio
import contextlib
import functools
import os
import resource
import socket

import uvloop

BLOCK = bytes(65536)
TUNNEL = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def body(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    low = head.lower()
    if b"expect: 100-continue" in low:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    left = int(low.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while left:
        data = await reader.read(min(left, 65536))
        if not data:
            raise ConnectionResetError
        left -= len(data)
    while b"transfer-encoding: chunked" in low:
        size = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(size + 2)
        if not size:
            return


async def stream(sock: socket.socket) -> None:
    """Send for as long as somebody reads."""
    # Or the kernel would hold megabytes for each here, and run out of memory for all on this machine.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(BLOCK))
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(sock=sock)
        while True:
            writer.write(BLOCK)
            await writer.drain()


async def stream_all(given: socket.socket) -> None:
    """To each connection that is handed over."""
    loop = asyncio.get_running_loop()
    tasks = set()
    over = loop.create_future()

    def take() -> None:
        _, numbers, _, _ = socket.recv_fds(given, 1, 1)
        if not numbers:
            loop.remove_reader(given)
            over.set_result(None)
        for number in numbers:
            task = loop.create_task(stream(socket.socket(fileno=number)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    loop.add_reader(given, take)
    await over


async def serve(
    streams: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await body(head, reader, writer)
            target = head.split(b" ", 2)[1].strip(b"/")
            if b"upgrade: websocket" in head.lower():
                writer.write(TUNNEL)
                while await reader.read(65536):
                    pass
                return
            if target == b"big-head":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Pad: %b\r\n\r\n" % (b"p" * 8000)
                )
                continue
            size = 1 << 50 if target == b"stream" else int(target) if target.isdigit() else 2
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            if head.startswith(b"HEAD"):
                continue
            if target == b"stream":
                socket.send_fds(streams, [b"s"], [writer.get_extra_info("socket").fileno()])
                writer.transport.abort()  # the descriptor; the connection is the other process's
                return
            while size:
                writer.write(BLOCK[: min(size, len(BLOCK))])
                size -= min(size, len(BLOCK))
                await writer.drain()
    writer.close()


async def main(streams: socket.socket) -> None:
    server = await asyncio.start_server(
        functools.partial(serve, streams), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ours, given = socket.socketpair()
    with contextlib.suppress(KeyboardInterrupt):
        if not os.fork():
            ours.close()
            uvloop.run(stream_all(given))
            os._exit(0)
        given.close()
        uvloop.run(main(ours))
