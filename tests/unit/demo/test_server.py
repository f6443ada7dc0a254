"""The demo's upstream, spoken to without a proxy between."""

import asyncio
import hashlib
import ssl

from rawproxy.config.model import Address
from rawproxy.demo import server
from tests.process import PATIENCE
from tests.wire.rig import run

BODY = bytes(range(256)) * 300


async def talk(*requests: bytes) -> list[bytes]:
    """What comes back to requests that follow each other on one connection."""
    demo = await server.start(Address("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", demo.port, ssl=context)
            found = []
            for request in requests:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0] or 0)
                body = b"" if request.startswith(b"HEAD") else await reader.readexactly(length)
                found.append(head + body)
            writer.close()
            return found
    finally:
        await demo.close()


def test_a_connection_serves_one_request_after_another():
    async def main():
        head, empty, upload, page = await talk(
            b"HEAD /bytes/100000 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /status/204 HTTP/1.1\r\nHost: h\r\n\r\n",
            # The body comes with its head, and is not taken for a part of it.
            b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
            b"GET /bytes/5 HTTP/1.1\r\nHost: h\r\n\r\n",
        )
        assert b"Content-Length: 100000\r\n" in head
        assert empty.startswith(b"HTTP/1.1 204 No Content\r\n") and b"Length" not in empty
        assert hashlib.sha256(BODY).hexdigest().encode() in upload
        assert page.endswith(b"\r\n\r\nrawpr")

    run(main())
