"""The keep-alive race: an upstream that closes idle connections at random moments."""

import asyncio
import random

from tests.process import RawProxy

SEQUENTIAL, CONCURRENT, AT_ONCE = 10_000, 10_000, 64
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Impatient(asyncio.Protocol):
    """Answers requests, and closes when it likes: at once, soon, or in the middle of the next."""

    dice = random.Random(20261124)
    closed = 0

    def connection_made(self, transport):
        self.transport = transport
        self.data = b""

    def data_received(self, data):
        self.data += data
        while b"\r\n\r\n" in self.data:
            _, _, self.data = self.data.partition(b"\r\n\r\n")
            if self.transport.is_closing():
                return
            self.transport.write(ANSWER)
            roll = self.dice.random()
            if roll < 0.02:
                self._close()
            elif roll < 0.10:
                asyncio.get_running_loop().call_later(self.dice.random() * 0.01, self._close)

    def _close(self):
        if not self.transport.is_closing():
            Impatient.closed += 1
            self.transport.close()


async def visit(port: int, requests: int) -> list[bytes]:
    """One keep-alive client; the status lines that were not 200."""
    bad = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(requests):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            bad.append(head)
            break
        await reader.readexactly(2)
    writer.close()
    await writer.wait_closed()
    return bad


def test_no_5xx_for_get():
    async def test():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Impatient, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = ["--upstream", f"http://127.0.0.1:{port}", "--access-log", "off"]
        with RawProxy(*options, https=False) as proxy:
            async with asyncio.timeout(120):
                assert await visit(proxy.http, SEQUENTIAL) == []
                each = CONCURRENT // AT_ONCE
                answers = await asyncio.gather(*[visit(proxy.http, each) for _ in range(AT_ONCE)])
            assert [bad for bads in answers for bad in bads] == []
            assert Impatient.closed > 500
        server.close()

    asyncio.run(test())
