"""The conversation with one authority (RFC 8555), over the `acme` library: account, orders, words.

The library signs, keeps nonces and knows the messages; it sends by `requests`. What stands here is
which of our files an account is, what is tried again, and what becomes of errors. It is loaded in
the keeper's process and by `rawproxy certificates` alone, never in a worker or the master.

It never decides what to order and never writes a certificate. Raises `IssueError`, which has the
authority's words, and `OSError` for the state folder. Invariant: one account for each authority and
state folder, however many processes begin with it at the same moment.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import json
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import josepy
import requests
from acme import client, errors, jws, messages
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rawproxy import __version__
from rawproxy.acme import advice
from rawproxy.acme.advice import IssueError
from rawproxy.acme.archive import ACCOUNT, Archive, read
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.timing import HOUR, Trouble
from rawproxy.telemetry.error_log import log

TIMEOUT: Final = 30  # seconds for one answer of an authority
# A nonce may be refused at any time (RFC 8555 6.5). The library tries twice; so often we ask it.
TRIES: Final = 5
SKEW: Final = HOUR  # by which the clocks may differ: certificates begin an hour early, mostly
DIRECTORY: Final = HOUR  # for which a directory is kept
PROBLEM: Final = "urn:ietf:params:acme:error:"  # how errors of RFC 8555 6.7 begin
NONSENSE: Final = (ValueError, KeyError, TypeError, AttributeError)  # by answers of another form

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offers:
    """What an authority's directory says (RFC 8555 7.1.1)."""

    terms: str
    bound: bool  # accounts need its own key
    windows: bool  # it says when to renew (RFC 9773)


class ToSign:
    """What the library signs: an object of JSON."""

    def __init__(self, values: JsonObject) -> None:
        self._values = values

    def json_dumps(self, **_: Any) -> str:
        """Called by the library."""
        return json.dumps(self._values)


class Conversation:
    """With one authority, of one thread."""

    def __init__(
        self, settings: AcmeSettings, authority: Authority, archive: Archive, *, dry: bool = False
    ) -> None:
        self.settings = settings
        self.authority = authority
        self.path = archive.of(authority, ACCOUNT, "account.json")
        self._archive = archive
        self._dry = dry  # nothing is signed or written
        self._client: Any = None
        self._pem = ""  # the key that signs
        self._until = 0.0
        self._status = 0
        self.wait = 0.0  # seconds that the last answer asked for
        self.skew = 0.0  # by how many seconds the authority's clock is ahead of ours

    # ── sending ─────────────────────────────────────────────────────────────────────────────────

    def directory(self) -> Any:
        """What the authority offers. Raises `IssueError`."""
        return self._ready().directory

    def _ready(self) -> Any:
        if self._client is None or time.monotonic() > self._until:
            key = None if self._dry else self._key()
            root = self.authority.root
            net = client.ClientNetwork(
                key, alg=josepy.ES256, user_agent=f"rawproxy/{__version__}", timeout=TIMEOUT,
                verify_ssl=system_authorities() if root is None else root,
            )  # fmt: skip
            net.session.hooks["response"].append(self._heard)
            with self._words(""):
                directory = client.ClientV2.get_directory(self.authority.url, net)
            self._client = client.ClientV2(directory, net)
            self._until = time.monotonic() + DIRECTORY
        return self._client

    def _heard(self, answer: Any, **_: Any) -> None:
        """Called with each answer, whatever it is."""
        self._status = answer.status_code
        self.wait = seconds_of(answer.headers.get("Retry-After", ""))
        with contextlib.suppress(ValueError, TypeError):  # an odd date, or none
            date = email.utils.parsedate_to_datetime(answer.headers.get("Date"))
            self.skew = date.timestamp() - time.time()

    def post(self, url: str, message: JsonObject | None = None, name: str = "") -> Any:
        """The answer to a signed message; without one it is a POST-as-GET. Raises `IssueError`.

        `name` is the server name that it is about, for the words of a refusal.
        """
        mine = self._ready()
        left = TRIES
        with self._words(name):
            while True:
                left -= 1
                try:
                    told = None if message is None else ToSign(message)
                    return mine.net.post(url, told, new_nonce_url=mine.directory["newNonce"])
                except messages.Error as error:
                    if error.code != "badNonce" or not left:
                        raise

    def read(self, url: str, name: str) -> JsonObject:
        """An order or an authorization as it is now; it has a status. Raises `IssueError`."""
        return self.body_of(self.post(url, None, name))

    def body_of(self, answer: Any) -> JsonObject:
        """The same, of an answer that has come."""
        with self._words(""):
            found = answer.json()
            if not isinstance(found, dict) or "status" not in found:
                raise ValueError("no status")
            return found

    @contextlib.contextmanager
    def _words(self, name: str) -> Iterator[None]:
        """Make an `IssueError` of whatever the library and those below it raise."""
        try:
            yield
        except messages.Error as error:
            if not str(error.typ).startswith(PROBLEM):
                said = error.detail or f"HTTP status {self._status}"
                words = advice.away(self.authority.url, said)
                raise IssueError(Trouble.AWAY, words, self.wait) from None
            kind = advice.kind_of(str(error.typ))
            about = name or self.authority.url
            said = error.detail or str(error)
            for one in error.subproblems or ():
                said += f"; {one.detail}"
            words = advice.refusal(about, kind, said, "")
            raise RefusedError(advice.fault_of(kind), words, self.wait, kind) from None
        except (requests.RequestException, errors.Error, OSError) as error:
            words = advice.away(self.authority.url, str(error) or type(error).__name__)
            raise IssueError(Trouble.AWAY, words, self.wait) from None
        except (josepy.errors.Error, *NONSENSE) as error:
            raise self._nonsense(error) from None

    @contextlib.contextmanager
    def sense(self) -> Iterator[None]:
        """Make an `IssueError` of an answer that lacks what it has to have."""
        try:
            yield
        except NONSENSE as error:
            raise self._nonsense(error) from None

    def _nonsense(self, error: Exception) -> IssueError:
        words = advice.away(self.authority.url, f"no answer of an authority: {error}")
        return IssueError(Trouble.AWAY, words, self.wait)

    def offers(self) -> Offers:
        """What its directory says of it. Raises `IssueError`."""
        found = self.directory()
        meta = getattr(found, "meta", None)
        try:
            windows = bool(found["renewalInfo"])
        except KeyError:
            windows = False
        terms = getattr(meta, "terms_of_service", None) or ""
        return Offers(terms, bool(getattr(meta, "external_account_required", None)), windows)

    def look_at_clock(self) -> None:
        """Raises `IssueError` if one of the clocks is wrong: what was given would not hold."""
        self._ready()
        if abs(self.skew) > SKEW:
            raise IssueError(Trouble.OURS, advice.clock_is_off(self.authority.url, self.skew))

    # ── the account ─────────────────────────────────────────────────────────────────────────────

    def _key(self) -> Any:
        """The account's key: the one in the folder, or a new one, which is there first."""
        pem = str(self._archive.json(self.path).get("key", "")).encode()
        if not pem:
            pem = pem_of(ec.generate_private_key(ec.SECP256R1()))
            if not self._save({"key": pem.decode()}, first=True):
                found = str(self._archive.json(self.path).get("key", "")).encode()
                if not found:  # damaged: that account is lost, and another one takes its place
                    log.warning("%s cannot be read: a new account takes its place", self.path)
                    self._save({"key": pem.decode()})
                pem = found or pem
        self._pem = pem.decode()
        try:
            return josepy.JWKEC(key=serialization.load_pem_private_key(pem, None))
        except (ValueError, TypeError):
            self._archive.put(self.authority, ACCOUNT, "account.json", None)
            log.warning("%s: its key cannot be read: a new account takes its place", self.path)
            return self._key()

    def _save(self, values: JsonObject, *, first: bool = False) -> bool:
        return self._archive.save(self.authority, ACCOUNT, "account.json", values, first=first)

    def account(self) -> None:
        """Have an account; a new one if there is none. Raises `IssueError`."""
        known = self._archive.json(self.path)
        if known.get("key") != self._pem:
            self._client = None  # another process has given it a new key
        mine = self._ready()
        known = self._archive.json(self.path)
        if mine.net.account is None and known.get("uri"):
            mine.net.account = messages.RegistrationResource(
                body=messages.Registration(), uri=known["uri"]
            )
        if mine.net.account is not None and known.get("next"):
            mine = self._settle_key(mine, known)
            known = self._archive.json(self.path)
        if mine.net.account is None or not known.get("uri"):
            self._register(mine)
        elif known.get("email") != self.settings.email:
            contact = [f"mailto:{self.settings.email}"] if self.settings.email else []
            self.post(known["uri"], {"contact": contact})
            self._save(known | {"email": self.settings.email})

    def _settle_key(self, mine: Any, known: JsonObject) -> Any:
        """A change of the key was cut short: go on with the one that the authority knows."""
        account = mine.net.account
        try:
            self.post(known["uri"])
            told = {name: value for name, value in known.items() if name != "next"}
            self._save(told)
            return mine
        except RefusedError:
            pass
        self._save({"key": known["next"], "uri": known["uri"]})
        self._client = None
        mine = self._ready()
        mine.net.account = account
        return mine

    def _register(self, mine: Any) -> None:
        mine.net.account = None  # what was not written down is asked for again
        terms = self.offers().terms
        if terms:
            log.info("%s: --acme accepts its terms, %s", self.authority.url, terms)
        told: JsonObject = {"termsOfServiceAgreed": True}
        if self.settings.email:
            told["contact"] = [f"mailto:{self.settings.email}"]
        if self.authority.key_id is not None:
            told["externalAccountBinding"] = self._binding(mine)
        # Where the key has an account that was not written down, this is a 200 with its URL.
        answer = self.post(mine.directory["newAccount"], told)
        uri = answer.headers["Location"]
        mine.net.account = messages.RegistrationResource(body=messages.Registration(), uri=uri)
        known = self._archive.json(self.path)
        self._save(known | {"uri": uri, "email": self.settings.email})

    def _binding(self, mine: Any) -> Any:
        file = self.authority.key_file or ""
        secret = (read(file) or b"").decode("latin-1").strip()
        try:
            if not secret:
                raise ValueError("empty, or not to be read")
            return messages.ExternalAccountBinding.from_data(
                account_public_key=mine.net.key.public_key(), kid=self.authority.key_id or "",
                hmac_key=secret, directory=mine.directory,
            )  # fmt: skip
        except (ValueError, josepy.errors.Error) as error:
            words = f"eab-key {file}: {error}; it needs the key that the authority gave, base64url"
            raise IssueError(Trouble.OURS, words) from None

    def forget_account(self) -> None:
        """The authority does not know it any more: the same key gets a new one."""
        known = self._archive.json(self.path)
        known.pop("uri", None)
        self._save(known)
        if self._client is not None:
            self._client.net.account = None

    def key_authorization(self, token: str) -> str:
        """What answers a challenge (RFC 8555 8.1)."""
        return f"{token}.{encoded(self._ready().net.key.thumbprint())}"

    def change_key(self) -> None:
        """Give the account another key (RFC 8555 7.3.5). Raises `IssueError`.

        The new one is written down beside the old one first: whichever of them the authority knows,
        the file has it.
        """
        self.account()
        mine = self._ready()
        known = self._archive.json(self.path)
        private = ec.generate_private_key(ec.SECP256R1())
        self._save(known | {"next": pem_of(private).decode()})
        url = str(mine.directory["keyChange"])
        told = {"account": known["uri"], "oldKey": mine.net.key.public_key().to_json()}
        with self._words(""):
            inner = jws.JWS.sign(
                json.dumps(told).encode(), josepy.JWKEC(key=private), josepy.ES256, None, url
            )
        self.post(url, json.loads(inner.json_dumps()))
        self._save(known | {"key": pem_of(private).decode()})
        self._client = None  # the next message is signed by the new one

    # ── certificates that are there ─────────────────────────────────────────────────────────────

    def window(self, pem: bytes) -> tuple[tuple[float, float] | None, float]:
        """When the authority wishes a certificate renewed (RFC 9773), and seconds to the next look.

        None where it has no wish. Raises `IssueError`.
        """
        mine = self._ready()
        if not self.offers().windows:
            return None, 0.0
        base = str(mine.directory["renewalInfo"]).rstrip("/")
        with self._words(""):
            answer = mine.net.get(f"{base}/{certificate_id(pem)}")
            found = answer.json()["suggestedWindow"]
            begin, end = (datetime.datetime.fromisoformat(found[one]) for one in ("start", "end"))
            return (begin.timestamp(), end.timestamp()), self.wait

    def revoke(self, pem: bytes, reason: int) -> None:
        """Have a certificate revoked (RFC 8555 7.6). Raises `IssueError`."""
        self.account()
        leaf = x509.load_pem_x509_certificates(pem)[0]
        der = leaf.public_bytes(serialization.Encoding.DER)
        told: JsonObject = {"certificate": encoded(der), "reason": reason}
        self.post(self._ready().directory["revokeCert"], told)


class RefusedError(IssueError):
    """The authority answered, and said no. `kind` is the last part of the error's type."""

    def __init__(self, trouble: Trouble, words: str, wait: float, kind: str) -> None:
        super().__init__(trouble, words, wait)
        self.kind = kind


def certificate_id(pem: bytes) -> str:
    """The name of a certificate in RFC 9773 4.1: its authority's key and its serial number."""
    leaf = x509.load_pem_x509_certificates(pem)[0]
    found = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    number = leaf.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
    issuer = found.value.key_identifier or b""
    return f"{encoded(issuer)}.{encoded(serial)}"


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as a file has it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def encoded(data: bytes) -> str:
    """Base64url without padding, as everywhere in ACME."""
    return str(josepy.b64encode(data).decode())


def seconds_of(said: str) -> float:
    """The seconds of a Retry-After field, a number or a date (RFC 9110 10.2.3); 0 for nonsense."""
    try:
        return max(float(said), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def system_authorities() -> str | bool:
    """Where the system keeps the authorities that it trusts; True: those of `requests`."""
    found = ssl.get_default_verify_paths()
    for path in (found.cafile, found.capath):
        if path and os.path.exists(path):
            return path
    return True
