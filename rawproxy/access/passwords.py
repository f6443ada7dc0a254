"""Whether a password is right, found out beside the loop.

    remembered   a password that was right once is known by a keyed digest, in memory alone: a
                 browser sends it with each request, and bcrypt takes a tenth of a second
    slowed       a client that was wrong gets fewer and fewer tries: ten, then one in six seconds.
                 What is refused for that is not computed (429)
    computed     by one thread for the whole worker, with a bounded queue (503)

Equal tries that are under way at the same time are one. Whoever has had the right password passes
also while others behind the same address are slowed down. Invariants: nothing is computed in the
loop; no password is kept or logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from rawproxy.access import htpasswd
from rawproxy.access.counts import AccessCounts
from rawproxy.access.htpasswd import Credentials, PasswordFile
from rawproxy.access.rates import RateTable, rate, retry_after
from rawproxy.access.rules import PasswordRule
from rawproxy.errors import CapacityError, ClientError, ProxyError

WAITING: Final = 64  # tries that wait for the thread: some seconds of work
KNOWN: Final = 4096  # passwords that are remembered, 100 bytes each
# Ten wrong tries for whoever has mistyped; then 14,400 a day, of which no guessing comes.
WRONG: Final = rate(1, 6.0, 9)

OnPassword = Callable[[bool], None]


class Hasher:
    """The thread of one worker."""

    __slots__ = ("_pool", "waiting")

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "passwords")
        self.waiting = 0

    def submit(self, users: PasswordFile, told: Credentials, tell: Callable[[bool], None]) -> None:
        """Compute; `tell` is called in the loop."""
        loop = asyncio.get_running_loop()
        self.waiting += 1

        def over(future: Future[bool]) -> None:
            fits = not future.cancelled() and future.exception() is None and future.result()
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, fits)

        def done(fits: bool) -> None:
            self.waiting -= 1
            tell(fits)

        # A pause of no length lets the loop have the interpreter.
        self._pool.submit(htpasswd.right, users, told, _rest).add_done_callback(over)

    def close(self) -> None:
        """Nothing more is computed; what is under way ends by itself, in about a second."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _rest() -> None:
    time.sleep(0)


class Passwords:
    """The users of one file, as one worker asks for them."""

    __slots__ = (
        "_challenge", "_counts", "_hasher", "_key", "_known", "_rates", "_under_way", "_users",
        "_zone",
    )  # fmt: skip

    def __init__(
        self, rule: PasswordRule, rates: RateTable, hasher: Hasher, counts: AccessCounts
    ) -> None:
        self._users = PasswordFile(rule.users)
        self._zone = b"basic-auth " + rule.path.encode()
        realm = rule.realm.replace("\\", "").replace('"', "")
        self._challenge = f'WWW-Authenticate: Basic realm="{realm}", charset="UTF-8"\r\n'.encode()
        self._rates = rates
        self._hasher = hasher
        self._counts = counts
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._under_way: dict[bytes, list[OnPassword]] = {}

    def check(
        self, authorization: bytes, client: bytes, now: float, waiter: OnPassword
    ) -> bool | ProxyError:
        """True: it is right; False: `waiter` will be told; or why the request ends here."""
        told = htpasswd.credentials(authorization)
        if told is None:
            return self.refusal("no password" if not authorization else "not a Basic password")
        digest = self._digest(told)
        if digest in self._known:
            self._known.move_to_end(digest)
            return True
        waiters = self._under_way.get(digest)
        if waiters is not None:
            waiters.append(waiter)
            return False
        if self._hasher.waiting >= WAITING:
            return CapacityError(f"{WAITING} passwords wait to be looked at already")
        # Each try counts as wrong until it is known to be right: many at once are no way round.
        name = self._rates.name(self._zone, client)
        wait = self._rates.take(name, WRONG, now)
        if wait:
            slow = ClientError("too many wrong passwords from this address", 429)
            slow.lines = retry_after(wait)
            return slow
        self._under_way[digest] = [waiter]
        self._counts.hashed += 1

        def tell(fits: bool) -> None:
            if fits:
                self._remember(digest)
                self._rates.give_back(name, WRONG)
            for one in self._under_way.pop(digest):
                one(fits)

        self._hasher.submit(self._users, told, tell)
        return False

    def refusal(self, why: str) -> ProxyError:
        """Not without the right password (RFC 9110 15.5.2)."""
        error = ClientError(why, 401)
        error.lines = self._challenge
        return error

    def leave(self, waiter: OnPassword) -> None:
        """Somebody does not wait any more; what is computed is remembered all the same."""
        for waiters in self._under_way.values():
            if waiter in waiters:
                waiters.remove(waiter)

    def _digest(self, told: Credentials) -> bytes:
        text = b"%d:%b%b" % (len(told.user), told.user, told.password)
        return hashlib.blake2b(text, digest_size=32, key=self._key).digest()

    def _remember(self, digest: bytes) -> None:
        self._known[digest] = None
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
