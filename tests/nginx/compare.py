"""What must be the same of two answers, and what differs on purpose. Pure.

Each difference on purpose is one of `ALLOWED`, by its name; docs/from-nginx.md says the same to
readers. Whatever else differs is said in a line.
"""

import functools
import re
from collections import Counter
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from rawproxy.routing.match import readings
from tests.nginx.stand import CLAIMED, OF_REQUESTS, OF_RESPONSES, Request, Seen

Ports = tuple[dict[str, int], dict[str, int]]
ALLOWED: Final = {
    "HTTP/1.1 upstream": "the upstream is asked in HTTP/1.1, and its connection is kept",
    "forwarded": "X-Forwarded-* are written here; what a client claims in them is dropped",
    "two readings": "400 for a path that servers read in two ways, for different locations",
    "own page": "pages of the proxy's own",
    "server and date": "Server and Date are the upstream's, and how bodies are framed",
    "always": "what add_header adds is added whatever the status",
    "host asked for": "redirects of the proxy's own have the host that was asked for",
    "escaped stays": "what a client escaped stays so in $uri and $1, where nginx writes it bare",
    "body of no use": "an answer of the proxy's own does not depend on the size of a body",
    "type of return": "what return says has the type of default_type, whatever the path ends with",
    "one slash": "a path that is changed never begins with two slashes",
    "charset": "a password is asked for in UTF-8, and the challenge says so",
    "guard's answer": "what a guard answers by 401 or 403 goes to the client as it is",
    "guard's question": "a guard is told method and URI by X-Forwarded-* as well",
    "body passes": "proxy_pass_request_body off holds for questions to a guard, and for no others",
    "page without body": "an error page is asked for without the body of the request, or not at all",
    "no Expires": "how long an answer may be kept says Cache-Control alone",
    "not kept": "a redirect to sign in says Cache-Control: no-store",
    "client certificate": "who came is told by SSL-Client-* where certificates are asked for",
    "no files": "where no location proxies or returns it is 404, for a folder too",
}
BY_ENDING = {"text/html", "image/jpeg", "image/gif"}  # what nginx has without a `types`
REDIRECTS = {301, 302, 307, 308}
OWN_PAGE = b"<center>nginx"  # an answer that the proxy makes itself: its page is its own
ADDED = {200, 201, 204, 206, 301, 302, 303, 304, 307, 308}  # where add_header adds without `always`
# What `expires` says, which knows no `always`.
KEPT = re.compile(r"(?:.*\n)?(?:max-age=[0-9]+|no-cache)", re.S).fullmatch
FRAMED = {"content-type", "content-length", "x-content-type-options"}


def difference(
    theirs: Seen, ours: Seen, ports: Ports, request: Request, used: Counter[str] | None = None
) -> str:
    """What differs, in a line; empty where it is the same, less what is allowed: `used` counts."""
    one = _Pair(_same_ports(theirs, *ports), ours, Counter() if used is None else used)
    return one.on_purpose(request) or one.of_requests() or one.of_answers()


class _Pair:
    def __init__(self, theirs: Seen, ours: Seen, used: Counter[str]) -> None:
        self.theirs, self.ours, self.used = theirs, ours, used
        self.over = False  # nothing else is to be compared
        self.method = ""  # of the client's request

    def on_purpose(self, request: Request) -> str:
        """Where the whole answer is another one."""
        theirs, ours = self.theirs, self.ours
        self.method = request.method
        refused = ours.status == 400 and not ours.line
        if refused and two_readings(request.target):
            self._allow("two readings")
            self.over = True
        elif refused and theirs.status == 400 and not theirs.line:
            self._allow("own page")
            self.over = True
        elif theirs.status == 413 and not theirs.line + ours.line:
            self._allow("body of no use")
            self.over = True
        elif self._page_for_body(request):
            self._allow("page without body")
            self.over = True
        elif ours.status == 404 and theirs.status == 403 and not theirs.line + ours.line:
            self._allow("no files")
            self.over = True
        return ""

    def _page_for_body(self, request: Request) -> bool:
        """Whether nginx asks for an error page that an answer of our own stands for.

        It asks by GET for one by its path; for one by its name as it was asked, so that one says
        `X-Spare` in all our files.
        """
        theirs = self.theirs
        page = theirs.line.startswith("GET ") or "x-spare" in theirs.fields
        return bool(request.body) and page and not self.ours.line and self.ours.status >= 400

    def of_requests(self) -> str:
        """What the upstream was asked."""
        theirs, ours = self.theirs, self.ours
        if self.over:
            return ""
        line = theirs.line
        if any(one.endswith(" HTTP/1.0") for one in line.split(" and then ")):
            line = line.replace(" HTTP/1.0", " HTTP/1.1")
            self._allow("HTTP/1.1 upstream")
        if re.match(r"[A-Z]+ //", line) and not re.match(r"[A-Z]+ //", ours.line):
            line = re.sub(" /+", " /", line, count=1)
            self._allow("one slash")
        if theirs.sent and line.startswith(f"{ours.line} and then "):
            self._allow("page without body")  # a named one, which nginx sends the body again
            self.over = True
            return ""
        if line != ours.line:
            return f"upstream was asked {line!r} and {ours.line!r} ({theirs.status}, {ours.status})"
        if theirs.status != ours.status:
            return f"status {theirs.status} and {ours.status}"
        for name in sorted(theirs.fields.keys() | ours.fields.keys()):
            expected, got = theirs.fields.get(name), ours.fields.get(name)
            if name == "connection" or expected == got:
                continue
            if name == "content-length" and self._other_body(expected):
                continue
            if name in ("x-forwarded-method", "x-forwarded-uri") and "auth" in ours.line:
                self._allow("guard's question")
                continue
            if name not in OF_REQUESTS and _same_unescaped(expected, got):
                self._allow("escaped stays")
                continue
            if name.startswith("ssl-client-") and expected is None:
                self._allow("client certificate")
                continue
            if name not in OF_REQUESTS or not (
                _claimed(expected) or got == f"{expected}, 127.0.0.1"
            ):
                return f"request {name}: {expected!r} and {got!r}"
            self._allow("forwarded")
        return self._of_body()

    def _of_body(self) -> str:
        theirs, ours = self.theirs, self.ours
        if theirs.sent == ours.sent or self._page_after_body():
            return ""
        if theirs.sent or "content-length" in theirs.fields:
            return f"request body {theirs.sent!r} and {ours.sent!r}"
        return ""

    def _other_body(self, expected: str | None) -> bool:
        """Whether the length of the body is another one on purpose."""
        if self._page_after_body():
            self._allow("page without body")
            return True
        passes = not self.theirs.sent and expected is None and bool(self.ours.sent)
        if passes:
            self._allow("body passes")
        return passes

    def _page_after_body(self) -> bool:
        """Whether both ask for an error page, nginx with the body of the request before.

        A body of no bytes is one too, where another method than GET has brought it.
        """
        gets = self.ours.line.rpartition(" and then ")[2].startswith("GET ")
        empty = self.method != "GET" and self.theirs.fields.get("content-length") == "0"
        has = bool(self.theirs.sent) or empty
        return gets and has and not self.ours.sent and "content-length" not in self.ours.fields

    def of_answers(self) -> str:
        """What the client got."""
        theirs, ours = self.theirs, self.ours
        if self.over:
            return ""
        own = not theirs.line and (not theirs.body or OWN_PAGE in theirs.body)
        own = own or ("x-request-id" in ours.answer and not theirs.body)  # to a HEAD
        own = own or self._of_guard() or OWN_PAGE in theirs.body
        for name in sorted(theirs.answer.keys() | ours.answer.keys()):
            expected, got = theirs.answer.get(name), ours.answer.get(name)
            if expected == got:
                continue
            if self._field_on_purpose(name, expected, got, own):
                continue
            return f"response {name}: {expected!r} and {got!r}"
        if own or theirs.body == ours.body:
            return ""
        if not ours.line and self._same_body():
            self._allow("escaped stays")
            return ""
        return f"body {theirs.body!r} and {ours.body!r}"

    def _field_on_purpose(
        self, name: str, expected: str | None, got: str | None, own: bool
    ) -> bool:
        """Whether a field of the answer differs as it should."""
        bare = not self.ours.line or "x-up" not in self.ours.answer  # not the upstream's answer
        for purpose, fits in (
            ("server and date", name in OF_RESPONSES),
            ("own page", own and name in FRAMED),
            ("own page", own and name == "cache-control" and got == "no-store"),
            ("charset", name == "www-authenticate" and got == f'{expected}, charset="UTF-8"'),
            ("guard's answer", expected is None and self._of_guard()),
            ("not kept", name == "cache-control" and expected is None and self._signs_in()),
            ("no Expires", name == "expires" and got is None and self._says_how_long()),
            ("host asked for", name == "location" and _same_place(expected, got, own)),
            ("always", self.theirs.status not in ADDED and _added(name, expected, got)),
            ("escaped stays", _same_unescaped(expected, got)),
            ("type of return", name == "content-type" and bare and expected in BY_ENDING),
            ("escaped stays", name == "content-length" and bare and self._same_body()),
        ):
            if fits:
                self._allow(purpose)
                return True
        return False

    def _says_how_long(self) -> bool:
        said = self.ours.answer.get("cache-control", "")
        return "max-age=" in said or "no-cache" in said

    def _signs_in(self) -> bool:
        return self.ours.status == 302 and "auth" in self.ours.line

    def _of_guard(self) -> bool:
        """Whether a guard was asked last, and said no."""
        return self.theirs.status in (401, 403) and "auth" in self.theirs.line

    def _same_body(self) -> bool:
        ours = unquote_to_bytes(self.ours.body)  # what nginx writes bare may look escaped
        return ours in (self.theirs.body, unquote_to_bytes(self.theirs.body))

    def _allow(self, name: str) -> None:
        assert name in ALLOWED
        self.used[name] += 1


def two_readings(target: str) -> bool:
    """Whether servers take a path for another one; which routes that leads to is not looked at."""
    path = target.partition("?")[0].encode("latin-1")
    return (
        any(one != path for one in readings(path))
        or re.search(rb"/\.{1,2}(/|\Z)", path) is not None
    )


def _claimed(value: str | None) -> bool:
    return value is None or value == CLAIMED


def _added(name: str, expected: str | None, got: str | None) -> bool:
    """Whether `add_header` has added it, and not `expires`."""
    if name in ("cache-control", "expires") and KEPT(got or ""):
        return False
    return expected is None or (got or "").startswith(f"{expected}\n")


def _same_unescaped(expected: str | None, got: str | None) -> bool:
    """Whether both say the same once it is read; a blank at the end of a line is lost anyway."""
    if expected is None or got is None:
        return False
    plain = [one.strip() for one in expected.split("\n")]  # of which some may look escaped
    return _read(got) in (plain, _read(expected))


def _read(value: str) -> list[str]:
    return [unquote(one, "latin-1").strip() for one in value.split("\n")]


def _same_place(expected: str | None, got: str | None, own: bool) -> bool:
    """No host, or the one that was asked for with its port, on purpose."""
    relative = own or (got or "").startswith("/")
    return relative and _read(_path(expected)) == _read(_path(got))


def _path(location: str | None) -> str:
    return re.sub(r"^https?://[^/]+", "", location or "")


def _same_ports(seen: Seen, theirs: dict[str, int], ours: dict[str, int]) -> Seen:
    """nginx's listeners have other ports than ours; what names one names ours."""
    pairs = tuple((str(port), str(ours[name])) for name, port in theirs.items())

    def moved(text: str) -> str:
        return _moved(pairs, text)

    return seen._replace(
        line=moved(seen.line),
        fields={name: moved(value) for name, value in seen.fields.items()},
        answer={name: moved(value) for name, value in seen.answer.items()},
        body=moved(seen.body.decode("latin-1")).encode("latin-1"),
    )


def _moved(pairs: tuple[tuple[str, str], ...], text: str) -> str:
    if not pairs:
        return text
    instead = dict(pairs)
    return _ports(tuple(instead)).sub(lambda match: instead[match[0]], text)


@functools.cache
def _ports(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(names)})\b")
