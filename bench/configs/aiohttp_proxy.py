"""A reverse proxy as one would write it on aiohttp: the Python peer.

C parser, uvloop, pooled upstream connections, bodies streamed, WebSockets message by message.
Run with: port, upstream port, "tls" or "plain", certificate, key, access log file or "off".
"""

import asyncio
import logging
import ssl
import sys

import aiohttp
import uvloop
from aiohttp import web

CONTEXT = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
WS_OWN = {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}


def forwarded_headers(request):
    headers = request.headers.copy()
    for name in CONTEXT:
        headers.popall(name, None)
    earlier = request.headers.get("X-Forwarded-For")
    headers["X-Forwarded-For"] = f"{earlier}, {request.remote}" if earlier else request.remote
    headers["X-Forwarded-Proto"] = request.scheme
    headers["X-Forwarded-Host"] = request.host
    return headers


async def relay(source, sink):
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
    await sink.close()


async def websocket(request, session, url, headers):
    for name in WS_OWN:
        headers.popall(name, None)
    async with session.ws_connect(url, headers=headers, max_msg_size=0) as upstream:
        client = web.WebSocketResponse(max_msg_size=0, compress=False)
        await client.prepare(request)
        await asyncio.gather(relay(client, upstream), relay(upstream, client))
        return client


def make_handler(state, base, tls):
    async def handle(request):
        headers = forwarded_headers(request)
        url = state["url"](base + request.raw_path, encoded=True)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await websocket(request, state["session"], url, headers)
        body = request.content if request.body_exists else None
        async with state["session"].request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            fields = answer.headers.copy()
            for name in CONTEXT:
                fields.popall(name, None)
            if tls:
                fields["Strict-Transport-Security"] = "max-age=63072000"
            length = answer.content_length
            if length is not None and length <= 65536:
                return web.Response(status=answer.status, headers=fields, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=fields)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    return handle


async def main(port, upstream, mode, cert, key, log):
    import yarl

    tls = mode == "tls"
    inward = outward = None
    if tls:
        inward = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        inward.minimum_version = ssl.TLSVersion.TLSv1_3
        inward.load_cert_chain(cert, key)
        outward = ssl.create_default_context()
        outward.check_hostname = False
        outward.verify_mode = ssl.CERT_NONE
    connector = aiohttp.TCPConnector(limit=0, ssl=outward or True, keepalive_timeout=60)
    skip = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        skip_auto_headers=skip,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:
        state = {"session": session, "url": yarl.URL}
        base = f"{'https' if tls else 'http'}://127.0.0.1:{upstream}"
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", make_handler(state, base, tls))
        logger = None
        if log != "off":
            logging.basicConfig(filename=log, level=logging.INFO, format="%(message)s")
            logger = logging.getLogger("aiohttp.access")
        runner = web.AppRunner(app, access_log=logger, keepalive_timeout=75)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", int(port), ssl_context=inward, backlog=4096)
        await site.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
