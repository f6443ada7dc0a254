"""All keys there are: of the command line, of the TOML file and of its tables.

One description serves all readers. click makes options of it, `toml_file` checks the file by it,
and `json_schema` makes of it what editors read. Its attributes are those of click (`multiple`,
`type`, `is_flag`, `default`, `help`). What only a file can have is described by these:

    table    a table with keys of its own
    tables   an array of such tables
    each     a table of such tables, each with a name
    names    a table with any keys; a value is a text or a list of texts
    or       a table that may stand where a text is expected
    false    `false` may stand there, and means none

This module never looks at what a value means. Invariant: the schema and the parser know the same
keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from rawproxy.config.capabilities import modules
from rawproxy.config.model import CLIENT_VERIFY, GATHER_OVER, POLICIES, REDIRECTS, UPSTREAM_TLS
from rawproxy.config.option_values import limit_names, timeout_names

Attributes = dict[str, Any]
Keys = dict[str, Attributes]


class Workers(click.IntRange):
    """A number of processes, or `auto`, which becomes 0."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return 0 if value == "auto" else super().convert(value, param, ctx)


# By heading: each option's names and what click is told of it, in the order of --help.
OPTIONS: dict[str, list[tuple[tuple[str, ...], Attributes]]] = {
    "Upstream": [
        (("--upstream",), {
            "multiple": True, "metavar": "URL",
            "help": "host[:port] (TLS), http://host[:port], unix:/path.",
        }),
        (("--upstream-verify",), {
            "metavar": "MODE", "default": "auto",
            "help": "auto, pin, system, off or a file.",
        }),
        (("--upstream-pin",), {
            "multiple": True, "metavar": "SHA256", "help": "Accept exactly this certificate.",
        }),
        (("--upstream-name",), {
            "metavar": "NAME", "help": "SNI, or $host.  [default: the URL's host]",
        }),
        (("--upstream-tls",), {
            "type": click.Choice(UPSTREAM_TLS), "default": "intermediate", "metavar": "PROFILE",
            "help": "Or modern, or legacy.",
        }),
        (("--upstream-cert",), {"metavar": "FILE", "help": "Our own certificate towards it."}),
        (("--upstream-key",), {"metavar": "FILE", "help": "And its key."}),
        (("--keepalive",), {
            "type": click.IntRange(min=0), "default": 64, "metavar": "N",
            "help": "Idle ones, at rest.",
        }),
        (("--max-upstream",), {
            "type": click.IntRange(min=1), "default": 1024, "metavar": "N",
            "help": "To one; more wait.",
        }),
        (("--keepalive-idle",), {
            "type": click.FloatRange(min=0, min_open=True), "default": 60, "metavar": "SECONDS",
            "help": "How long one is kept.",
        }),
        (("--resolver",), {
            "metavar": "ADDR", "help": "DNS server to ask.  [default: the system's]",
        }),
    ],
    "Listeners": [
        (("--http",), {
            "multiple": True, "metavar": "ADDR", "default": [":8080"],
            "help": "Plain: host:port or unix:/path.",
        }),
        (("--no-redirect",), {"is_flag": True, "help": "Proxy on --http too, beside https."}),
        (("--https",), {
            "multiple": True, "metavar": "ADDR",
            "help": "TLS listener.  [default: :8443, with a certificate]",
        }),
        (("--workers",), {
            "type": Workers(1, 1024), "default": 1, "metavar": "N|auto",
            "help": "Processes.",
        }),
        (("--drain-timeout",), {
            "type": click.FloatRange(min=0, min_open=True), "metavar": "SECONDS",
            "help": "At a reload or stop.  [default: 30]",
        }),
        (("--server-name",), {
            "multiple": True, "metavar": "NAME",
            "help": "Host served; others: 421.  [default: any]",
        }),
    ],
    "TLS": [
        (("--cert",), {"multiple": True, "metavar": "FILE", "help": "PEM chain; SNI chooses."}),
        (("--key",), {"multiple": True, "metavar": "FILE", "help": "PEM key, one a --cert."}),
        (("--self-signed",), {"is_flag": True, "help": "A throw-away certificate, for trials."}),
        (("--tls",), {
            "type": click.Choice(["modern", "intermediate"]), "default": "modern",
            "help": "TLS 1.3 only, or 1.2 too.",
        }),
        (("--strict-sni",), {
            "is_flag": True, "help": "Refuse TLS for names without a certificate.",
        }),
        (("--hsts",), {
            "metavar": "VALUE", "default": "max-age=63072000",
            "help": "HSTS, on https.",
        }),
        (("--no-hsts",), {"is_flag": True, "help": "Leave that header to the upstream."}),
        (("--client-ca",), {
            "metavar": "FILE", "help": "Authorities (PEM) of client certificates.",
        }),
        (("--client-verify",), {
            "type": click.Choice(CLIENT_VERIFY), "metavar": "MODE",
            "help": "off, optional, or (with --client-ca) require.",
        }),
    ],
    "HTTP/2": [
        (("--no-http2",), {"is_flag": True, "help": "Offer clients HTTP/1.1 only."}),
        (("--http2-streams",), {
            "type": click.IntRange(min=1, max=100_000), "default": 128, "metavar": "N",
            "help": "Requests at once.",
        }),
        (("--http2-budget",), {
            "type": click.IntRange(min=1000), "default": 10_000, "metavar": "N",
            "help": "Idle frames in a burst.",
        }),
    ],
    "Forwarding": [
        (("--forwarded",), {
            "type": click.Choice(["append", "replace"]), "default": "replace",
            "help": "Clients' X-Forwarded-For.",
        }),
        (("--trusted-proxy",), {
            "multiple": True, "metavar": "CIDR",
            "help": "Whose forwarding headers count; unix: too.",
        }),
        (("--client-field",), {
            "metavar": "NAME", "help": "By which these name the client.",
        }),
        (("--send-forwarded",), {"is_flag": True, "help": "Add Forwarded (RFC 7239) too."}),
        (("--send-real-ip",), {"is_flag": True, "help": "Add X-Real-IP too."}),
        (("--send-request-id",), {"is_flag": True, "help": "Add X-Request-ID too, as logged."}),
        (("--send-via",), {"is_flag": True, "help": "Add Via too."}),
        (("--allow-trace",), {"is_flag": True, "help": "Forward TRACE, which is 405 otherwise."}),
        (("--send-traceparent",), {
            "is_flag": True, "help": "Begin a W3C trace where the client has none.",
        }),
        (("--upgrade",), {
            "multiple": True, "metavar": "TOKEN", "default": ["websocket"],
            "help": "What becomes a tunnel.",
        }),
        (("--underscores",), {
            "type": click.Choice(["drop", "pass"]), "default": "drop",
            "help": "Names with an underscore.",
        }),
        (("--accept-proxy",), {
            "is_flag": True, "help": "Trusted peers begin by a PROXY header.",
        }),
        (("--send-proxy",), {
            "type": click.Choice(["v1", "v2"]),
            "help": "Begin upstream connections by one.",
        }),
    ],
    "Limits": [
        (("--limit",), {
            "multiple": True, "metavar": "NAME=N",
            "help": f"0 is no limit: {', '.join(limit_names())}.",
        }),
        (("--timeout",), {
            "multiple": True, "metavar": "NAME=SECONDS",
            "help": f"{', '.join(timeout_names())}.",
        }),
    ],
    "Logs, metrics, parsing": [
        (("--access-log",), {
            "metavar": "FILE", "default": "-", "help": "A file, -, or off.",
        }),
        (("--log-format",), {
            "type": click.Choice(["combined", "extended", "json"]), "default": "combined",
            "metavar": "FORMAT", "help": "combined, json, extended.",
        }),
        (("--access-log-mask",), {
            "multiple": True, "metavar": "NAME",
            "help": "Query parameter whose value no log has.",
        }),
        (("--access-log-short-addresses",), {"is_flag": True, "help": "Log IPv4 /24, IPv6 /48."}),
        (("--access-log-no-paths",), {"is_flag": True, "help": "Log no path and no query."}),
        (("--admin",), {
            "metavar": "ADDR",
            "help": "Metrics, health, status page.",
        }),
        (("--config",), {
            "metavar": "FILE", "help": "TOML; for its keys: rawproxy schema.",
        }),
        (("--nginx",), {
            "metavar": "FILE", "help": "Run an nginx configuration as it is.",
        }),
        (("--parser",), {
            "type": click.Choice(["auto", "h11"]), "default": "auto",
            "help": "h11: without the fast lane.",
        }),
    ],
}  # fmt: skip

# Rooms that bring options or keys of their own: see `capabilities`.
CAPABILITIES = ("access", "acme", "store", "discovery")
for _room in modules(CAPABILITIES, "keys"):
    for _heading, _brought in getattr(_room, "OPTIONS", {}).items():
        OPTIONS[_heading] += _brought


def flat() -> Iterator[tuple[str, Attributes]]:
    """All options that a file may have too, without their dashes."""
    for options in OPTIONS.values():
        for names, attributes in options:
            if names[0] not in ("--config", "--nginx"):
                yield names[0].removeprefix("--"), attributes


_FLAT = dict(flat())


def _shared(*names: str) -> Keys:
    return {name: _FLAT[name] for name in names}


_SIZE = {"type": "size", "help": "A number of bytes; k, m and g are known."}
_SECONDS = {"type": click.FloatRange(min=0, min_open=True)}


_OR_NEVER = ("wait", "tunnel-drain")  # timeouts that may be 0


def _timeouts(names: Iterable[str]) -> Keys:
    return {
        name: {"type": click.FloatRange(min=0)} if name in _OR_NEVER else _SECONDS for name in names
    }


_HEADERS: Keys = {
    "remove": {"multiple": True, "help": "Names of fields to cut."},
    "set": {"names": True, "help": "Fields in the place of those of their names; variables."},
    "add": {"names": True, "help": "Fields beside those that are there; variables."},
}
UPSTREAM: Keys = {
    "url": {"help": "As in upstream."},
    "weight": {"type": click.IntRange(1, 1000), "help": "Its share beside the others'."},
    "backup": {"is_flag": True, "help": "Serve only while no other can."},
}
PASSIVE: Keys = {
    "max-fails": {"type": click.IntRange(min=0), "help": "Failures that take it out; 0: never."},
    "window": {**_SECONDS, "help": "Seconds within which they count."},
    "status": {"multiple": True, "type": "status", "help": "Answers that are failures: 502-504."},
    "back-off": {**_SECONDS, "help": "Seconds out of use at first; doubled each time."},
    "back-off-max": {**_SECONDS, "help": "And at the most."},
}
ACTIVE: Keys = {
    "path": {"help": "What is asked for, as /-/health/ready/."},
    "method": {"type": click.Choice(["GET", "HEAD", "OPTIONS"]), "help": "And how."},
    "status": {"multiple": True, "type": "status", "help": "What is healthy: 200, or 200-399."},
    "host": {"help": "The Host to send."},
    "interval": {**_SECONDS, "help": "Seconds from one to the next."},
    "timeout": {**_SECONDS, "help": "Seconds for the answer."},
    "rise": {"type": click.IntRange(min=1), "help": "Good answers that bring it back."},
    "fall": {"type": click.IntRange(min=1), "help": "Bad ones that take it out."},
}
GROUP: Keys = {
    "upstream": {**_FLAT["upstream"], "or": UPSTREAM},
    **_shared(
        "upstream-verify", "upstream-tls", "upstream-pin", "upstream-name", "upstream-cert",
        "upstream-key",
        "keepalive", "max-upstream", "keepalive-idle", "send-proxy",
    ),
    "policy": {"type": click.Choice(POLICIES), "help": "Which upstream is chosen."},
    "cookie": {"help": "The cookie's name, for the policy of that name."},
    "queue": {"type": click.IntRange(min=0), "help": "Requests that wait for a connection."},
    "slow-start": {
        "type": click.FloatRange(min=0),
        "help": "Seconds over which one that comes back gets its full share.",
    },
    "passive": {"table": PASSIVE, "help": "Health as the requests show it."},
    "active": {"table": ACTIVE, "help": "Health as asked for."},
}  # fmt: skip
_BROUGHT: list[dict[str, Keys]] = [room.brought(GROUP) for room in modules(CAPABILITIES, "keys")]


def _of(table: str) -> Keys:
    return {name: told for keys in _BROUGHT for name, told in keys.get(table, {}).items()}


# What a route can have of its own. What is decided before its path is known is not the route's, nor
# what belongs to a connection, which serves several routes.
ROUTE_LIMITS = ("body", "rate", "replay")
ROUTE_TIMEOUTS = (
    "request-body", "response-head", "response-body", "queue", "wait", "tunnel-idle",
)  # fmt: skip
RESPOND: Keys = {
    "status": {"type": click.IntRange(200, 599), "help": "Its status; 444 hangs up."},
    "body": {"help": "Its body, with variables.  [default: none]"},
    "type": {"help": "Its Content-Type.  [default: text/plain; charset=utf-8]"},
}
ROUTE: Keys = {
    "path": {"help": "This path and what is below it."},
    "exact": {"is_flag": True, "help": "This path alone."},
    "partial": {"is_flag": True, "help": "Whatever begins so, /apple for /app too."},
    "path-regex": {"help": "Instead of path: RE2, asked in order, before what is no exact path."},
    "before-regex": {"is_flag": True, "help": "No path-regex is asked where this path is longest."},
    "when": {"names": True, "help": "What has to hold: values with variables, and their tests."},
    "first": {"is_flag": True, "help": "Asked before all other routes, in order, path and when."},
    "strip-prefix": {"is_flag": True, "help": "The upstream sees what is behind path."},
    "replace-prefix": {"help": "What the upstream sees in the place of path: /v1."},
    "rewrite": {"help": "The path that the upstream sees, with variables: /u/$1."},
    "again": {"is_flag": True, "help": "What rewrite makes is looked up among the site's routes."},
    "named": {"help": "Instead of path: a name, as @sorry, by which error-page finds the route."},
    "error-page": {
        "names": True,
        "help": "Statuses, and what is shown instead: /path, @name or URL, behind =STATUS or not.",
    },
    "intercept": {"is_flag": True, "help": "error-page is for errors of the upstream too."},
    "internal": {"is_flag": True, "help": "Found by what is looked up again, and else 404."},
    "as-nginx": {"is_flag": True, "help": "The path is read and escaped anew, as nginx does it."},
    "map-back": {
        "is_flag": True,
        "help": "Location and cookie paths get the prefix again.  [default: true]",
    },
    "map-location": {"names": True, "help": "Beginnings of Location, and what stands for them."},
    "map-cookie-path": {"names": True, "help": "Beginnings of cookies' paths, likewise."},
    "map-cookie-domain": {"names": True, "help": "Domains of cookies, likewise."},
    "respond": {"table": RESPOND, "help": "An answer of our own."},
    "group": {"help": "Where requests go: the NAME of a [group.NAME]."},
    "redirect": {"help": "A URL to send clients to, with variables: $host, $path."},
    "status": {
        "type": click.Choice([str(status) for status in REDIRECTS]),
        "help": "Of the redirect.  [default: 302]",
    },
    "cache-control": {
        "help": "What answers that succeed say in it, instead of Cache-Control and Expires.",
    },
    "request-headers": {"table": _HEADERS, "help": "Changes on the way to the upstream."},
    "response-headers": {"table": _HEADERS, "help": "Changes on the way to the client."},
    "upgrades": {"multiple": True, "help": "As --upgrade."},
    "request-trailers": {"multiple": True, "help": "Names of trailers that pass.  [default: none]"},
    "allow-trace": {"is_flag": True, "help": "Forward TRACE, or not."},
    "gather": {
        "type": "size",
        "help": "Bytes of a body of unknown length to gather and send with it, up to 16m.",
    },
    "gather-over": {
        "type": click.Choice(GATHER_OVER),
        "help": "What becomes of longer ones: 413, or on as they come.  [default: refuse]",
    },
    "limits": {"table": dict.fromkeys(ROUTE_LIMITS, _SIZE), "help": "Of this route."},
    "timeouts": {"table": _timeouts(ROUTE_TIMEOUTS), "help": "Of this route."},
    **_of("route"),
}
SITE: Keys = {
    **_shared("server-name", "cert", "key", "hsts", "no-hsts", "client-ca", "client-verify"),
    "server-name-regex": {
        "multiple": True,
        "help": "RE2 for names that no site has as server-name; sites are asked in order.",
    },
    "listen": {
        "multiple": True,
        "help": "Served only there: addresses that stand under http or https too.",
    },
    "route": {"tables": ROUTE, "help": "By path; the longest that fits."},
    **_of("site"),
}
TOP: Keys = {
    **_FLAT,
    "limits": {"table": dict.fromkeys(limit_names(), _SIZE), "help": "As --limit."},
    "timeouts": {"table": _timeouts(timeout_names()), "help": "As --timeout."},
    "group": {"each": GROUP, "help": "Upstreams that can stand in for each other, by name."},
    "site": {"tables": SITE, "help": "What is served under some names."},
    **_of("top"),
}
