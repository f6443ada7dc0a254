"""Chromium before a Django site: everything through one HTTP/2 connection, WebSocket included."""

import hashlib
import os
import pathlib
import re
import shutil
import sys

import pytest
from playwright.sync_api import sync_playwright

from tests.process import Program, RawProxy, free_port, needs, wait_for_port

SITE = pathlib.Path(__file__).with_name("site_django.py")
PATIENCE = 60_000  # milliseconds for anything that the browser waits for
TILES = 80
ECHO = """
async (url) => {
  const socket = new WebSocket(url);
  const next = () => new Promise((done, failed) => {
    socket.onmessage = (event) => done(event.data);
    socket.onerror = () => failed(new Error("the WebSocket failed"));
  });
  const greeting = await next();
  const answers = [];
  for (const word of ["one", "two", "x".repeat(100000)]) {
    socket.send(word);
    answers.push(await next());
  }
  const closed = new Promise((done) => { socket.onclose = (event) => done(event.code); });
  socket.close(1000);
  return [JSON.parse(greeting), answers, await closed];
}
"""
EVENTS = """
() => new Promise((done, failed) => {
  const source = new EventSource("/events"), seen = [];
  source.onmessage = (event) => {
    seen.push(event.data);
    if (seen.length === 3) { source.close(); done(seen); }
  };
  source.onerror = () => failed(new Error("no events"));
})
"""


@pytest.fixture(scope="module")
def site():
    port = free_port()
    with RawProxy("--upstream", f"http://127.0.0.1:{port}") as proxy:
        origin = f"localhost:{proxy.https}"
        command = [sys.executable, str(SITE), "uvicorn", str(port), origin]
        server = Program(command, env=os.environ | {"COVERAGE_PROCESS_START": ""})
        wait_for_port(port, server.process)
        proxy.origin = origin
        yield proxy
        server.stop()


@pytest.fixture
def page(site):
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.protocols = {}
        session = context.new_cdp_session(page)
        session.on(
            "Network.responseReceived",
            lambda event: page.protocols.update(
                {event["response"]["url"]: event["response"].get("protocol")}
            ),
        )
        page.handshakes = []
        session.on(
            "Network.webSocketHandshakeResponseReceived",
            lambda event: page.handshakes.append(event["response"]["status"]),
        )
        session.send("Network.enable")
        yield page
        browser.close()


def screenshot(page, path: pathlib.Path) -> bytes:
    """A picture of the page; not an empty one."""
    picture = page.screenshot(path=path)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 3000, "a blank page compresses to less"
    return picture


@needs("chromium")
def test_a_browser_needs_one_connection(site, page, tmp_path):
    base = f"https://{site.origin}"
    page.goto(base + "/login")
    page.fill("input[name=user]", "akadmin")
    page.fill("input[name=password]", "hunter2")
    page.click("button")
    page.wait_for_url("**/me")
    assert '"user": "akadmin"' in page.content()
    assert '"secure": true' in page.content()

    page.goto(base + "/", wait_until="load")
    assert page.inner_text("h1") == "akadmin"
    loaded = "[...document.images].filter((image) => image.complete && image.naturalWidth).length"
    assert page.evaluate(loaded) == TILES
    screenshot(page, tmp_path / "home.png")

    assert page.evaluate(EVENTS) == ["0", "1", "2"]
    greeting, answers, code = page.evaluate(ECHO, f"wss://{site.origin}/ws/echo")
    assert greeting["user"] == "akadmin"
    assert answers == ["one", "two", "x" * 100_000]
    assert code == 1000

    blob = os.urandom(2_000_000)
    file = tmp_path / "upload.bin"
    file.write_bytes(blob)
    page.set_input_files("input[type=file]", file)
    page.click("button")
    page.wait_for_url("**/digest")
    assert page.inner_text("body") == hashlib.sha256(blob).hexdigest()
    screenshot(page, tmp_path / "digest.png")

    # What the browser says, and what the proxy logged: HTTP/2 for every request.
    assert len(page.protocols) >= TILES + 5
    assert set(page.protocols.values()) == {"h2"}, page.protocols
    assert page.handshakes == [200], "101 would be HTTP/1.1"
    log = site.out()
    assert re.search(r'"GET /ws/echo HTTP/2\.0" 200 ', log)
    assert "HTTP/1.1" not in log
