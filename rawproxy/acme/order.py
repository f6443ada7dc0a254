"""One order, step by step: a new certificate for one name, from one authority (RFC 8555 7.4).

    written down first      then
    ──────────────────      ─────────────────────────────────────────────────────────────
    the certificate's key   the order is made; its URL is written down
    the challenge's answer  the authority is told that it is there, and looks
    nothing                 the order is finalised with the key; the certificate is fetched
    key and chain           they take the place of the old ones; the order is forgotten

Whatever ends the process between two of these lines, the next one reads `order.json` and goes on
where the authority says that the order is. Nothing is ordered twice.

It never decides when. Raises `IssueError` and `OSError`. Invariant: the old certificate is there
until the new one is, whole and with its key.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from acme import crypto_util
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rawproxy.acme import advice, answers, dns_records, tls_answers
from rawproxy.acme.advice import IssueError
from rawproxy.acme.archive import Archive, read, validity
from rawproxy.acme.client import (
    NONSENSE,
    Conversation,
    JsonObject,
    RefusedError,
    certificate_id,
    encoded,
    pem_of,
)
from rawproxy.acme.leases import Lease
from rawproxy.acme.settings import WILDCARD, AcmeSettings
from rawproxy.acme.timing import DAY, Trouble
from rawproxy.telemetry.error_log import log

PATIENCE: Final = 300.0  # seconds for an authority to look at a challenge, or to sign
POLLS: Final = (0.25, 0.5, 1.0, 2.0)  # seconds between two looks; the last one again and again
SLOWEST: Final = 10.0  # the longest pause between two looks, whatever Retry-After says
# Workers look at the folder once a second and take what has been the same for a second.
SEEN: Final = 3.5
PAGES, ORDERS = 50, 20  # of an account's orders: pages that are read, and how many of the last
OLD: Final = 6 * DAY  # after which an order is made anew; authorities keep them for seven days


class OrderRun:
    """The way of one order. `step` is called before each step, for the log and for tests."""

    def __init__(
        self,
        settings: AcmeSettings,
        talk: Conversation,
        archive: Archive,
        lease: Lease,
        step: Callable[[str], object],
    ) -> None:
        self.settings = settings
        self.talk = talk
        self.archive = archive
        self.authority = talk.authority
        self.lease = lease
        self.name = lease.name
        self.step = step
        self._order_file = archive.of(talk.authority, self.name, "order.json")
        self._key_file = archive.of(talk.authority, self.name, "order-key.pem")
        self._file = archive.of(talk.authority, self.name, "certificate.pem")
        self.kind = ""  # of the challenge that was answered last

    def run(self, avoid: tuple[str, ...] = ()) -> None:
        """Get the certificate. `avoid` are kinds of challenges that failed the last time."""
        with self.talk.sense():
            self._run(avoid)

    def _run(self, avoid: tuple[str, ...]) -> None:
        self.talk.look_at_clock()
        self.step("account")
        self.talk.account()
        url, body = self._resumed() or self._begin()
        deadline = time.monotonic() + PATIENCE
        for authorization in body.get("authorizations") or ():
            self._prove(str(authorization), avoid)
        body = self._poll(url, deadline, ("pending",))
        if body["status"] == "ready":
            self._finalise(str(body["finalize"]))
            body = self._poll(url, deadline, ("ready", "processing"))
        if body["status"] != "valid" or not body.get("certificate"):
            self._forget()
            said = f"the order is {body['status']}"
            raise self._refused(body.get("error"), said, self.kind, "malformed")
        self._fetch(str(body["certificate"]))

    # ── the order ───────────────────────────────────────────────────────────────────────────────

    def _resumed(self) -> tuple[str, Any] | None:
        """The order that was under way, if the authority knows it and it may still succeed."""
        if read(self._key_file) is None:
            return None
        known = self.archive.json(self._order_file)
        url = known.get("url")
        if url is None:
            with contextlib.suppress(IssueError, *NONSENSE):  # it need not have such a list
                return self._unnoted()
            return None
        if not isinstance(url, str):
            return None
        if time.time() - float(known.get("begun") or 0) > OLD:
            self._forget()
            return None
        self.step("resume")
        try:
            body = self.talk.read(url, self.name)
        except RefusedError:
            body = {"status": "forgotten"}  # or it was of another account
        if body["status"] in ("invalid", "forgotten"):
            self._forget()
            return None
        log.info("%s: the order that was under way goes on (%s)", self.name, body["status"])
        return url, body

    def _unnoted(self) -> tuple[str, Any] | None:
        """An order whose maker was killed behind it, and before its URL was written down.

        Authorities may list what an account has ordered (RFC 8555 7.1.2.1). Those that do not, as
        Let's Encrypt, mostly give the order that is pending again.
        """
        account = self.talk.read(str(self.archive.json(self.talk.path)["uri"]), self.name)
        page, found = account.get("orders"), list[str]()
        for _ in range(PAGES):
            if not page:
                break
            answer = self.talk.post(str(page), None, self.name)
            found += [str(one) for one in answer.json().get("orders") or ()]
            page = answer.links.get("next", {}).get("url")
        for url in found[: -ORDERS - 1 : -1]:
            body = self.talk.read(url, self.name)
            names = [one.get("value") for one in _listed(body.get("identifiers"))]
            if names == [self.name] and body["status"] in ("pending", "ready"):
                log.info("%s: the order that was made and not noted goes on", self.name)
                self._noted(url)
                return url, body
        return None

    def _begin(self) -> tuple[str, Any]:
        """Make a new order, after its key."""
        self.step("key")
        key = ec.generate_private_key(ec.SECP256R1())
        self._keep("order-key.pem", pem_of(key))
        self.step("order")
        self.lease.sure()
        try:
            answer = self._post_order({"identifiers": [{"type": "dns", "value": self.name}]})
        except RefusedError:
            self._forget()  # there is none to look for
            raise
        url = str(answer.headers["Location"])
        self.step("note")
        self._noted(url)
        return url, self.talk.body_of(answer)

    def _post_order(self, order: JsonObject) -> Any:
        new = str(self.talk.directory()["newOrder"])
        old = read(self._file)
        if old is not None and validity(old) is not None and self.talk.offers().windows:
            # One that says what it replaces counts for no limit (RFC 9773 5). It may do so once.
            with contextlib.suppress(RefusedError, ValueError, x509.ExtensionNotFound):
                return self._with_account(new, order | {"replaces": certificate_id(old)})
        return self._with_account(new, order)

    def _with_account(self, url: str, message: JsonObject) -> Any:
        """Post; where the authority has forgotten our account, once more with a new one."""
        try:
            return self.talk.post(url, message, self.name)
        except RefusedError as error:
            if error.kind != "accountDoesNotExist":
                raise
        self.talk.forget_account()
        self.talk.account()
        return self.talk.post(url, message, self.name)

    def _poll(self, url: str, deadline: float, waiting: tuple[str, ...]) -> JsonObject:
        """Look until the order is in none of those states."""
        looks = self._pauses(deadline)
        while True:
            next(looks)
            body = self.talk.read(url, self.name)
            if body["status"] not in waiting:
                return body

    def _pauses(self, deadline: float) -> Iterator[None]:
        """One look after another, with pauses; raises `IssueError` once it takes too long."""
        count = 0
        while True:
            yield
            if time.monotonic() > deadline:
                words = f"{self.talk.authority.url}: {self.name} took longer than {PATIENCE:g} s"
                raise IssueError(Trouble.AWAY, f"{words}; it is tried again by itself")
            if not self.lease.held():
                raise IssueError(Trouble.OURS, f"{self.name}: another process has taken it over")
            pause = max(POLLS[min(count, len(POLLS) - 1)], min(self.talk.wait, SLOWEST))
            count += 1
            time.sleep(pause)

    def _noted(self, url: str) -> None:
        told = {"url": url, "begun": time.time()}
        self.archive.save(self.authority, self.name, "order.json", told)

    def _keep(self, file: str, data: bytes | None) -> None:
        self.archive.put(self.authority, self.name, file, data)

    def _forget(self) -> None:
        self._keep("order.json", None)
        self._keep("order-key.pem", None)

    # ── challenges ──────────────────────────────────────────────────────────────────────────────

    def _prove(self, url: str, avoid: tuple[str, ...]) -> None:
        """Show the authority that the name is ours (RFC 8555 7.5)."""
        found = self.talk.read(url, self.name)
        if found["status"] == "valid":
            return
        one = self._choose(found, avoid)
        kind = self.kind = str(one["type"])
        self.step("answer")
        with self._answered(kind, str(one.get("token"))):
            self.step("challenge")
            self.talk.post(str(one["url"]), {}, self.name)
            looks = self._pauses(time.monotonic() + PATIENCE)
            while found["status"] in ("pending", "processing"):
                next(looks)
                found = self.talk.read(url, self.name)
                if one["type"] in _failed(found):  # others of it may still be pending
                    break
        if found["status"] != "valid":
            self._forget()
            said = f"the proof is {found['status']}"
            raise self._refused(_failed(found).get(kind), said, kind, "unauthorized")

    def _choose(self, found: JsonObject, avoid: tuple[str, ...]) -> JsonObject:
        """The challenge to answer: the first that we can, of those that did not fail last time."""
        offered = {str(one.get("type")): one for one in _listed(found.get("challenges"))}
        able = self.settings.challenges
        if self.name.startswith(WILDCARD):
            able = tuple(kind for kind in able if kind == "dns-01")
        wanted = [kind for kind in able if kind in offered]
        wanted = [kind for kind in wanted if kind not in avoid] or wanted
        if not wanted:
            self._forget()
            kinds = ", ".join(offered) or "none"
            raise IssueError(
                Trouble.REFUSED,
                f"{self.name}: the authority offers {kinds}; here {', '.join(able) or 'none'} can"
                " be answered: type --http for http-01, --https for tls-alpn-01, or dns or dns-hook"
                " under [certificates] in the file for dns-01",
            )
        return offered[wanted[0]]

    @contextlib.contextmanager
    def _answered(self, kind: str, token: str) -> Iterator[None]:
        """While the authority looks, the answer is there."""
        words = self.talk.key_authorization(token)
        folder = answers.folder_of(self.settings.state)
        if kind == "dns-01":
            with dns_records.answered(self.settings, self.name, dns_records.value_of(words)):
                yield
            return
        if kind == "http-01":
            path = answers.put_token(folder, token, words)
        else:
            path = answers.put_certificate(folder, self.name, tls_answers.made(self.name, words))
        self.archive.answered(path)
        time.sleep(self.archive.spread + (SEEN if kind == "tls-alpn-01" else 0.0))
        try:
            yield
        finally:
            answers.take_away(path)
            self.archive.unanswered(path)

    def _refused(self, error: Any, said: str, challenge: str, kind: str) -> IssueError:
        """What the authority found wrong, by its problem document if it gave one (RFC 8555 6.7)."""
        if isinstance(error, dict):
            kind = advice.kind_of(str(error.get("type", kind)))
            said = str(error.get("detail") or said)
        words = advice.refusal(self.name, kind, said, challenge)
        return IssueError(advice.fault_of(kind), words, self.talk.wait, challenge)

    # ── the certificate ─────────────────────────────────────────────────────────────────────────

    def _finalise(self, url: str) -> None:
        self.step("finalise")
        if not self.lease.held():
            raise IssueError(Trouble.OURS, f"{self.name}: another process has taken it over")
        csr = x509.load_pem_x509_csr(crypto_util.make_csr(read(self._key_file) or b"", [self.name]))
        der = csr.public_bytes(serialization.Encoding.DER)
        try:
            self.talk.post(url, {"csr": encoded(der)}, self.name)
        except RefusedError as error:
            if error.kind != "orderNotReady":
                self._forget()
                raise

    def _fetch(self, url: str) -> None:
        self.step("fetch")
        chain = str(self.talk.post(url, None, self.name).text).encode()
        pem = (read(self._key_file) or b"") + chain
        if validity(pem) is None:
            self._forget()
            words = f"{self.name}: the authority's certificate is not of our key, or damaged"
            raise IssueError(Trouble.REFUSED, f"{words}; it is ordered again by itself")
        self.step("write")
        self._keep("certificate.pem", pem)
        self.step("forget")
        self._forget()


def _listed(found: Any) -> list[JsonObject]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _failed(authorization: JsonObject) -> dict[str, Any]:
    """What is wrong with each challenge that failed, by its type."""
    found = _listed(authorization.get("challenges"))
    return {str(one.get("type")): one["error"] for one in found if one.get("error")}
