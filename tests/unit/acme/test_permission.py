"""Who may have a certificate on demand."""

import http.server
import threading

import pytest

pytest.importorskip("acme")

from rawproxy.acme import permission
from rawproxy.acme.permission import KEPT, Permission
from tests.unit.acme.test_leases import Watch


@pytest.fixture
def url():
    """It allows what begins with `good`."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200 if "domain=good" in self.path else 302)
            self.send_header("Location", "/?domain=good")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/may?by=us", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_url_decides_and_is_asked_once_in_a_while(url):
    where, seen = url
    watch = Watch()
    one = Permission(where, 2, watch)
    assert one.allows("good.test") and one.allows("good.test")
    assert not one.allows("bad.test") and not one.allows("bad.test"), "a redirect is no permission"
    assert seen == ["/may?by=us&domain=good.test", "/may?by=us&domain=bad.test"]
    watch.now += KEPT + 1
    assert one.allows("good.test") and len(seen) == 3


def test_who_does_not_answer_allows_nothing_and_is_asked_again(url, caplog):
    one = Permission("http://127.0.0.1:1/", 2, Watch())
    assert not one.allows("good.test") and not one.allows("good.test")
    assert caplog.text.count("does not answer") == 2


def test_so_many_a_minute(url):
    watch = Watch()
    one = Permission(url[0], 2, watch)
    assert [one.has_room() for _ in range(3)] == [True, True, False]
    watch.now += 30
    assert [one.has_room() for _ in range(2)] == [True, False]


def test_what_is_remembered_is_bounded(url, monkeypatch):
    monkeypatch.setattr(permission, "MOST", 2)
    one = Permission(url[0], 2, Watch())
    for name in ("good1.test", "good2.test", "good3.test", "good1.test"):
        assert one.allows(name)
    assert len(url[1]) == 4
