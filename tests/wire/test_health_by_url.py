"""Rule 44: what a visitor can provoke by choosing a URL never takes an upstream out of its group.

What speaks against an upstream's life still does: connections that are refused or lost before an
answer has begun, answers that do not come, and the statuses that the configuration names.
"""

import pytest

from rawproxy.balancing.health import DUE, EJECTED, UP
from rawproxy.config.model import Passive

from .rig import get, read_head, run
from .test_groups import Backend, endpoint, fleet, names, until

# What the upstream sends for each path; it closes behind those that say so.
ANSWERS = {
    b"/no-http": b"SSH-2.0-OpenSSH_9.2\r\n",
    b"/bare-line-feed": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"/folded": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    b"/two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"/odd-coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
    b"/odd-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
    b"/oversized": b"HTTP/1.1 200 OK\r\nA: " + bytes([65]) * 300_000 + b"\r\n\r\n",
    b"/unasked-101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    b"/too-short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    b"/no-last-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
}
CLOSES = (b"/too-short", b"/no-last-chunk")
DEADLY = Passive(max_fails=1, window=60.0, back_off=60.0)


async def provoke(rig, path: bytes, times: int) -> None:
    for _ in range(times):
        reader, writer = await rig.client()
        writer.write(get(path, b"Connection: close"))
        await reader.read()
        writer.close()


class Peculiar(Backend):
    """A backend with some URLs that are answered badly."""

    async def _serve(self, reader, writer) -> None:
        self.held.append(writer)
        head = await read_head(reader)
        path = head.split(b" ", 2)[1]
        if path == b"/silent-body":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            await reader.read()
        elif path == b"/silent":
            await reader.read()
        elif path == b"/dies":
            writer.close()
        elif path in ANSWERS:
            writer.write(ANSWERS[path])
            if path not in CLOSES:
                await reader.read()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
        writer.close()


async def judged(path: bytes, **options):
    """The states of a group of two after `path` was asked for again and again."""
    async with fleet(2, **options) as (rig, backends):
        for one in backends:
            one.stop()
        async with Peculiar(b"a", port=backends[0].port), Peculiar(b"b", port=backends[1].port):
            await provoke(rig, path, 4)
            return [endpoint(rig, n).health.state for n in (0, 1)], rig.problems


@pytest.mark.parametrize("path", sorted([*ANSWERS, b"/silent-body"]))
def test_a_bad_answer_takes_nobody_out(path):
    async def test():
        deadlines = {"response_body": 0.1, "linger": 0.1}
        states, problems = await judged(path, group={"passive": DEADLY}, deadlines=deadlines)
        assert states == [UP, UP]
        assert not any(" is out " in line for line in problems)

    run(test())


@pytest.mark.parametrize("path", [b"/silent", b"/dies"])
def test_no_answer_does(path):
    async def test():
        deadlines = {"response_head": 0.1, "linger": 0.1}
        states, _ = await judged(path, group={"passive": DEADLY}, deadlines=deadlines)
        assert states == [EJECTED, EJECTED]

    run(test())


def test_a_bad_answer_to_a_trial_shows_that_it_lives():
    async def test():
        passive = Passive(max_fails=1, window=60.0, back_off=0.1)
        async with fleet(2, group={"passive": passive}, deadlines={"linger": 0.1}) as (rig, them):
            them[1].stop()
            assert "b" not in await names(rig, 4)
            await until(lambda: endpoint(rig, 1).health.state is DUE)
            async with Peculiar(b"b", port=them[1].port):
                await provoke(rig, b"/no-http", 2)
                assert endpoint(rig, 1).health.state is UP

    run(test())
