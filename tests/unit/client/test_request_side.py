"""What both versions of HTTP have in common: the same rules, by whatever frames they are told."""

import pytest

from rawproxy.config.model import Redirect, Route, Site
from rawproxy.protocol.http.head import ResponseHead

from .rig import BODY, RATE, Rig

HINTS = ResponseHead(
    103, b"HTTP/1.1 103 Early Hints\r\n", 1, b"link: </a>\r\n", [], 0, False, b"", True, (), 0
)
HSTS = b"strict-transport-security"


@pytest.fixture(params=["1", "2"])
def version(request):
    return request.param


def test_a_body_has_to_keep_its_pace(version):
    rig = Rig(version)
    rig.ask("POST", body=b"x" * 100)
    assert not rig.client.still_sends(waived=False)
    rig.more(b"x" * int(RATE * BODY - 100))
    rig.service.next_sweep = 7.0
    assert rig.client.still_sends(waived=False)
    assert rig.client.deadline == BODY + 7.0
    assert not rig.client.still_sends(waived=False)  # nothing since then


def test_whoever_is_told_to_wait_need_not_keep_the_pace(version):
    """There is no upstream for the body yet."""
    rig = Rig(version)
    rig.ask("POST", body=b"x" * 100)
    for turn in range(1, 5):
        rig.sweep(turn * BODY)
    assert not rig.answer()
    rig.take_it()
    rig.sweep(5 * BODY)
    assert rig.answer().startswith(b"408")


def test_a_client_that_did_not_wait_is_recorded_as_such(version):
    rig = Rig(version)
    rig.ask("GET", path="/left")
    assert not rig.lines
    with rig.loop.running():
        rig.front.connection_lost(None)
        rig.loop.turn()
    (line,) = rig.lines
    assert b"/left" in line and b" 499 " in line
    assert not rig.service.endpoints[0].pool.waiting


def test_what_holds_for_the_host_is_said_with_the_answer_alone(version):
    rig = Rig(version)
    rig.ask("GET")
    with rig.loop.running():
        rig.client.send_interim(HINTS)
        rig.loop.turn()
    assert HSTS not in rig.answer()
    with rig.loop.running():
        rig.client.reply(200, b"", b"page")
        rig.loop.turn()
    assert HSTS in rig.answer()


SITES = (
    Site(
        names=("one.test",),
        routes=(Route(group=None, redirect=Redirect(307, "https://to.test$path")),),
    ),
    Site(names=("two.test",), routes=(Route(),)),
)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("one.test", b"307"), ("two.test", b""), ("three.test", b"421")],
)
def test_the_route_is_found_or_answers(version, host, answer):
    rig = Rig(version, sites=SITES)
    rig.ask("GET", host)
    got = rig.answer()
    assert got[:3] == answer
    assert (b"location: https://to.test/" in got) is (answer == b"307")
    waiting = rig.service.endpoints[0].pool.waiting
    assert bool(waiting) is (not answer)
