"""`python -m tests.outposts.unwell KIND`: a guard that is ill. It prints its port.

well      says yes at once
slow      says yes after 300 ms
hangs     says nothing
500       says that it is broken
10 MB     says yes, and then 10 MB
drips     says a byte of its head each 50 ms, without end
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import uvloop

YES = b"HTTP/1.1 200 OK\r\nX-authentik-username: alice\r\nContent-Length: %d\r\n\r\n"
BLOCK = bytes(65536)
BLOCKS = 160


async def serve(kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of a proxy."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            if kind == "hangs":
                await reader.read()
                break
            if kind == "500":
                writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops")
            elif kind == "10 MB":
                writer.write(YES % (BLOCKS * len(BLOCK)))
                for _ in range(BLOCKS):
                    writer.write(BLOCK)
                    await writer.drain()
            elif kind == "drips":
                writer.write(YES[:-4] % 0)
                while not writer.is_closing():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
                break
            else:
                if kind == "slow":
                    await asyncio.sleep(0.3)
                writer.write(YES % 0)
            await writer.drain()
    writer.close()


async def main() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(sys.argv[1], reader, writer)

    server = await asyncio.start_server(client, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())
