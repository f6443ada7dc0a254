"""One of the three upstreams: it answers by its name; SIGUSR1 makes it ill, SIGUSR2 well again."""

import asyncio
import signal
import sys

WELL = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
ILL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%b"
ill = False


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            at = head.find(b"content-length:")
            if at >= 0:
                await reader.readexactly(int(head[at + 15 : head.index(b"\r", at)]))
            await asyncio.sleep(0.005)  # as long as a small page takes
            name = sys.argv[3].encode()
            writer.write((ILL if ill else WELL) % (len(name), name))
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


def become(state: bool) -> None:
    global ill
    ill = state


async def main() -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, become, True)
    loop.add_signal_handler(signal.SIGUSR2, become, False)
    server = await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]), backlog=1024)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
