"""Passwords: computed beside the loop, remembered, slowed down, bounded."""

import asyncio
import base64
import threading

import bcrypt
import pytest

from rawproxy.access import htpasswd, passwords
from rawproxy.access.counts import AccessCounts
from rawproxy.access.passwords import WAITING, Hasher, Passwords
from rawproxy.access.rates import SIZE, RateTable
from rawproxy.access.rules import PasswordRule
from rawproxy.errors import CapacityError, ClientError
from tests.process import PATIENCE

HASH = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
NOW = 1_000_000.0


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


class Stand:
    def __init__(self) -> None:
        self.hasher = Hasher()
        self.counts = AccessCounts()
        rule = PasswordRule("members", (("alice", HASH),), 'the "site"')
        table = RateTable(memoryview(bytearray(SIZE)))
        self.passwords = Passwords(rule, table, self.hasher, self.counts)

    async def tried(self, user: str, password: str, client: bytes = b"192.0.2.1", now: float = NOW):
        """True, False, or the error that it ended with."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        found = self.passwords.check(basic(user, password), client, now, told.set_result)
        return found if found is not False else await told


def run(test):
    async def bounded():
        stand = Stand()
        try:
            async with asyncio.timeout(PATIENCE):
                await test(stand)
        finally:
            stand.hasher.close()

    asyncio.run(bounded())


def test_the_right_password_is_computed_once():
    async def test(stand):
        assert await stand.tried("alice", "hunter2") is True
        assert stand.counts.hashed == 1
        assert await stand.tried("alice", "hunter2") is True
        assert stand.counts.hashed == 1, "it is known"
        assert await stand.tried("alice", "hunter3") is False
        assert await stand.tried("bob", "hunter2") is False
        assert stand.counts.hashed == 3
        assert stand.hasher.waiting == 0

    run(test)


@pytest.mark.parametrize(
    "field", [b"", b"Bearer x", b"Basic ?", b"Basic " + base64.b64encode(b"alice")]
)
def test_whoever_says_no_password_is_asked_for_one(field):
    async def test(stand):
        found = stand.passwords.check(field, b"192.0.2.1", NOW, lambda right: None)
        assert isinstance(found, ClientError)
        assert found.status == 401
        assert found.lines == b'WWW-Authenticate: Basic realm="the site", charset="UTF-8"\r\n'

    run(test)


def test_wrong_tries_are_slowed_for_their_client_alone():
    async def test(stand):
        for number in range(10):
            assert await stand.tried("alice", f"wrong {number}") is False
        found = await stand.tried("alice", "wrong again")
        assert isinstance(found, ClientError)
        assert (found.status, found.lines) == (429, b"Retry-After: 6\r\n")
        assert stand.counts.hashed == 10, "what is refused is not computed"
        for _ in range(20):
            assert await stand.tried("alice", "hunter2", b"192.0.2.2") is True, "another client"
        assert await stand.tried("alice", "hunter2") is True, "who knows it passes"
        assert await stand.tried("alice", "wrong 11", now=NOW + 6) is False
        assert isinstance(await stand.tried("alice", "wrong 12", now=NOW + 6), ClientError)

    run(test)


def test_right_ones_do_not_count_and_many_at_once_are_no_way_round():
    async def test(stand):
        for number in range(30):
            secret = bcrypt.hashpw(b"%d" % number, bcrypt.gensalt(4)).decode()
            stand.passwords._users.hashes[b"u%d" % number] = secret
            assert await stand.tried(f"u{number}", str(number)) is True
        assert stand.counts.hashed == 30
        tries = [stand.tried("alice", f"wrong {number}") for number in range(40)]
        answers = await asyncio.gather(*tries)
        assert sum(one is False for one in answers) == 10
        assert stand.counts.hashed == 40

    run(test)


def test_equal_tries_at_once_are_one_and_who_has_left_is_not_told():
    async def test(stand):
        told = []
        waiters = [lambda right, number=number: told.append((number, right)) for number in range(4)]
        for waiter in waiters:
            assert (
                stand.passwords.check(basic("alice", "hunter2"), b"192.0.2.1", NOW, waiter) is False
            )
        stand.passwords.leave(waiters[2])
        while len(told) < 3:
            await asyncio.sleep(0.005)
        assert told == [(0, True), (1, True), (3, True)]
        assert stand.counts.hashed == 1

    run(test)


def test_so_many_wait_and_no_more(monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(htpasswd, "right", lambda *told: go.wait(10))

    async def test(stand):
        for number in range(WAITING):
            found = stand.passwords.check(
                basic("alice", str(number)), b"192.0.2.%d" % number, NOW, lambda right: None
            )
            assert found is False
        found = stand.passwords.check(
            basic("alice", "one more"), b"192.0.2.1", NOW, lambda right: None
        )
        assert isinstance(found, CapacityError)
        assert found.status == 503
        go.set()
        while stand.hasher.waiting:
            await asyncio.sleep(0.005)

    run(test)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(passwords, "KNOWN", 3)
    monkeypatch.setattr(htpasswd, "right", lambda *told: True)

    async def test(stand):
        for number in range(5):
            assert await stand.tried("alice", str(number)) is True
        assert stand.counts.hashed == 5
        assert await stand.tried("alice", "4") is True
        assert stand.counts.hashed == 5
        assert await stand.tried("alice", "0") is True
        assert stand.counts.hashed == 6, "it was forgotten"

    run(test)


def test_the_loop_goes_on_meanwhile():
    """SHA-512 crypt of 200,000 rounds takes a third of a second, in Python all of it."""

    async def test(stand):
        line = "$6$rounds=200000$salt$" + "a" * 86
        rule = PasswordRule("members", (("alice", line),), "x")
        table = RateTable(memoryview(bytearray(SIZE)))
        slow = Passwords(rule, table, stand.hasher, stand.counts)
        told = asyncio.get_running_loop().create_future()
        assert slow.check(basic("alice", "x"), b"192.0.2.1", NOW, told.set_result) is False
        loop, longest, turns = asyncio.get_running_loop(), 0.0, 0
        last = loop.time()
        while not told.done():
            await asyncio.sleep(0)
            now = loop.time()
            longest, last, turns = max(longest, now - last), now, turns + 1
        assert await told is False
        assert turns > 200, f"{turns} turns, the longest {longest * 1000:.1f} ms"

    run(test)
