"""Files of users and passwords, as Apache's `htpasswd` writes them: a line `user:hash` for each.

    $2y$10$…    bcrypt (`htpasswd -B`), also $2a$ and $2b$
    $5$… $6$…   SHA-2 crypt (`htpasswd -2`, `-5`)
    $apr1$…     Apache's MD5, the default of `htpasswd`

What is weaker is refused at the start: plain text, DES crypt, and SHA-1 without a salt. So is what
would take a server's whole day: one wrong password must cost no more than about a second. It never
opens a file. Invariant: whatever a client sends, `right` only says yes or no, and takes as long for
a user who does not exist as for one who does.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from typing import Final, NamedTuple

import bcrypt

from rawproxy.access.password_hashes import Rest, apr1, sha_crypt
from rawproxy.errors import ConfigError

SIZE: Final = 1 << 20  # bytes of a file: some ten thousand users
COST: Final = 14  # of bcrypt at the most: about a second
ROUNDS: Final = 1_000_000  # of SHA-2 crypt at the most: about as long
PASSWORD: Final = 256  # bytes of a password: SHA-2 crypt takes longer for longer ones
_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}").fullmatch
_SHA: Final = re.compile(
    r"\$([56])\$(?:rounds=([0-9]{4,9})\$)?([^$:\s]{1,16})\$([./A-Za-z0-9]{43}|[./A-Za-z0-9]{86})"
).fullmatch
_APR1: Final = re.compile(r"\$apr1\$([^$:\s]{1,8})\$([./A-Za-z0-9]{22})").fullmatch
_DEFAULT_ROUNDS: Final = 5000


class Credentials(NamedTuple):
    """What a client says of itself (RFC 7617)."""

    user: bytes
    password: bytes


class PasswordFile:
    """The users of one file, ready for use; one at least."""

    __slots__ = ("hashes", "other")

    def __init__(self, users: tuple[tuple[str, str], ...]) -> None:
        self.hashes = {user.encode("latin-1"): secret for user, secret in users}
        self.other = users[0][1]  # the hash that is computed for users who do not exist


def read(path: str, text: bytes) -> tuple[tuple[str, str], ...]:
    """Users and hashes, for `PasswordFile`. Raises `ConfigError` that names file and line."""
    hashes: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(b"#"):
            continue
        user, colon, secret = stripped.partition(b":")
        found = secret.partition(b":")[0].decode("latin-1")
        wrong = _fault(found) if user and colon else "type USER:HASH, as htpasswd -B writes it"
        if user in hashes:
            wrong = "this user has a line above already; leave one of them out"
        if wrong:
            raise ConfigError(f"{path}:{number}: {wrong}")
        hashes[user] = found
    if not hashes:
        raise ConfigError(f"{path}: no user in it; type htpasswd -B {path} NAME")
    return tuple((user.decode("latin-1"), found) for user, found in hashes.items())


def _fault(found: str) -> str:
    """Why a hash cannot be used; empty: it can."""
    match = _BCRYPT(found)
    if match:
        return "" if 4 <= int(match[1]) <= COST else f"bcrypt's cost is to be 4 to {COST}"
    match = _SHA(found)
    if match:
        fits = len(match[4]) == (43 if match[1] == "5" else 86)
        if fits and (match[2] is None or 1000 <= int(match[2]) <= ROUNDS):
            return ""
        return f"not whole, or its rounds are not 1000 to {ROUNDS}"
    if _APR1(found):
        return ""
    if found.startswith("{SHA}"):
        return "SHA-1 without a salt is too easily guessed; type htpasswd -B FILE USER"
    if found.startswith("$"):
        return "a hash of a kind that is not known; known are bcrypt, SHA-2 crypt and apr1"
    return "plain text or DES crypt, which is too easily guessed; type htpasswd -B FILE USER"


def right(known: PasswordFile, told: Credentials, rest: Rest) -> bool:
    """Whether the password is that of the user. `rest` lets others run (`password_hashes`)."""
    secret = known.hashes.get(told.user)
    fits = _matches(secret or known.other, told.password, rest)
    return fits and secret is not None


def _matches(secret: str, password: bytes, rest: Rest) -> bool:
    if len(password) > PASSWORD or b"\0" in password:
        return False
    match = _BCRYPT(secret)
    if match:
        # Only so much of it has ever been looked at.
        return bcrypt.checkpw(password[:72], secret.encode())
    match = _SHA(secret)
    if match:
        name = "sha256" if match[1] == "5" else "sha512"
        rounds = int(match[2] or _DEFAULT_ROUNDS)
        made = sha_crypt(name, password, match[3].encode("latin-1"), rounds, rest)
        return hmac.compare_digest(made, match[4])
    match = _APR1(secret)
    assert match is not None, "what `read` let pass is one of these"
    return hmac.compare_digest(apr1(password, match[1].encode("latin-1"), rest), match[2])


def credentials(authorization: bytes) -> Credentials | None:
    """What an Authorization field says, if it is of the scheme Basic and well-formed."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        text = base64.b64decode(token.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(b":")
    return Credentials(user, password) if colon else None
