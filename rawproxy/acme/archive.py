"""The state folder: certificates, accounts, orders under way, and what is remembered of each name.

    acme/AUTHORITY/_account/account.json    the account's key and URL at that authority
    acme/AUTHORITY/NAME/certificate.pem     the key and the chain, in one file, so that they fit
    acme/AUTHORITY/NAME/order.json          the order under way, and its key beside it
    acme/AUTHORITY/NAME/record.json         failures, when to try again, the authority's window
    acme/AUTHORITY/NAME/shared.json         its version in the store, if machines share one
    acme/AUTHORITY/_limits/limits.json      until when the account is asked for nothing
    acme/live/NAME.pem                      a link to the best certificate: what workers read
    acme/answers/                           what answers challenges
    acme/wanted/NAME                        the admin, or a visitor on demand, asks for this one
    acme/leases/NAME.N                      who works on it

Folders are 0700 and files 0600. Each file is written beside its place and renamed into it, so half
of one is never seen, and `live` changes whenever any certificate does: one look a second is enough.

It never talks to an authority. Invariant: a file that cannot be read means that its content is not
there, and costs one certificate, never the start. Writing raises `OSError`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import stat
import time
from collections.abc import Iterator
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from rawproxy.acme.plan import Record, Standing
from rawproxy.acme.settings import Authority, file_name
from rawproxy.acme.timing import DAY, Validity
from rawproxy.config.json_codec import from_json, to_json

LARGEST: Final = 1 << 20  # bytes of a file of ours; a chain is some thousands
STALE: Final = DAY  # age at which what a killed process left behind is swept
PART: Final = ".part-"
ACCOUNT, LIMITS = "_account", "_limits"  # of an authority: what is kept beside names
_numbers = itertools.count()


def make_folder(path: str) -> None:
    """Make a folder and those above it, for us alone. Raises `OSError`."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above and above != path:
        make_folder(above)  # `os.makedirs` gives its mode to the last one alone
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def write(path: str, data: bytes, *, first: bool = False) -> bool:
    """Put `data` at `path`, whole or not at all. `first`: only if nothing is there, else False.

    Raises `OSError`.
    """
    folder, name = os.path.split(path)
    make_folder(folder)
    part = os.path.join(folder, f"{PART}{os.getpid()}-{next(_numbers)}-{name}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if first:
            try:
                os.link(part, path)
            except FileExistsError:
                return False
            finally:
                os.unlink(part)
        else:
            os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    _settle(folder)
    return True


def _settle(folder: str) -> None:
    """Have the folder's entries reach the disk too: else a crash may bring back the old ones."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems cannot
        pass
    finally:
        os.close(descriptor)


def read(path: str, most: int = LARGEST) -> bytes | None:
    """The bytes of a file; None where there is none, or none that can be read."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return None


def remove(path: str) -> None:
    """Remove a file that may have gone already."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def validity(pem: bytes | None) -> Validity | None:
    """From when to when the first certificate of a file holds; None unless it has its key too."""
    if not pem:
        return None
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
        key = serialization.load_pem_private_key(pem, None)
        if key.public_key() != leaf.public_key():
            return None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return Validity(begin.timestamp(), end.timestamp(), f"{leaf.serial_number:x}")


class Archive:
    """What this machine keeps of certificates: the folder of this room under `--state`."""

    spread = 0.0  # seconds until everybody who serves has an answer to a challenge

    def __init__(self, folder: str, authorities: tuple[Authority, ...] = ()) -> None:
        self.folder = folder
        self.authorities = authorities

    def of(self, authority: Authority, name: str, file: str = "") -> str:
        """The folder of a name at an authority, or a file in it."""
        return os.path.join(self.folder, authority.folder(), file_name(name), file)

    # ── what is remembered ──────────────────────────────────────────────────────────────────────

    def json(self, path: str) -> dict[str, Any]:
        """What a file of JSON says; nothing where it cannot be read."""
        try:
            found = json.loads(read(path) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def put(
        self, authority: Authority, name: str, file: str, data: bytes | None, *, first: bool = False
    ) -> bool:
        """Write a file of a name at an authority, or remove it. Raises `OSError`.

        `first`: only if nothing is there, else it returns False.
        """
        path = self.of(authority, name, file)
        if data is not None:
            return write(path, data, first=first)
        remove(path)
        return True

    def save(
        self, authority: Authority, name: str, file: str, values: dict[str, Any], *,
        first: bool = False,
    ) -> bool:  # fmt: skip
        """Write a file of JSON. Raises `OSError`."""
        data = json.dumps(values, indent=1).encode() + b"\n"
        return self.put(authority, name, file, data, first=first)

    def record(self, authority: Authority, name: str) -> Record:
        """What is remembered of a name; as of a new one where that cannot be read."""
        try:
            return from_json(Record, self.json(self.of(authority, name, "record.json")))
        except ValueError:
            return Record()

    def save_record(self, authority: Authority, name: str, record: Record) -> None:
        """Remember it. Raises `OSError`."""
        self.save(authority, name, "record.json", to_json(record))

    def certificate(self, authority: Authority, name: str) -> Validity | None:
        """When its certificate holds; None where there is none that can be used."""
        return validity(read(self.of(authority, name, "certificate.pem")))

    def standings(self, name: str) -> list[Standing]:
        """What there is of a name, at each authority."""
        return [
            Standing(
                self.certificate(authority, name),
                self.record(authority, name),
                bool(self.json(self.of(authority, name, "order.json")).get("url")),
            )
            for authority in self.authorities
        ]

    # ── what is served ──────────────────────────────────────────────────────────────────────────

    def live(self, name: str) -> str:
        """The file that workers read."""
        return os.path.join(self.folder, "live", file_name(name) + ".pem")

    def linked(self, name: str) -> int | None:
        """Whose certificate is served; None for nobody's whom we know."""
        try:
            found = os.readlink(self.live(name))
        except OSError:
            return None
        wanted = [self._target(one, name) for one in self.authorities]
        return wanted.index(found) if found in wanted else None

    def link(self, authority: Authority, name: str) -> None:
        """Serve the certificate of that authority. Raises `OSError`."""
        path = self.live(name)
        make_folder(os.path.dirname(path))
        part = os.path.join(
            os.path.dirname(path), f"{PART}{os.getpid()}-{next(_numbers)}-{file_name(name)}"
        )
        os.symlink(self._target(authority, name), part)
        os.replace(part, path)

    def _target(self, authority: Authority, name: str) -> str:
        return os.path.join("..", authority.folder(), file_name(name), "certificate.pem")

    # ── what is asked for ───────────────────────────────────────────────────────────────────────

    def wanted(self, name: str) -> str:
        """The file whose being there asks for a new certificate."""
        return os.path.join(self.folder, "wanted", file_name(name))

    def is_wanted(self, name: str) -> bool:
        """Whether somebody asks, and no certificate has come since, perhaps of another machine."""
        path = self.wanted(name)
        try:
            asked = os.stat(path).st_mtime_ns
        except OSError:
            return False
        with contextlib.suppress(OSError):
            if os.stat(self.live(name)).st_mtime_ns > asked:
                remove(path)
                return False
        return True

    def wishes(self) -> list[str]:
        """The names for which somebody asks."""
        try:
            found = os.listdir(os.path.join(self.folder, "wanted"))
        except OSError:
            return []
        return [_name(one) for one in sorted(found) if not one.startswith(PART)]

    def demand(self, name: str) -> None:
        """Note that a name on demand was let in. Raises `OSError`."""
        write(os.path.join(self.folder, "demanded", name), b"")

    def undemand(self, name: str) -> None:
        """It is allowed no more."""
        remove(os.path.join(self.folder, "demanded", name))

    def answered(self, path: str) -> None:
        """A file that answers a challenge is there."""

    def unanswered(self, path: str) -> None:
        """It is there no more."""

    def take_names(self, folder: str, *, remove_them: bool) -> list[str]:
        """The names of the files in `asks` or `demanded`."""
        path = os.path.join(self.folder, folder)
        try:
            found = [one for one in sorted(os.listdir(path)) if not one.startswith(PART)]
        except OSError:
            return []
        for one in found if remove_them else ():
            remove(os.path.join(path, one))
        return found

    # ── order ───────────────────────────────────────────────────────────────────────────────────

    def sweep(self) -> None:
        """Remove what killed processes have left behind, a day later."""
        old = time.time() - STALE
        for path in self._leftovers():
            with contextlib.suppress(OSError):
                if os.lstat(path).st_mtime < old:
                    os.unlink(path)

    def _leftovers(self) -> Iterator[str]:
        for folder, _, files in os.walk(self.folder):
            answers = os.path.basename(folder) == "answers"
            for name in files:
                if answers or name.startswith(PART):
                    yield os.path.join(folder, name)

    def unsafe(self) -> str | None:
        """Why the folder is no place for keys, in words; None where it is."""
        try:
            make_folder(self.folder)
            mode = os.stat(self.folder).st_mode
            if stat.S_IMODE(mode) & 0o077:
                return f"others may look into it; type chmod 700 {self.folder}"
            path = os.path.join(self.folder, f"{PART}{os.getpid()}-try")
            write(path, b"")
            os.unlink(path)
        except OSError as error:
            return f"{error.strerror}: {error.filename or self.folder}"
        return None


def _name(file: str) -> str:
    return "*." + file[2:] if file.startswith("_.") else file
