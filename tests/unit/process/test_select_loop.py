"""The master's loop: timers, and children that do not read."""

import socket

from rawproxy.process.channel import ChildChannel, LineReader, encode
from rawproxy.process.select_loop import SelectLoop


class OneChild:
    """What the loop knows of a child."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = ChildChannel(sock)
        self.open = True

    def say(self, message) -> None:
        self.channel.send(message)

    def hang_up(self) -> None:
        self.open = False
        self.channel.sock.close()


def test_timers_run_in_their_order():
    loop = SelectLoop(None)
    ran = []
    loop.later(0.01, lambda: ran.append("third"))
    loop.later(0, lambda: ran.append("first"))
    loop.later(0, lambda: ran.append("second"))
    while len(ran) < 3:
        loop.turn()
    assert ran == ["first", "second", "third"]
    loop.close()


def test_a_child_is_heard_until_it_hangs_up():
    heard = []
    loop = SelectLoop(lambda child, message: heard.append((child, message)))
    ours, theirs = socket.socketpair()
    child = OneChild(ours)
    loop.watch(child)
    theirs.sendall(encode({"is": "ready"}) + encode({"ask": "sums"}))
    theirs.close()
    while child.open:
        loop.turn()
    assert heard == [(child, {"is": "ready"}), (child, {"ask": "sums"})]
    loop.hang_up(child)  # once more does nothing
    loop.say(child, {"do": "serve"})
    loop.close()


def test_what_a_child_does_not_read_yet_is_sent_when_it_does():
    loop = SelectLoop(None)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    child = OneChild(ours)
    loop.watch(child)
    loop.later(3600, lambda: None)
    message = {"x": "y" * 1_000_000}
    loop.say(child, message)
    assert child.channel.unsent
    lines, got = LineReader(), []
    while not got:
        got = lines.feed(theirs.recv(1 << 20))
        if child.channel.unsent:
            loop.turn()
    assert got == [message] and not child.channel.unsent
    loop.hang_up(child)
    theirs.close()
    loop.close()
