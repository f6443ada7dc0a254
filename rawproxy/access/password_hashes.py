"""APR1 and SHA-2 crypt, the two schemes of htpasswd files that no well-kept library still brings.

    $apr1$SALT$HASH                 Apache's variant of MD5 crypt, a thousand rounds
    $5$[rounds=N$]SALT$HASH         SHA-256 crypt (Drepper, "Unix crypt using SHA-256 and SHA-512")
    $6$[rounds=N$]SALT$HASH         SHA-512 crypt

Python's own `crypt` is gone since 3.13, and a thread that computes for ten milliseconds without a
pause holds the interpreter while requests wait. So `rest` is called every few rounds; whoever calls
from a thread hands in what lets others run. It never reads a file and never compares. Invariant:
the result depends on password, salt and rounds alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_APR1_ROUNDS: Final = 1000
_PAUSE: Final = 100  # rounds between two pauses: about 0.1 ms
# Which three bytes of a digest make four characters, as the schemes have it; then those left over.
_ORDER_MD5: Final = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5), (11,))
_ORDER_256: Final = (
    (0, 10, 20), (21, 1, 11), (12, 22, 2), (3, 13, 23), (24, 4, 14), (15, 25, 5), (6, 16, 26),
    (27, 7, 17), (18, 28, 8), (9, 19, 29), (31, 30),
)  # fmt: skip
_ORDER_512: Final = (
    (0, 21, 42), (22, 43, 1), (44, 2, 23), (3, 24, 45), (25, 46, 4), (47, 5, 26), (6, 27, 48),
    (28, 49, 7), (50, 8, 29), (9, 30, 51), (31, 52, 10), (53, 11, 32), (12, 33, 54), (34, 55, 13),
    (56, 14, 35), (15, 36, 57), (37, 58, 16), (59, 17, 38), (18, 39, 60), (40, 61, 19),
    (62, 20, 41), (63,),
)  # fmt: skip

Rest = Callable[[], object]


def apr1(password: bytes, salt: bytes, rest: Rest) -> str:
    """The last part of a `$apr1$` line."""
    inner = hashlib.md5(password + salt + password, usedforsecurity=False).digest()
    text = password + b"$apr1$" + salt + _stretched(inner, len(password))
    bits = len(password)
    while bits:
        text += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    digest = hashlib.md5(text, usedforsecurity=False).digest()
    for at in range(_APR1_ROUNDS):
        if not at % _PAUSE:
            rest()
        text = password if at & 1 else digest
        text += salt if at % 3 else b""
        text += password if at % 7 else b""
        text += digest if at & 1 else password
        digest = hashlib.md5(text, usedforsecurity=False).digest()
    return _encoded(digest, _ORDER_MD5)


def sha_crypt(name: str, password: bytes, salt: bytes, rounds: int, rest: Rest) -> str:
    """The last part of a `$5$` (`name` is sha256) or `$6$` (sha512) line."""
    new: Callable[..., Any] = getattr(hashlib, name)
    inner = new(password + salt + password).digest()
    text = password + salt + _stretched(inner, len(password))
    bits = len(password)
    while bits:
        text += inner if bits & 1 else password
        bits >>= 1
    digest = new(text).digest()
    secret = _stretched(new(password * len(password)).digest(), len(password))
    pepper = _stretched(new(salt * (16 + digest[0])).digest(), len(salt))
    for at in range(rounds):
        if not at % _PAUSE:
            rest()
        text = secret if at & 1 else digest
        text += pepper if at % 3 else b""
        text += secret if at % 7 else b""
        text += digest if at & 1 else secret
        digest = new(text).digest()
    return _encoded(digest, _ORDER_256 if name == "sha256" else _ORDER_512)


def _stretched(digest: bytes, size: int) -> bytes:
    return (digest * (size // len(digest) + 1))[:size]


def _encoded(digest: bytes, order: tuple[tuple[int, ...], ...]) -> str:
    letters: list[str] = []
    for places in order:
        number = int.from_bytes(bytes(digest[at] for at in places))
        for _ in range(len(places) + 1):
            letters.append(_ALPHABET[number & 63])
            number >>= 6
    return "".join(letters)
