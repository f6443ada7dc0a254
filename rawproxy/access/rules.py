"""What the admin wrote about who may pass: `[auth.NAME]`, and the keys of sites and routes.

    AccessRules       one route: lists, a rate, connections, passwords, a guard
    ├── RateRule      request-rate
    ├── PasswordRule  basic-auth
    └── AuthRule      auth: one `[auth.NAME]`, by its kind

They are asked in this order: lists, rate, connections, password, guard. It never judges anybody.
Invariant: what stands here is checked; `reading` has said what was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rawproxy.config.model import Network

AUTHENTIK: Final = "authentik"
AUTHELIA: Final = "authelia"
OAUTH2_PROXY: Final = "oauth2-proxy"
REQUEST: Final = "request"
KINDS: Final = (AUTHENTIK, AUTHELIA, OAUTH2_PROXY, REQUEST)
SATISFY: Final = ("all", "any")
TIMEOUT: Final = 10.0  # seconds for an answer: an outpost that has just started takes some


@dataclass(frozen=True, slots=True)
class AuthKind:
    """What is the same for every guard of a kind."""

    path: str  # what it is asked for
    method: str = "GET"
    copied: tuple[str, ...] = ()  # fields of its answer that go to the upstream; NAME-* are many
    own_path: str = ""  # everything below goes to the guard, and nobody is asked
    sign_in: str = ""  # where a 401 sends whoever navigates


# How each really behaves was read in its source: see docs/access.md.
BY_KIND: Final[dict[str, AuthKind]] = {
    AUTHENTIK: AuthKind(
        "/outpost.goauthentik.io/auth/caddy",
        copied=("X-authentik-*", "Authorization"),
        own_path="/outpost.goauthentik.io",
    ),
    AUTHELIA: AuthKind(
        "/api/authz/forward-auth",
        copied=("Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email"),
    ),
    OAUTH2_PROXY: AuthKind(
        "/oauth2/auth",
        copied=("X-Auth-Request-*", "Authorization"),
        own_path="/oauth2",
        sign_in="/oauth2/sign_in",
    ),
    REQUEST: AuthKind("/"),
}


@dataclass(frozen=True, slots=True)
class AuthRule:
    """One `[auth.NAME]`."""

    name: str
    kind: str
    group: str
    path: str  # with variables
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()  # sent beside those of its kind, with variables
    copied: tuple[str, ...] = ()  # names, as of `AuthKind`, those of the kind among them
    require: tuple[str, ...] = ()  # names that an answer has to have for a request to pass
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)  # ranges of those that pass
    sign_in: str = ""  # with variables it is the whole URL; else the URL to come back to is added
    own_path: str = ""
    timeout: float = TIMEOUT
    cache: float = 0.0  # seconds for which an answer holds; 0: it is asked each time
    recheck: float = 0.0  # seconds after which a tunnel is asked about again; 0: never
    renamed: tuple[tuple[str, str], ...] = ()  # fields for the upstream, and what the answer has


@dataclass(frozen=True, slots=True)
class RateRule:
    """`request-rate`: so many requests in so many seconds, for each key."""

    requests: int
    per: float
    burst: int  # more than one that may come at once
    key: str = "client"  # client, site, $http_NAME or $cookie_NAME
    zone: str = ""  # routes of one zone share the count


@dataclass(frozen=True, slots=True)
class PasswordRule:
    """`basic-auth`."""

    path: str
    users: tuple[tuple[str, str], ...]  # of `htpasswd`, as text
    realm: str


@dataclass(frozen=True, slots=True)
class AddressRule:
    """One entry of a list."""

    allow: bool
    networks: tuple[Network, ...]  # none: clients that come by a socket file


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Who may pass one route."""

    addresses: tuple[AddressRule, ...] = ()
    address_rest: bool = True  # whether who fits none of them may pass
    rate: RateRule | None = None
    connections: int = 0  # requests and tunnels under way for each client; 0: any
    password: PasswordRule | None = None
    auth: AuthRule | None = None
    any: bool = False  # whoever the lists let pass needs no password and no guard, and the reverse
    # Fields that tell who somebody is: what a client itself says by them is cut on every route.
    identity: tuple[str, ...] = ()
