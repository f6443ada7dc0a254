"""Requests for a configuration, put together at random, and what the upstream answers each. Pure.

    Asker(configuration, seed, upstream).asked()   one request after another

Paths begin where locations do, and are spelled as people and attackers spell them: escapes, dots,
doubled slashes, other cases. Framing that is wrong is left to `tests/smuggling`.
"""

import random
from typing import NamedTuple

from tests.nginx.generator import Configuration
from tests.nginx.stand import CLAIMED, Request

SEGMENTS = (
    "x", "index.php", "a.png", "B.JPG", "admin", "user", "joe", "v1", "page.html", "a%20b", "caf%C3%A9",
    "%41pp", "a%2Fb", "a%2fb", "%2e", "..", ".", "%2E%2e", "a;p=1", "a+b", "a%2Bb", "a%25b", "a%3Fb", "~u",
    "a:b@c", "a,b", "!$&'()*", "%7Eu", 'a"b', "a<b>", "a|b", "a^b", "a`b", "{a}", "a\\b", "%5c", "%61", "%00",
    "APP", "apple", "static", "api", "..%2f", "a%", "%zz", "a=b", "%20", "x.", "%23a",
)  # fmt: skip
QUERIES = (
    "", "", "", "?q=1", "?q=1&r=%2F", "?", "?q", "?q=a+b&q=2", "?a?b", "?Q=1", "?x=%0d%0a", "?q=/../x", "?&&",
    "?q=%20x", "?sid=1&q=caf%C3%A9", '?q="x"', "?q=|", "?return=https://x.test/",
)  # fmt: skip
HOSTS = (
    "unknown.test",
    "127.0.0.1",
    "A.TEST",
    "a.test.",
    "x.a.test",
    "y.x.a.test",
    "c.test",
    "d.c.test",
    "localhost",
)
METHODS = ("GET",) * 8 + ("HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
FIELDS = (
    "X-Own: 1", "X-Own: a, b", "Cookie: sid=1; b=2", "Cookie: b=2", "X-Forwarded-For: " + CLAIMED,
    "X-Forwarded-Proto: " + CLAIMED, "X_Under: 1", "Accept: text/html", "User-Agent: ua/1 (x)", "Range: bytes=0-3",
    "If-None-Match: \"a\"", "Authorization: Basic dTpw", "Origin: http://a.test", "X-Made: client", "Via: 1.1 x",
    "Referer: http://a.test/?q", "Accept-Encoding: gzip, br", "X-Own: 2", "X-Forwarded-Host: " + CLAIMED,
)  # fmt: skip
STATUSES = (200,) * 10 + (
    201,
    204,
    206,
    301,
    302,
    302,
    304,
    307,
    400,
    401,
    403,
    404,
    404,
    500,
    502,
    503,
)


class Answer(NamedTuple):
    """What the upstream answers."""

    status: int
    lines: tuple[str, ...]
    body: bytes


class Asker:
    """Makes requests; the same of the same seed."""

    def __init__(self, configuration: Configuration, seed: int, upstream: str) -> None:
        self.of = configuration
        self.random = random.Random(seed)
        self.upstream = upstream  # host and port

    def asked(self) -> tuple[Request, Answer]:
        """One request, and what the upstream says to it if it is reached."""
        choose = self.random.choice
        method, body, lines = choose(METHODS), b"", self._lines()
        if method in ("POST", "PUT", "PATCH"):
            body = b"b" * choose((0, 1, 10, 11, 500))
            if not body:
                lines += ("Content-Length: 0",)
        listen = choose(self.of.listens)
        return Request(listen, self._host(), method, self._target(), lines, body), self._answer()

    def _lines(self) -> tuple[str, ...]:
        # One of each name: nginx before 1.23 takes the first alone for $http_NAME.
        chosen = self.random.sample(FIELDS, self.random.choice((0, 0, 1, 2, 4)))
        return tuple({one.partition(":")[0]: one for one in chosen}.values())

    def _host(self) -> str:
        choose = self.random.choice
        if self.random.random() < 0.2:
            host = choose(HOSTS)
        else:
            host = choose(self.of.names).replace("*.", "www.").lstrip(".")
        return host + choose(("", "", "", ":80", ":1234"))

    def _target(self) -> str:
        choose = self.random.choice
        path = choose(self.of.paths)
        match self.random.randrange(8):
            case 0:
                path = path.rstrip("/") or "/"
            case 1:
                path += choose(("x", "/", "//", "/.", "/..", ";a"))
            case 2 if len(path) > 1:
                at = self.random.randrange(1, len(path))
                path = f"{path[:at]}%{ord(path[at]):02{choose('xX')}}{path[at + 1 :]}"
            case 3:
                path = path.replace("/", choose(("//", "/./", "/x/../")), 1)
            case _:
                pass
        for _ in range(choose((0, 0, 1, 1, 2, 3))):
            usual = self.random.random() < 0.6
            path += ("" if path.endswith("/") else "/") + choose(
                SEGMENTS[:9] if usual else SEGMENTS
            )
        return path + choose(QUERIES)

    def _answer(self) -> Answer:
        choose = self.random.choice
        status = choose(STATUSES)
        lines: list[str] = ["X-Up: 1"]
        if status in (201, 301, 302, 307) or self.random.random() < 0.1:
            lines.append(f"Location: {self._place()}")
        if self.random.random() < 0.05:
            lines.append(f"Refresh: 5; url={self._place()}")
        for _ in range(choose((0, 0, 0, 1, 2))):
            lines.append(f"Set-Cookie: {self._cookie()}")
        if self.random.random() < 0.3:
            lines += self.random.sample(
                ("X-Powered-By: php", "Vary: Accept", "ETag: \"a\"", "X-A: upstream", "Cache-Control: no-store"), 2
            )  # fmt: skip
        body = b"" if status in (204, 304) else choose((b"", b"from above\n", b"x" * 3000))
        return Answer(status, tuple(lines), body)

    def _place(self) -> str:
        choose = self.random.choice
        path = choose((*self.of.paths, "/v1/x", "/old/x", "/moved%20x", "/new/app/y?z=1", "/v1"))
        where = choose(("", "", f"http://{self.upstream}", "http://app", "http://a.test", "http://elsewhere.test",
                        f"https://{self.upstream}", "http://127.0.0.1"))  # fmt: skip
        return choose(
            (where + path, where + path, path.lstrip("/") or "x", "//a.test/x", f"{where}{path}x/y")
        )

    def _cookie(self) -> str:
        choose = self.random.choice
        return "a=b" + "".join(
            self.random.sample(
                (f"; Path={choose(('/', '/old', '/old/x', '/app/', 'x'))}", "; Secure", "; HttpOnly",
                 f"; Domain={choose(('inner.test', 'INNER.test', '.inner.test', 'x.test'))}", "; path=/v1"),
                choose((0, 1, 2, 4)),
            )
        )  # fmt: skip
