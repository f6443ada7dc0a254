"""A double of authentik's proxy outpost and of the authentik that it signs in at.

Written from how the outpost's source behaves (internal/outpost/proxyv2):

    /auth/caddy     the URL from X-Forwarded-Proto, -Host and -Uri; 500 where they make none. Callback
                    and sign-out are known by the query of that URL. 200 with X-authentik-* and, as
                    the real one, with the User-Agent of the question; 200 without them for a path
                    that is to be skipped; else 302 to sign in, with a session in Set-Cookie
    /auth/nginx     the same by X-Original-URI, which goes first, or X-Original-URL; 500 without;
                    401 with the session
    /start          302 to sign in, back to `rd` if that leads to a host of ours
    /callback       a code becomes claims of the session; 302 to where it all began
    /sign_out       the user's sessions end; 302 to where authentik ends its own

An application is found by X-Forwarded-Host or Host; in domain mode by the cookie's domain. Without
one it is 404, as behind the embedded outpost.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from dataclasses import dataclass, field

from .server import Recorder, Seen, Told, page

OWN = "/outpost.goauthentik.io"
PASSWORDS = {"alice": "hunter2"}


@dataclass
class Application:
    """One provider: *forward auth (single application)*, or *(domain level)* with `cookie_domain`."""

    external: str  # https://app.domain.test:8443
    cookie_domain: str = ""
    skip: tuple[str, ...] = ()  # unauthenticated paths
    basic: bool = False  # sends HTTP basic authentication
    more: dict[str, str] = field(default_factory=dict)  # additionalHeaders of the user

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.external).netloc

    @property
    def cookie(self) -> str:
        return "authentik_proxy_" + hashlib.sha256(self.external.encode()).hexdigest()[:8]


class Authentik(Recorder):
    """Outpost and authentik in one server, as with the embedded outpost."""

    def __init__(self, login: str, *applications: Application) -> None:
        """`login`: authentik's own URL, as browsers know it."""
        self.login = login
        self.applications = list(applications)
        self.sessions: dict[str, dict] = {}  # of the outpost
        self.signed_in: dict[str, str] = {}  # authentik's own sessions
        self.codes: dict[str, str] = {}
        self.secret = secrets.token_bytes(16)
        self.override: Told | None = None  # instead of any answer to a question
        super().__init__()

    def questions(self) -> list[Seen]:
        return [one for one in self.seen if one.path.startswith(f"{OWN}/auth/")]

    # ── who is asked ────────────────────────────────────────────────────────────────────────────

    def application(self, seen: Seen) -> Application | None:
        host = seen.one("X-Forwarded-Host") or seen.one("Host")
        for one in self.applications:
            if one.host == host:
                return one
        fit = [
            one
            for one in self.applications
            if one.cookie_domain and _below(host, one.cookie_domain)
        ]
        return max(fit, key=lambda one: len(one.cookie_domain), default=None)

    def answer(self, seen: Seen) -> Told:
        if seen.path == f"{OWN}/ping":
            return Told(204)
        if seen.path.startswith(OWN):
            application = self.application(seen)
            if application is None:
                return Told(404, (), b"no app for hostname")
            return self._outpost(application, seen)
        return self._authentik(seen)

    def _outpost(self, application: Application, seen: Seen) -> Told:
        name = seen.path.removeprefix(OWN)
        if name.startswith("/auth/") and self.override is not None:
            return self.override
        if name == "/auth/caddy":
            return self._caddy(application, seen)
        if name == "/auth/nginx":
            return self._nginx(application, seen)
        if name == "/start":
            return self._start(
                application, seen, self._allowed(application, seen.query.get("rd", ""))
            )
        if name == "/callback" or seen.query.get("X-authentik-auth-callback") == "true":
            return self._callback(application, seen, seen.query)
        if name == "/sign_out":
            return self._sign_out(application, seen)
        return Told(404)

    # ── questions ───────────────────────────────────────────────────────────────────────────────

    def _caddy(self, application: Application, seen: Seen) -> Told:
        proto, host, uri = (seen.one(f"X-Forwarded-{name}") for name in ("Proto", "Host", "Uri"))
        if not proto or not host:
            return Told(500, (), b"configuration error")
        url = f"{proto}://{host}{uri}"
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        if query.get("X-authentik-auth-callback", "").lower() == "true":
            return self._callback(application, seen, query)
        if query.get("X-authentik-logout", "").lower() == "true":
            return self._sign_out(application, seen)
        told = self._known(application, seen, url)
        return told or self._start(application, seen, url)

    def _nginx(self, application: Application, seen: Seen) -> Told:
        url = seen.one("X-Original-URI") or seen.one("X-Original-URL")
        if not url:
            return Told(500, (), b"configuration error")
        told = self._known(application, seen, url)
        if told is not None:
            return told
        _, fields = self._session(application, seen)
        return Told(401, fields, b"unauthorized request")

    def _known(self, application: Application, seen: Seen, url: str) -> Told | None:
        session = self.sessions.get(seen.cookies().get(application.cookie, ""), {})
        user, cookies = session.get("user"), ()
        if user is None:
            user, cookies = self._by_password(application, seen)
        if user is not None:
            # The real one sets this too: it is none of the fields to copy.
            agent = ("User-Agent", seen.one("User-Agent"))
            return Told(200, (*self.headers(application, user), agent, *cookies))
        asked = url if application.cookie_domain else urllib.parse.urlsplit(url).path
        if any(re.search(pattern, asked) for pattern in application.skip):
            return Told(200)
        return None

    def _by_password(self, application: Application, seen: Seen):
        scheme, _, token = seen.one("Authorization").partition(" ")
        if scheme.lower() != "basic":
            return None, ()
        user, _, password = base64.b64decode(token).decode().partition(":")
        if PASSWORDS.get(user) != password:
            return None, ()
        name, cookies = self._session(application, seen)
        self.sessions[name]["user"] = user
        return user, cookies

    def headers(self, application: Application, user: str) -> tuple[tuple[str, str], ...]:
        fields = {
            "username": user, "groups": "users|admins", "entitlements": "", "email": f"{user}@domain.test",
            "name": user.title(), "uid": hashlib.sha256(user.encode()).hexdigest(),
            "jwt": "eyJ." + "x" * 900, "meta-jwks": f"{self.login}/jwks/", "meta-outpost": "double",
            "meta-provider": "provider", "meta-app": "app", "meta-version": "goauthentik.io/outpost/x",
        }  # fmt: skip
        pairs = [(f"X-authentik-{name}", value) for name, value in fields.items()]
        if application.basic:
            token = base64.b64encode(f"{user}:app".encode()).decode()
            pairs.append(("Authorization", f"Basic {token}"))
        return (*pairs, *application.more.items())

    # ── signing in ──────────────────────────────────────────────────────────────────────────────

    def _session(
        self, application: Application, seen: Seen
    ) -> tuple[str, tuple[tuple[str, str], ...]]:
        name = seen.cookies().get(application.cookie, "")
        if name not in self.sessions:
            name = secrets.token_hex(16)
            self.sessions[name] = {}
        domain = f"; Domain={application.cookie_domain}" if application.cookie_domain else ""
        secure = "; Secure" if application.external.startswith("https") else ""
        value = f"{application.cookie}={name}; Path=/{domain}; HttpOnly{secure}; SameSite=Lax"
        return name, (("Set-Cookie", value),)

    def _start(self, application: Application, seen: Seen, back: str) -> Told:
        name, cookies = self._session(application, seen)
        state = self._signed({"sid": name, "redirect": back or application.external})
        query = urllib.parse.urlencode({
            "client_id": application.cookie, "response_type": "code", "state": state,
            "redirect_uri": f"{application.external}{OWN}/callback?X-authentik-auth-callback=true",
        })  # fmt: skip
        where = f"{self.login}/application/o/authorize/?{query}"
        return Told(302, (("Location", where), *cookies), b'<a href="x">Found</a>')

    def _callback(self, application: Application, seen: Seen, query: dict[str, str]) -> Told:
        state = self._verified(query.get("state", ""))
        name = seen.cookies().get(application.cookie, "")
        user = self.codes.pop(query.get("code", ""), None)
        if state is None or state["sid"] != name or name not in self.sessions or user is None:
            return Told(400, (), b"mismatched session")
        self.sessions[name]["user"] = user
        _, cookies = self._session(application, seen)
        return Told(302, (("Location", state["redirect"]), *cookies))

    def _sign_out(self, application: Application, seen: Seen) -> Told:
        session = self.sessions.pop(seen.cookies().get(application.cookie, ""), {})
        user = session.get("user")
        if user is None:
            return self._start(application, seen, application.external)
        for name in [name for name, one in self.sessions.items() if one.get("user") == user]:
            del self.sessions[name]
        where = f"{self.login}/application/o/end-session/?id_token_hint=x"
        return Told(302, (("Location", where),))

    def _allowed(self, application: Application, back: str) -> str:
        parts = urllib.parse.urlsplit(back)
        if not parts.netloc:
            return application.external + back if back else ""
        if application.cookie_domain:
            return back if _below(parts.hostname or "", application.cookie_domain) else ""
        return back if parts.netloc == application.host else ""

    def _signed(self, facts: dict) -> str:
        text = base64.urlsafe_b64encode(json.dumps(facts).encode()).decode()
        return f"{text}.{hmac.new(self.secret, text.encode(), 'sha256').hexdigest()}"

    def _verified(self, state: str) -> dict | None:
        text, _, sign = state.partition(".")
        if not hmac.compare_digest(
            hmac.new(self.secret, text.encode(), "sha256").hexdigest(), sign
        ):
            return None
        return json.loads(base64.urlsafe_b64decode(text))

    # ── authentik itself ────────────────────────────────────────────────────────────────────────

    def _authentik(self, seen: Seen) -> Told:
        user = self.signed_in.get(seen.cookies().get("authentik_session", ""))
        if seen.path == "/application/o/authorize/":
            if user is None:
                back = urllib.parse.quote(seen.target, safe="")
                return Told(302, (("Location", f"/if/flow/login?next={back}"),))
            code = secrets.token_hex(8)
            self.codes[code] = user
            query = urllib.parse.urlencode({"code": code, "state": seen.query["state"]})
            return Told(302, (("Location", f"{seen.query['redirect_uri']}&{query}"),))
        if seen.path == "/application/o/end-session/":
            self.signed_in.pop(seen.cookies().get("authentik_session", ""), None)
            return page("<h1>signed out</h1>")
        if seen.path == "/if/flow/login" and seen.method == "POST":
            told = seen.form()
            if PASSWORDS.get(told.get("user", "")) != told.get("password"):
                return page("<h1>wrong</h1>", status=403)
            name = secrets.token_hex(16)
            self.signed_in[name] = told["user"]
            cookie = f"authentik_session={name}; Path=/; HttpOnly; Secure; SameSite=Lax"
            return Told(302, (("Location", told["next"]), ("Set-Cookie", cookie)))
        if seen.path == "/if/flow/login":
            back = seen.query.get("next", "/").replace('"', "&quot;")
            return page(
                f'<h1>sign in</h1><form method=post><input name=next type=hidden value="{back}">'
                "<input name=user><input name=password type=password><button>in</button></form>"
            )
        return Told(404)


def _below(host: str, domain: str) -> bool:
    return host.partition(":")[0].endswith(domain.lstrip("."))
