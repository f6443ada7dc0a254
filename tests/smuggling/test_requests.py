"""The corpus of requests against rawproxy: both lanes, both fronts."""

import h11
import pytest

from .cases import H2, UPSTREAM
from .judge import request
from .requests_h1 import CASES as H1_CASES
from .requests_h2 import CASES as H2_CASES
from .stand import PATIENCE, stand
from .verdict import target

CASES = [*H1_CASES, *H2_CASES]


@pytest.fixture(scope="module", params=["auto", "h11"])
def proxy(request):
    with stand(request.param) as one:
        yield one


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_requests(proxy, case):
    judge(proxy, case, proxy.run(request(case, proxy.target, PATIENCE)), bytes)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_requests_in_pieces(proxy, case):
    judge(proxy, case, proxy.run(request(case, proxy.target, PATIENCE, pieces=3)), unframed)


def unframed(raw: bytes) -> tuple[bytes, bytes, list]:
    """Head, body and trailers: chunks may be cut otherwise where the body came in pieces."""
    head = raw.partition(b"\r\n\r\n")[0]
    law = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    law.receive_data(raw)
    body = b""
    while not isinstance(event := law.next_event(), h11.EndOfMessage):
        body += event.data if isinstance(event, h11.Data) else b""
    return head, body, list(event.headers)


def judge(proxy, case, facts, view):
    here = b"127.0.0.1:%d" % proxy.target.recorder.port
    assert facts.broken == []
    if case.refused:
        assert facts.outcome.said[0] == (case.refused, b"")
        assert facts.meant == []
        if case.stays:
            assert facts.outcome.probed
        elif case.front != H2:
            assert facts.outcome.ended and len(facts.outcome.said) == 1
    else:
        meant = [raw.replace(UPSTREAM, here) for raw in case.seen]
        assert [view(raw) for raw in facts.meant] == [view(raw) for raw in meant]
        assert all(said.seen for said in facts.outcome.said)
    # Nothing but the probe came behind it, on this connection or on another.
    assert target(facts.requests[-1]) == b"/probe"
