"""From a guard's answer to what becomes of the request.

    status                          verdict
    ──────────────────────────────  ────────────────────────────────────────────────────────────
    one that passes (2xx, usually)  PASS, with the fields that the upstream is to get
    the same, and a field is        REFUSE: 403, a page of ours
    missing that is required
    301, 302, 303, 307, 308         ANSWER: to the client as it is, with all its cookies
    401                             ANSWER as it is; for whoever navigates, a redirect to sign in,
                                    if there is such a place
    403                             ANSWER as it is
    any other, or none              CLOSED: 503

Whatever the verdict, every Set-Cookie of the answer reaches the client: sessions are kept in
several cookies, and each of them may be renewed by each answer. It never sends anything. Invariant:
nothing but a status that passes lets a request pass; nothing of an answer reaches the upstream but
the fields that are listed.
"""

from __future__ import annotations

import enum
from typing import Final
from urllib.parse import quote

from rawproxy.access.questions import named
from rawproxy.access.rules import AUTHENTIK, AuthRule
from rawproxy.protocol import regex
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http.variable_values import Value

BODY: Final = 64 * 1024  # bytes of an answer: pages that say no are smaller
REDIRECTS: Final = (301, 302, 303, 307, 308)
# What frames an answer or belongs to its connection; date and HSTS are written by us.
_NOT_RELAYED: Final = frozenset(
    b"connection content-length transfer-encoding upgrade keep-alive te trailer date "
    b"strict-transport-security proxy-connection".split()
)


_FRONT: Final = regex.IN_FRONT
_COOKIE: Final = b"set-cookie:"
_AUTHORIZATION: Final = b"authorization:"
_SMALL: Final = 32  # makes a letter small
_S: Final = 115
_A: Final = 97


class Ruling(enum.Enum):
    """What becomes of a request."""

    PASS = "pass"  # noqa: S105, no password
    REFUSE = "refuse"
    ANSWER = "answer"
    CLOSED = "closed"


PASS: Final[Ruling] = Ruling.PASS


class AuthVerdict:
    """What a guard's answer means. It never changes: several requests may wait for one."""

    __slots__ = ("authorizes", "body", "cookies", "lines", "reason", "ruling", "status")

    def __init__(
        self,
        ruling: Ruling,
        lines: bytes = b"",
        cookies: bytes = b"",
        status: int = 0,
        body: bytes = b"",
        reason: str = "",
        authorizes: bool = False,
    ) -> None:
        self.ruling = ruling
        self.lines = lines  # fields for the upstream, or of the answer to the client
        self.cookies = cookies  # Set-Cookie, for the client in any case
        self.status = status  # of an answer
        self.body = body
        self.reason = reason  # for the log, where it does not pass
        self.authorizes = authorizes  # an Authorization is among the fields: the client's own goes


def closed(reason: str) -> AuthVerdict:
    """The guard could not be asked, or said what nobody understands."""
    return AuthVerdict(Ruling.CLOSED, reason=reason)


class AnswerForm:
    """How the answers of one guard are understood."""

    __slots__ = (
        "_kind", "_lines", "_renamed", "_require", "_sign_in", "_statuses", "place",
    )  # fmt: skip

    def __init__(self, rule: AuthRule) -> None:
        self._lines = AnswerLines(rule.copied)
        self._renamed: dict[bytes, list[bytes]] = {}  # by the answer's names
        for field, told in rule.renamed:
            self._renamed.setdefault(told.lower().encode(), []).append(field.encode())
        self._require = tuple(name.lower().encode() for name in rule.require)
        self._statuses = frozenset(
            status for low, high in rule.statuses for status in range(low, high + 1)
        )
        self._sign_in = rule.sign_in.encode()
        # With variables it is all of the URL that a 401 leads to.
        self.place = Value(rule.sign_in) if "$" in rule.sign_in else None
        self._kind = rule.kind

    def verdict_of(self, head: ResponseHead, body: bytes) -> AuthVerdict:
        """The verdict, whoever has asked."""
        lines, cookies, authorizes = self._lines.of(head.block)
        status = head.status
        if status in self._statuses:
            missing = self._require and self._missing(head)
            if not missing:
                if self._renamed:
                    more, also = self._rename(head)
                    lines, authorizes = lines + more, authorizes or also
                return AuthVerdict(PASS, lines, cookies, authorizes=authorizes)
            names = b", ".join(missing).decode("latin-1")
            reason = f"it lets the request pass and does not say {names}, which is required"
            return AuthVerdict(Ruling.REFUSE, b"", cookies, 403, b"", reason)
        if (status in REDIRECTS and head.value(b"location")) or status in (401, 403):
            reason = f"it answered {status}"
            return AuthVerdict(Ruling.ANSWER, relayed(head), cookies, status, body, reason)
        return closed(f"it answered {status}{self._hint(status)}")

    def _missing(self, head: ResponseHead) -> tuple[bytes, ...]:
        """The fields that are required, and of which the answer says nothing."""
        return tuple(name for name in self._require if not head.value(name))

    def _rename(self, head: ResponseHead) -> tuple[bytes, bool]:
        """What goes on under another name, and whether an Authorization is among it."""
        lines, authorizes = b"", False
        for line in head.block.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b":")
            for field in self._renamed.get(name.lower(), ()):
                lines += b"%b:%b\r\n" % (field, value)
                authorizes = authorizes or field.lower() == b"authorization"
        return lines, authorizes

    def _hint(self, status: int) -> str:
        if self._kind == AUTHENTIK and status in (400, 404):
            return ": the outpost has no provider for this host, or is not given this application"
        return ""

    def for_client(
        self, verdict: AuthVerdict, head: RequestHead, asked: bytes, place: bytes = b""
    ) -> AuthVerdict:
        """The verdict for one client: a 401 sends whoever navigates to the place to sign in.

        `asked`: the URL to come back to; `place`: what `self.place` says for this client.
        """
        if verdict.status != 401 or not self._sign_in or not navigates(head):
            return verdict
        if place:
            return _sent_to(verdict, place)
        back = asked
        if self._sign_in.startswith(b"/"):  # on the same host: a path does, and needs no permission
            back = b"/" + asked.split(b"/", 3)[3]
        mark = b"&" if b"?" in self._sign_in else b"?"
        where = b"%b%brd=%b" % (self._sign_in, mark, quote(back, safe="").encode())
        return _sent_to(verdict, where)


def _sent_to(verdict: AuthVerdict, where: bytes) -> AuthVerdict:
    lines = b"Location: %b\r\nCache-Control: no-store\r\n" % where
    return AuthVerdict(verdict.ruling, lines, verdict.cookies, 302, b"", verdict.reason)


class AnswerLines:
    """Finds the lines of answers that go on: cookies, and what the upstream is to get.

    Lines of one kind that stand together are found together: where the first of them begins, and
    where a line begins that is none. So no value is looked at byte by byte; tokens have some KB.
    """

    __slots__ = ("_authorizations", "_begins", "_cookies", "_copies_cookies", "_others", "_told")

    def __init__(self, texts: tuple[str, ...]) -> None:
        names, families = named(texts)
        self._told = b"authorization" in names or b"authorization".startswith(families)
        self._copies_cookies = b"set-cookie" in names or b"set-cookie".startswith(families)
        apart = [_COOKIE, _AUTHORIZATION] if self._told else [_COOKIE]
        others = [name + b":" for name in names if name + b":" not in apart] + list(families)
        wanted = regex.beginnings(others)
        # A match is where a line begins, or the line end in front. Of which kind the line is shows
        # its first letter, or its name: groups would take half as much again.
        self._begins = regex.first_of(rb"(?i)%b(?=%b|%b)" % (regex.LINE, b"|".join(apart), wanted))
        self._cookies = regex.first_of(rb"(?i)\n(?!set-cookie:)")
        self._authorizations = regex.first_of(rb"(?i)\n(?!authorization:)")
        mixed = any(name.startswith(families) for name in apart)
        but = rb"(?!%b)" % b"|".join(apart) if mixed else b""
        self._others = regex.first_of(rb"(?i)\n(?!%b%b)" % (but, wanted))

    def of(self, block: bytes) -> tuple[bytes, bytes, bool]:
        """Lines for the upstream; cookies; and whether an Authorization is among the first."""
        text = _FRONT + block if _FRONT else block
        # Most answers have one run of lines and no cookie: a list is made where there is more.
        first = b""
        copied: list[bytes] | None = None
        cookies: list[bytes] | None = None
        authorizes = False
        at, size = 0, len(text)
        while at < size and (begin := self._begins(text, at)) is not None:
            start: int = begin[0]
            ends = self._others
            letter = text[start] | _SMALL
            cookie = letter == _S and _named(text, start, _COOKIE)
            if cookie:
                ends = self._cookies
            elif letter == _A and self._told and _named(text, start, _AUTHORIZATION):
                ends = self._authorizations
                authorizes = True
            end = ends(text, start)
            stop: int = size if end is None else end[0]
            lines = text[start:stop]
            if cookie:
                if cookies is None:
                    cookies = []
                cookies.append(lines)
            if not cookie or self._copies_cookies:
                if not first:
                    first = lines
                elif copied is None:
                    copied = [first, lines]
                else:
                    copied.append(lines)
            at = stop - 1 if stop < size else size
        told = first if copied is None else b"".join(copied)
        return told, b"" if cookies is None else b"".join(cookies), authorizes


def _named(text: bytes, start: int, name: bytes) -> bool:
    """Whether the line there has this name (lower case, with its colon)."""
    return text[start : start + len(name)].lower() == name


def relayed(head: ResponseHead) -> bytes:
    """The fields of an answer that the client gets, without its cookies."""
    cut = _NOT_RELAYED.union(head.nominated, (b"set-cookie",))
    lines = head.block.split(b"\r\n")[:-1]
    kept = [line + b"\r\n" for line in lines if line.partition(b":")[0].lower() not in cut]
    return b"".join(kept)


def navigates(head: RequestHead) -> bool:
    """Whether somebody looks at the answer, so that it may lead elsewhere.

    A script whose request is redirected to a login page learns nothing from it, and makes the login
    lead back to what the script had asked for.
    """
    if head.upgrade:
        return False
    mode = head.value(b"sec-fetch-mode").lower()
    if mode:
        return mode == b"navigate"
    if head.value(b"x-requested-with").lower() == b"xmlhttprequest":
        return False
    return b"text/html" in head.value(b"accept").lower()
