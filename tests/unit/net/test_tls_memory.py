"""What OpenSSL keeps of a connection that rests."""

import asyncio
import contextlib
import ctypes
import ssl

import pytest

from tests.unit.net.tls_pair import Stubborn, connected

MANY = 20
BUFFER = 16_384  # bytes that a record takes at the least


class Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keep".split()
    )


def allocated() -> int:
    """Bytes that malloc has given out."""
    told = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if told is None:
        pytest.skip("this C library does not tell what it has given out")
    told.restype = Heap
    heap = told()
    return heap.uordblks + heap.hblkhd


async def heard(recorder, peer, message):
    """The peer, a server, sends its tickets and a message."""
    await peer.write(message)
    await recorder.until(lambda: recorder.data.endswith(message))


def test_a_client_gives_back_what_it_took_for_a_ticket(run):
    async def story():
        async with contextlib.AsyncExitStack() as stack:
            pairs = [await stack.enter_async_context(connected(server=False)) for _ in range(MANY)]
            for _, recorder, peer in pairs:
                await heard(recorder, peer, b"hello")
            before = allocated()
            for transport, _, _ in pairs:
                transport.rest()
            freed = before - allocated()
            # From 3.2 on another layer makes the buffers, and only when it writes.
            assert freed >= MANY * BUFFER or ssl.OPENSSL_VERSION_INFO >= (3, 2)
            for transport, recorder, peer in pairs:
                transport.rest()
                transport.write(b"still here")
                assert await peer.read() == b"still here"
                await heard(recorder, peer, b"so am I")

    run(story)


def test_nothing_is_done_while_something_waits_to_be_written(run):
    async def story():
        async with connected(buffer=8192, server=False) as (transport, _, peer):
            data = bytes(range(256)) * 512
            transport.write(data)
            assert transport.get_write_buffer_size()
            transport.rest()  # OpenSSL wants the bytes that it could not send, and no others
            assert await peer.read_all(len(data)) == data
        transport.rest()  # it is closed

    run(story)


def test_an_error_ends_the_connection(run):
    async def story():
        async with connected(server=False) as (transport, recorder, _):
            transport._tls = Stubborn(transport._tls)
            transport._tls.script = {"write": [ssl.SSLError(1, "nothing works")]}
            transport.rest()
            await asyncio.wait([recorder.lost])
            assert isinstance(recorder.lost.result(), ssl.SSLError)

    run(story)
