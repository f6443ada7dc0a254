"""What of an archive stands in the store of `--store`, under which name and in which form.

    acme/NUMBER      an entry: the files of one name, or of the account, at one authority
    acme/answers     what answers challenges now
    acme/names       names on demand that were let in
    acme/memory      there as long as the store has forgotten nothing
    acme/settling    there for some seconds after it was found to have forgotten everything

An entry has a version, which grows with each change, and says who has changed it. So who works on a
name without knowing the last version has lost it to another one: versions are the fence of leases.

With a secret (`store-key`) every value is sealed by AES-256-GCM for the name that it stands under.
Without one, private keys stand in the store as they are. It never reaches the store. Invariant: of
a value that is not of this form, nothing is used. Raises `SealError` for one of another secret.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rawproxy.acme.answers import is_answer
from rawproxy.acme.archive import LARGEST, validity
from rawproxy.acme.settings import Authority, file_name

ANSWERS, NAMES = "acme/answers", "acme/names"
MEMORY, SETTLING = "acme/memory", "acme/settling"
FILES: Final = (
    "account.json", "certificate.pem", "limits.json", "order.json", "order-key.pem", "record.json",
)  # fmt: skip
SHORTEST: Final = 32  # bytes of a secret: as many as the key that is made of it
MOST_NAMES: Final = 20_000  # on demand: 5 MB, if all of them are as long as names can be
MOST_ANSWERS: Final = 1000  # at once; four for each machine are usual
KEPT: Final = 3600.0  # seconds for which an answer is there if whoever put it was killed
_MAGIC: Final = b"sealed1:"
_NONCE: Final = 12  # bytes (NIST SP 800-38D 8.2.2); four thousand million values of one key


class SealError(Exception):
    """A value was sealed with another secret, or is not sealed though it should be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The files of a name at an authority, as text."""

    version: int = 0  # 0: there is none
    holder: str = ""  # who has changed it last
    files: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """What tells whether files are the same."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()


class Seal:
    """Seals values and opens them; without a secret it passes them as they are."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._cipher: AESGCM | None = None
        if secret is not None:
            key = HKDF(hashes.SHA256(), 32, b"rawproxy", b"acme in a store").derive(secret)
            self._cipher = AESGCM(key)

    def closed(self, name: str, data: bytes) -> bytes:
        """What stands in the store under `name`."""
        if self._cipher is None:
            return data
        nonce = os.urandom(_NONCE)
        return _MAGIC + nonce + self._cipher.encrypt(nonce, data, name.encode())

    def opened(self, name: str, data: bytes) -> bytes:
        """And back. Raises `SealError`."""
        sealed = data.startswith(_MAGIC)
        if self._cipher is None:
            if sealed:
                raise SealError(f"{name} is sealed: type store-key under [certificates]")
            return data
        nonce = data[len(_MAGIC) :][:_NONCE]
        try:
            if not sealed or len(nonce) < _NONCE:
                raise InvalidTag
            return self._cipher.decrypt(nonce, data[len(_MAGIC) + _NONCE :], name.encode())
        except InvalidTag:
            words = f"{name} is not sealed by this store-key: give all machines the same one, or"
            raise SealError(f"{words} the store another ?prefix= after a change of it") from None


def entry_name(authority: Authority, name: str) -> str:
    """Under which an entry stands: a number, as names have letters that a store's may not have."""
    return "acme/" + _number(f"{authority.folder()}/{file_name(name)}")


def lock_name(name: str) -> str:
    """The lock of whoever works on a name."""
    return "acme/" + _number(file_name(name))


def _number(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def packed(entry: Entry) -> bytes:
    """An entry as bytes."""
    told = {"version": entry.version, "holder": entry.holder, "files": entry.files}
    return json.dumps(told).encode()


def unpacked(data: bytes | None) -> Entry:
    """The entry that those bytes are; version 0 for none, and for anything else."""
    told = json_of(data)
    version, files = told.get("version"), told.get("files")
    if not isinstance(version, int) or not 0 < version < 1 << 53 or not isinstance(files, dict):
        return Entry()
    if not all(name in FILES and sound(name, text) for name, text in files.items()):
        return Entry()
    return Entry(version, str(told.get("holder", "")), files)


def sound(name: str, text: Any) -> bool:
    """Whether the text of a file is what such a file has: a damaged one is told to nobody."""
    if not isinstance(text, str) or len(text) > LARGEST:
        return False
    if name == "certificate.pem":
        return validity(text.encode()) is not None
    return bool(text) and (not name.endswith(".json") or json_of(text.encode()) != {})


def json_of(data: bytes | None) -> dict[str, Any]:
    """An object of JSON; an empty one for anything else."""
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def answers_of(data: bytes | None, now: float) -> dict[str, tuple[float, str]]:
    """By file: until when it answers, and with what. Those whose time is over are left out."""
    found: dict[str, tuple[float, str]] = {}
    for file, told in json_of(data).items():
        good = isinstance(told, list) and len(told) == 2 and isinstance(told[1], str)
        if good and is_answer(file) and isinstance(told[0], int | float) and told[0] > now:
            found[file] = float(told[0]), told[1]
    return dict(list(found.items())[:MOST_ANSWERS])


def names_of(data: bytes | None, can_be: Callable[[str], bool]) -> set[str]:
    """The names on demand."""
    told = json_of(data).get("names")
    names = told if isinstance(told, list) else []
    return {one for one in names[:MOST_NAMES] if isinstance(one, str) and can_be(one)}
