"""Doubles of Authelia and of oauth2-proxy, written from how their sources behave.

Authelia (internal/handlers, `/api/authz/*`): it insists on https (400 else) and on a method of
capital letters; 302 or, for other methods than GET, HEAD and OPTIONS, 303 to its portal, 401 with the
same Location for XMLHttpRequest and for whoever does not accept text/html; 200 with Remote-*. By
`auth-request` the same with X-Original-URL and -Method, and always 401.

oauth2-proxy (oauthproxy.go): `/oauth2/auth` is 202 with X-Auth-Request-*, or 401; `/oauth2/sign_in`
is its page, and `rd` is where it leads to: a path, not another host. Sessions above 4 kB are several
cookies.
"""

from __future__ import annotations

import re
import secrets
import urllib.parse

from .server import Recorder, Seen, Told, page

PASSWORDS = {"alice": "hunter2"}


class Authelia(Recorder):
    """Its portal and its endpoints."""

    def __init__(self, portal: str, domain: str) -> None:
        self.portal = portal
        self.domain = domain
        self.sessions: dict[str, str] = {}
        super().__init__()

    def questions(self) -> list[Seen]:
        return [one for one in self.seen if one.path.startswith("/api/authz/")]

    def answer(self, seen: Seen) -> Told:
        if seen.path == "/api/authz/forward-auth":
            method = seen.one("X-Forwarded-Method")
            url = "{}://{}{}".format(
                *(seen.one(f"X-Forwarded-{n}") for n in ("Proto", "Host", "URI"))
            )
            return self._authz(seen, url, method)
        if seen.path == "/api/authz/auth-request":
            return self._authz(seen, seen.one("X-Original-URL"), seen.one("X-Original-Method"), 401)
        if seen.method == "POST":
            told = seen.form()
            if PASSWORDS.get(told.get("user", "")) != told.get("password"):
                return page("<h1>wrong</h1>", status=403)
            name = secrets.token_hex(16)
            self.sessions[name] = told["user"]
            cookie = f"authelia_session={name}; Path=/; Domain={self.domain}; HttpOnly; Secure; SameSite=Lax"
            return Told(302, (("Location", told["rd"]), ("Set-Cookie", cookie)))
        back = seen.query.get("rd", "/").replace('"', "&quot;")
        return page(
            f'<h1>sign in</h1><form method=post><input name=rd type=hidden value="{back}">'
            "<input name=user><input name=password type=password><button>in</button></form>"
        )

    def _authz(self, seen: Seen, url: str, method: str, status: int = 0) -> Told:
        if not re.fullmatch("[A-Z]+", method) or not url.startswith(("https://", "wss://")):
            return Told(400)
        if not (urllib.parse.urlsplit(url).hostname or "").endswith(self.domain):
            return Told(400)
        user = self.sessions.get(seen.cookies().get("authelia_session", ""))
        if user is not None:
            names = {
                "User": user,
                "Groups": "users,admins",
                "Name": user.title(),
                "Email": f"{user}@x",
            }
            return Told(200, tuple((f"Remote-{name}", value) for name, value in names.items()))
        where = f"{self.portal}/?" + urllib.parse.urlencode({"rd": url, "rm": method})
        accepts = [one.partition(";")[0].strip() for one in seen.one("Accept").split(",")]
        html = "text/html" in accepts or accepts[0] == "*/*"
        if seen.one("X-Requested-With").lower() == "xmlhttprequest" or not html:
            status = status or 401
        status = status or (302 if method in ("GET", "HEAD", "OPTIONS") else 303)
        body = b"" if method == "HEAD" else f'<a href="{where}">{status}</a>'.encode()
        return Told(
            status, (("Location", where), ("Content-Type", "text/html; charset=utf-8")), body
        )


class OAuth2Proxy(Recorder):
    """It stands under /oauth2 of the application's own host."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        super().__init__()

    def questions(self) -> list[Seen]:
        return [one for one in self.seen if one.path == "/oauth2/auth"]

    def answer(self, seen: Seen) -> Told:
        cookies = seen.cookies()
        user = self.sessions.get(
            cookies.get("_oauth2_proxy_0", "") + cookies.get("_oauth2_proxy_1", "")
        )
        if seen.path == "/oauth2/auth":
            if user is None:
                return Told(
                    401, (("Content-Type", "text/plain; charset=utf-8"),), b"Unauthorized\n"
                )
            names = {"User": user, "Email": f"{user}@x", "Access-Token": "t"}
            return Told(
                202, tuple((f"X-Auth-Request-{name}", value) for name, value in names.items())
            )
        back = seen.query.get("rd", "/")
        if not back.startswith("/") or back.startswith("//"):
            back = "/"
        if seen.path == "/oauth2/sign_in" and seen.method == "POST":
            told = seen.form()
            if PASSWORDS.get(told.get("username", "")) != told.get("password"):
                return page("<h1>wrong</h1>", status=401)
            name = secrets.token_hex(16)
            self.sessions[name] = told["username"]
            halves = [
                f"_oauth2_proxy_{n}={part}; Path=/; HttpOnly; Secure"
                for n, part in enumerate((name[:16], name[16:]))
            ]
            return Told(302, (("Location", back), *(("Set-Cookie", half) for half in halves)))
        if seen.path == "/oauth2/sign_in":
            return page(
                "<h1>sign in</h1><form method=post><input name=username>"
                "<input name=password type=password><button>in</button></form>",
                status=403 if user is None else 200,
            )
        if seen.path == "/oauth2/sign_out":
            self.sessions.clear()
            gone = [("Set-Cookie", f"_oauth2_proxy_{n}=; Path=/; Max-Age=0") for n in (0, 1)]
            return Told(302, (("Location", back), *gone))
        return Told(404)
