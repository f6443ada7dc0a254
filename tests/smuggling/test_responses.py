"""The corpus of responses against rawproxy: both lanes, to clients of both versions."""

import h11
import pytest

from . import judge
from .cases import Answer
from .responses import ANSWERS
from .stand import PATIENCE, stand

PARAMS = [pytest.param(case, id=case.id) for case in ANSWERS]
CONTEXT = ("connection", "transfer-encoding")


@pytest.fixture(scope="module", params=["auto", "h11"])
def proxy(request):
    with stand(request.param, "--no-hsts") as one:
        yield one


@pytest.mark.parametrize("case", PARAMS)
def test_responses(proxy, case):
    outcome = proxy.run(judge.answer(case, proxy.target, PATIENCE))
    data = outcome.data
    if not case.got:
        assert data.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert data.count(b"HTTP/1.1 ") - outcome.probed == 1
    elif case.cut:
        assert data == case.got
        assert outcome.ended and not outcome.said
    else:
        assert data.startswith(case.got)
        assert data[len(case.got) :].startswith(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSeen: /probe"
        )
        assert outcome.probed and data.count(b"HTTP/1.1 ") == case.got.count(b"HTTP/1.1 ") + 1


@pytest.mark.parametrize("case", PARAMS)
def test_responses_to_http2(proxy, case):
    outcome, events = proxy.run(judge.answer_h2(case, proxy.target, PATIENCE))
    assert outcome.probed
    if not case.got:
        assert outcome.said[0].status == "502"
        return
    heads, body, trailers = read(case)
    fields = [event for event in events if isinstance(event, list)]
    assert b"".join(event for event in events if isinstance(event, bytes)) == body
    if case.cut:
        assert fields == heads and events[-1].name == "INTERNAL_ERROR"
    else:
        assert fields == [*heads, *trailers]


def read(case: Answer):
    """What the HTTP/1.1 client gets, as HTTP/2 says it: field lists, body, trailers."""
    law = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    law.send(h11.Request(method=case.method, target="/", headers=[("host", "h")]))
    law.send(h11.EndOfMessage())
    law.receive_data(case.got)
    heads, body, trailers = [], b"", []
    while True:
        event = law.next_event()
        if isinstance(event, h11.Response | h11.InformationalResponse):
            kept = [(n, v) for n, v in event.headers if n.decode() not in CONTEXT]
            heads.append([(b":status", b"%d" % event.status_code), *kept])
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            if isinstance(event, h11.EndOfMessage) and event.headers:
                trailers = [list(event.headers)]
            return heads, body, trailers
