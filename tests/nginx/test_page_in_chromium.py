"""authentik's own page, with nothing changed but names, ports and paths, serves Chromium."""

import contextlib
import re
import shutil
import sys

import pytest
from playwright.sync_api import sync_playwright

from tests.nginx.stand import CONFIGS
from tests.process import LEAF, Program, free_port, needs, wait_for_port

pytestmark = needs("chromium", "chromium")

PATIENCE = 60_000  # milliseconds for anything that the browser waits for
DEMO = """
import asyncio, sys
from rawproxy.config.model import Address
from rawproxy.demo import server

async def main():
    await server.start(Address("127.0.0.1", int(sys.argv[1])))
    await asyncio.Event().wait()

asyncio.run(main())
"""
WEBSOCKET = """
() => new Promise((done, failed) => {
  const socket = new WebSocket("wss://sso.domain.tld/ws");
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => { done(event.data); socket.close(); };
  socket.onerror = () => failed(new Error("no WebSocket"));
})
"""
EVENTS = """
() => new Promise((done, failed) => {
  const source = new EventSource("/events");
  source.onmessage = (event) => { source.close(); done(event.data); };
  source.onerror = () => failed(new Error("no events"));
})
"""
UPLOAD = """
async () => (await (await fetch("/upload", {method: "POST", body: "x".repeat(300000)})).json()).length
"""


@pytest.fixture
def ports(tmp_path):
    """The page's listeners, moved: 80 and 443 of the name are to be had at these."""
    upstream, http, https = free_port(), free_port(), free_port()
    LEAF.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    text = (CONFIGS / "authentik.conf").read_text()
    moved = text.replace("authentik.internal:9443", f"127.0.0.1:{upstream}")
    moved = moved.replace(":80;", f":{http};").replace(" 80;", f" {http};")
    moved = re.sub(r"\b443 ssl", f"{https} ssl", moved)
    moved = re.sub(r"/etc/letsencrypt/live/domain.tld/\w+\.pem", str(tmp_path / "pem"), moved)
    lines = zip(text.splitlines(), moved.splitlines(), strict=True)
    assert sum(ours != theirs for theirs, ours in lines) == 7
    conf = tmp_path / "sites-enabled.conf"
    conf.write_text(moved)
    with contextlib.ExitStack() as stack:  # what has been started ends, whatever fails
        demo = Program([sys.executable, "-c", DEMO, str(upstream)])
        stack.callback(demo.stop)
        wait_for_port(upstream, demo.process)
        proxy = Program([sys.executable, "-m", "rawproxy", "--nginx", str(conf)])
        stack.callback(proxy.stop)
        wait_for_port(https, proxy.process)
        yield http, https
        assert proxy.stop() == 0 and "Traceback" not in proxy.err()


def test_the_page_serves_a_browser(ports):
    http, https = ports
    rules = f"MAP sso.domain.tld:80 127.0.0.1:{http}, MAP sso.domain.tld:443 127.0.0.1:{https}"
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", f"--host-resolver-rules={rules}"],
        )
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        answer = page.goto("http://sso.domain.tld/?from=plain")
        assert answer is not None and answer.status == 200
        assert page.url == "https://sso.domain.tld/?from=plain", "the plain listener leads to https"
        assert answer.request.redirected_from.response().status == 301
        assert answer.headers["strict-transport-security"] == "max-age=63072000"
        seen = page.evaluate("async () => (await (await fetch('/echo')).json()).headers")
        fields = {name.lower(): value for name, value in seen}
        assert fields["host"] == "sso.domain.tld"
        assert fields["x-forwarded-proto"] == "https" and fields["x-forwarded-for"] == "127.0.0.1"
        assert page.evaluate(WEBSOCKET) == "hello"
        assert page.evaluate(EVENTS).startswith("event number")
        assert page.evaluate(UPLOAD) == 300_000
        protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert page.evaluate(protocol) == "h2"
        browser.close()
