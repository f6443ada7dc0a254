"""In how many records of TLS a client of HTTP/1 gets a response that came in one piece."""

import asyncio

import pytest

from rawproxy.client.h1_connection import H1Connection
from rawproxy.net.tls_outbox import RECORD
from rawproxy.net.tls_transport import CORKED
from tests.process import PATIENCE
from tests.unit.client.test_h1_responses import ANSWER, HSTS, KEPT, REQUEST, Pair
from tests.unit.net.tls_pair import connected


async def answered(size, minor, hsts, buffer):
    """The answer that the client should have, that which it has, and its records' sizes."""
    body = bytes(at % 251 for at in range(size))
    answer = ANSWER % size
    async with asyncio.timeout(PATIENCE), connected(buffer=buffer) as (transport, recorder, peer):
        pair = Pair()
        asks = pair.asks = H1Connection(pair.asks.service, pair.asks.slot, True)
        asks.connection_made(transport)
        asks.context = asks.context._replace(hsts=hsts)
        transport.set_protocol(asks)
        pair.exchange(REQUEST % (b"GET", minor), answer + body)
        if not minor:
            answer = answer.replace(KEPT, b"")
        wanted = answer[:-2] + (hsts or b"") + (b"" if minor else KEPT) + b"\r\n" + body
        got, sizes = b"", []
        while len(got) < len(wanted):
            got += await peer.read()
            sizes.append(len(got) - sum(sizes))
        transport.set_protocol(recorder)
    return wanted, got, sizes


@pytest.mark.parametrize("hsts", [HSTS, None])
@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize(
    "size",
    [5, RECORD - 1, RECORD, RECORD + 5000, 2 * RECORD - 5, 2 * RECORD, CORKED - 1, CORKED, 70_000],
)
def test_an_answer_over_tls_takes_as_few_records_as_it_fills(size, minor, hsts):
    wanted, got, sizes = asyncio.run(answered(size, minor, hsts, 0))
    assert got == wanted
    assert len(sizes) == -(-len(wanted) // RECORD)


@pytest.mark.parametrize("size", [RECORD, 2 * RECORD + 7])
def test_an_answer_that_the_socket_does_not_take_at_once_comes_whole(size):
    wanted, got, _ = asyncio.run(answered(size, 1, HSTS, 4096))
    assert got == wanted
