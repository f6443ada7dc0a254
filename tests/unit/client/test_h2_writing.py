"""How the frames of an HTTP/2 connection leave: in which order, and in how many writes."""

import pytest

from rawproxy.config.model import Respond, Route, Site
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.protocol.http2 import frames
from rawproxy.protocol.http2.frames import (
    ACK,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME,
    PING,
    SETTINGS,
)

from .rig import Rig

LINE = b"HTTP/1.1 200 OK\r\n"
HEAD = ResponseHead(200, LINE, 1, b"server: x\r\n", [], 0, False, b"", True, (), 0)


def cut(data: bytes) -> list[tuple[int, int, int, int]]:
    """Type, flags, stream and size of each frame."""
    found, at = [], 0
    while at < len(data):
        size = frames.length_at(data, at)
        found.append((data[at + 3], data[at + 4], frames.stream_at(data, at), size))
        at += 9 + size
    return found


@pytest.fixture
def rig():
    return Rig("2")


def respond(rig: Rig, number: int, payload: bytes, ended: bool = True, head=HEAD) -> None:
    """As an exchange does, outside of any read of the client's."""
    rig.front.streams[number].send_response(head, len(payload), payload, ended)


def writes(rig: Rig) -> list[list[tuple[int, int, int]]]:
    """The frames of each write, without their sizes."""
    found = [[frame[:3] for frame in cut(data)] for data in rig.transport.written]
    rig.transport.written.clear()
    return found


def test_an_answer_that_none_can_join_leaves_at_once_as_one_piece(rig):
    rig.ask("GET")
    with rig.loop.running():
        respond(rig, 1, b"page")
        assert writes(rig) == [[(HEADERS, END_HEADERS, 1), (DATA, END_STREAM, 1)]]
        rig.loop.turn()
    assert not writes(rig)
    assert not rig.front.streams


def test_answers_that_may_have_company_wait_for_it_till_the_end_of_the_turn(rig):
    rig.feed(b"".join(rig.headers("GET", "h", "/") for _ in range(3)))
    with rig.loop.running():
        respond(rig, 3, b"b")
        respond(rig, 1, b"a")
        assert not writes(rig)
        rig.loop.turn()
    (together,) = writes(rig)
    assert together == [
        (HEADERS, END_HEADERS, 3),
        (DATA, END_STREAM, 3),
        (HEADERS, END_HEADERS, 1),
        (DATA, END_STREAM, 1),
    ]
    with rig.loop.running():
        respond(rig, 5, b"c", ended=False)
        assert not writes(rig)  # more of it may be here
        rig.loop.turn()
    assert len(writes(rig)) == 1


def test_what_a_read_brought_about_leaves_behind_it_in_one_write():
    rig = Rig("2", sites=(Site(routes=(Route(group=None, respond=Respond(200, "x")),)),))
    ping = frames.frame(PING, 0, 0, bytes(8))
    with rig.loop.running():
        rig.front.data_received(
            ping + rig.headers("GET", "h", "/a") + rig.headers("GET", "h", "/b")
        )
        (together,) = writes(rig)
        assert [frame[::2] for frame in together] == [
            (PING, 0), (HEADERS, 1), (DATA, 1), (HEADERS, 3), (DATA, 3),
        ]  # fmt: skip
        assert not rig.loop.ready


def test_what_a_read_that_is_an_error_brought_about_leaves_too(rig):
    ping = frames.frame(PING, 0, 0, bytes(8))
    with rig.loop.running():
        rig.front.data_received(ping + frames.frame(PING, 0, 3, bytes(8)))
    assert [frame[0] for frame in writes(rig)[0]] == [PING, frames.GOAWAY]
    assert rig.transport.closed


def test_a_read_that_is_worked_off_in_turns_leaves_nothing_behind():
    """More requests than one turn serves: each turn writes what it made."""
    rig = Rig("2", sites=(Site(routes=(Route(group=None, respond=Respond(200, "x")),)),))
    with rig.loop.running():
        rig.front.data_received(b"".join(rig.headers("GET", "h", "/") for _ in range(40)))
        first = len(rig.transport.written)
        assert first == 1
        rig.loop.turn()
    done = [frame for write in writes(rig) for frame in write if frame[0] == DATA]
    assert [number for _, _, number in done] == list(range(1, 81, 2))


@pytest.mark.parametrize("size", [0, 1, MAX_FRAME, MAX_FRAME + 1, DEFAULT_WINDOW])
@pytest.mark.parametrize("ended", [False, True])
def test_any_size_is_framed(rig, size, ended):
    rig.ask("GET")
    with rig.loop.running():
        respond(rig, 1, bytes(size), ended)
        rig.loop.turn()
    found = cut(rig.transport.take())
    assert sum(one for kind, _, _, one in found if kind == DATA) == size
    assert max(one for _, _, _, one in found) <= MAX_FRAME
    assert [flags & END_STREAM for _, flags, _, _ in found] == [0] * (len(found) - 1) + [ended]


def test_a_window_that_is_too_small_takes_what_it_can(rig):
    rig.feed(frames.settings({INITIAL_WINDOW_SIZE: 5}))
    rig.transport.take()
    rig.ask("GET")
    with rig.loop.running():
        respond(rig, 1, b"1234567")
        rig.loop.turn()
    assert cut(rig.transport.take())[1:] == [(DATA, 0, 1, 5)]
    rig.feed(frames.window_update(1, 5))
    assert cut(rig.transport.take()) == [(DATA, END_STREAM, 1, 2)]


def test_the_table_size_update_is_said_once_in_front_of_the_first_field(rig):
    """RFC 7541 4.2: to a client that allows less than the usual table."""
    rig.feed(frames.settings({HEADER_TABLE_SIZE: 0}))
    assert cut(rig.transport.take()) == [(SETTINGS, ACK, 0, 0)]
    for number in (1, 3):
        rig.ask("GET")
        with rig.loop.running():
            respond(rig, number, b"x")
            rig.loop.turn()
        data = rig.transport.take()
        assert (data[9] == 0x20) is (number == 1)
        assert rig.decoder.decode(data[9 : 9 + frames.length_at(data, 0)])[0] == (":status", "200")


def test_a_head_too_long_for_one_frame_is_continued(rig):
    rig.ask("GET")
    block = b"x: " + b"v" * 20_000 + b"\r\n"
    with rig.loop.running():
        respond(rig, 1, b"x", head=HEAD._replace(block=block))
        rig.loop.turn()
    assert [frame[0] for frame in cut(rig.transport.take())] == [HEADERS, frames.CONTINUATION, DATA]


def test_while_the_socket_is_full_only_the_head_goes(rig):
    rig.ask("GET")
    with rig.loop.running():
        rig.front.pause_writing()
        respond(rig, 1, b"page")
        rig.loop.turn()
        assert [frame[0] for frame in cut(rig.transport.take())] == [HEADERS]
        rig.front.resume_writing()
        rig.loop.turn()
    assert cut(rig.transport.take()) == [(DATA, END_STREAM, 1, 4)]
