"""Makes of options and keys what the keeper has to know, and what sites serve.

A site gets certificates by itself if it says `acme = true`, or if `--acme` is given and it has
names and no certificate of its own, and does not say `acme = false`.

It never opens a file and asks nobody. Invariant: every mistake is noted beside those of the core.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rawproxy.acme.settings import (
    ALGORITHMS,
    CHALLENGES,
    LETS_ENCRYPT,
    WILDCARD,
    AcmeSettings,
    Authority,
    DnsServer,
    served_file,
)
from rawproxy.config import addresses
from rawproxy.config.json_codec import to_json
from rawproxy.config.model import Address, Config, KeptCertificate, Site
from rawproxy.config.sources import Rank, Scope, Settings
from rawproxy.errors import ConfigError

_MAIL = re.compile(r"[^@\s,?]+@[^@\s,?]+")  # RFC 8555 7.3: one address, no more fields
_TABLE = ("certificates",)
LACKING = (
    " needs the package acme, which is not installed for this Python: type pip install 'acme>=5.9'"
)


def amend(settings: Settings, config: Config) -> Config:
    """The configuration, with certificates that keep themselves."""
    email = settings.top.take("acme", _parse_mail, None) if settings.values["acme"] else None
    tables = settings.data.get("site") or [{}]
    ask = "ask" in settings.data.get("certificates", {})
    chosen = [
        _wanted(table, site, given=settings.values["acme"] is not None, ask=ask)
        for table, site in zip(tables, config.sites, strict=True)
    ]
    if not any(chosen):
        _unused(settings)
        return config
    if importlib.util.find_spec("acme") is None:
        settings.mistake(("acme",), LACKING)
    told = Scope(settings, _TABLE, settings.data.get("certificates", {}))
    state = settings.absolute(("state",), settings.values["state"] or _state())
    state = os.path.abspath(state)
    names: list[str] = []
    sites: list[Site] = []
    challenges = _challenges(told, config)
    for at, (wanted, site) in enumerate(zip(chosen, config.sites, strict=True)):
        if wanted:
            _check_names(settings, at, site, challenges, ask=ask)
            names += site.names
            kept = tuple(KeptCertificate(name, served_file(state, name)) for name in site.names)
            site = replace(site, kept=kept)
        sites.append(site)
    made = AcmeSettings(
        state=state,
        authorities=tuple(_authorities(settings, told)),
        names=tuple(dict.fromkeys(names)),
        email=email,
        challenges=challenges,
        dns=_dns(told),
        hook=told.file("dns-hook") if "dns-hook" in told.table else None,
        settle=float(told.table.get("dns-settle", 10)),
        ask=_ask(told, config),
        ask_rate=float(told.table.get("ask-rate", 10)),
        store=settings.values.get("store"),
        store_key=_store_key(settings, told),
    )
    return replace(
        config,
        sites=tuple(sites),
        keepers=(*config.keepers, ("acme", to_json(made))),
        watched=(
            *config.watched,
            *(os.path.join(state, "acme", one) for one in ("live", "answers")),
        ),
    )


def _wanted(table: dict[str, Any], site: Site, *, given: bool, ask: bool) -> bool:
    own: bool | None = table.get("acme")
    if own is not None:
        return own
    return given and bool(site.names or ask) and not site.certificates


def _unused(settings: Settings) -> None:
    """Nothing wants a certificate: say so where it was asked for."""
    if settings.values["acme"] is not None:
        settings.mistake(
            ("acme",), ": there is no name to have a certificate for: type --server-name NAME"
        )
        return
    for name in ("acme-ca", "acme-ca-root"):
        if settings.ranks[name] > Rank.DEFAULT:
            settings.mistake((name,), " is for certificates by themselves: type --acme EMAIL too")
    if "certificates" in settings.data:
        settings.mistake(_TABLE, ": type acme = 'you@domain.tld' too, or acme = true in a [[site]]")


def _check_names(
    settings: Settings, at: int, site: Site, challenges: tuple[str, ...], *, ask: bool
) -> None:
    here = ("site", at) if settings.data.get("site") else ()
    if not site.names and not ask:
        settings.mistake((*here, "acme"), ": type server-name too: a certificate is for a name")
    for name in site.names:
        if name.startswith(WILDCARD) and "dns-01" not in challenges:
            text = (
                f" {name}: only DNS proves a wildcard: type dns or dns-hook under [certificates]"
                " in the file, or the names themselves"
            )
            settings.mistake((*here, "server-name"), text)


def _parse_mail(text: str) -> str:
    if not _MAIL.fullmatch(text) or not text.isascii():
        raise ConfigError(f"--acme {text}: type an e-mail address, as you@domain.tld")
    return text


def _parse_url(text: str) -> str:
    if not re.fullmatch(r"https://[^/\s?#@]+[^\s?#]*", text):
        raise ConfigError(f"--acme-ca {text}: type the https:// URL of the authority's directory")
    return text


def _parse_ask(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#@]+[^\s#]*", text):
        raise ConfigError(f"--ask {text}: type the http:// or https:// URL that says who may")
    return text


def _state() -> str:
    """Where state is kept unless told: systemd's StateDirectory=, or the user's own folder."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return given
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "rawproxy")


def _authorities(settings: Settings, told: Scope) -> Iterator[Authority]:
    url = LETS_ENCRYPT
    if settings.values["acme-ca"] is not None:
        url = settings.top.take("acme-ca", _parse_url, LETS_ENCRYPT)
    yield _bound(told, Authority(url, settings.top.file("acme-ca-root")))
    table = told.table.get("fallback")
    if table is None:
        return
    scope = Scope(settings, (*_TABLE, "fallback"), table)
    if "ca" not in table:
        settings.mistake(scope.path, ": ca is missing: type the URL of its directory")
        return
    other = scope.take("ca", _parse_url, LETS_ENCRYPT)
    if other == url:
        settings.mistake((*scope.path, "ca"), " is the first authority itself: type another one")
        return
    yield _bound(scope, Authority(other, scope.file("ca-root") if "ca-root" in table else None))


def _both(scope: Scope, one: str, other: str) -> bool:
    """Whether a table has both keys, or neither; one alone is a mistake."""
    for here, there in ((one, other), (other, one)):
        if here in scope.table and there not in scope.table:
            scope.settings.mistake((*scope.path, here), f" needs {there} too: type it")
            return False
    return True


def _bound(scope: Scope, authority: Authority) -> Authority:
    """With its external account binding, if there is one."""
    table = scope.table
    if not _both(scope, "eab-key-id", "eab-key"):
        return authority
    if "eab-key" not in table:
        return authority
    return replace(authority, key_id=table["eab-key-id"], key_file=scope.file("eab-key"))


def _challenges(told: Scope, config: Config) -> tuple[str, ...]:
    """The kinds of proof that can be given here, best first."""
    by_dns = "dns" in told.table or "dns-hook" in told.table
    able = {
        "http-01": any(one.path is None for one in config.http),
        "tls-alpn-01": any(one.path is None for one in config.https) or not config.https,
        "dns-01": by_dns,
    }
    asked = told.table.get("challenges")
    if asked is None:
        first = ("dns-01",) if by_dns else ()
        return (*first, *(kind for kind in CHALLENGES if able[kind] and kind not in first))
    for at, kind in enumerate(asked):
        place = (*_TABLE, "challenges", at)
        if kind not in CHALLENGES:
            told.settings.mistake(place, f" {kind}: type one of {', '.join(CHALLENGES)}")
        elif not able[kind]:
            needs = {
                "http-01": "--http", "tls-alpn-01": "--https",
                "dns-01": "dns or dns-hook under [certificates]",
            }[kind]  # fmt: skip
            told.settings.mistake(place, f" {kind} needs {needs}: type that too")
    return tuple(asked)


def _ask(told: Scope, config: Config) -> str | None:
    """The URL that allows names on demand, which some site has to serve."""
    if "ask" not in told.table:
        return None
    if all(site.names for site in config.sites):
        told.settings.mistake(
            (*_TABLE, "ask"), ": no site would serve such names: leave server-name out of one"
        )
    return told.take("ask", _parse_ask, "")


def _store_key(settings: Settings, told: Scope) -> str | None:
    """The file of the secret that seals; there has to be a store."""
    if "store-key" not in told.table:
        return None
    if settings.values.get("store") is None:
        settings.mistake((*_TABLE, "store-key"), " is for what machines share: type --store too")
    found: str = told.file("store-key")
    return found


def _dns(told: Scope) -> DnsServer | None:
    table = told.table.get("dns")
    if table is None:
        return None
    settings = told.settings
    scope = Scope(settings, (*_TABLE, "dns"), table)
    if "dns-hook" in told.table:
        settings.mistake((*_TABLE, "dns-hook"), " and dns: leave one of them out")
    if "server" not in table:
        settings.mistake(scope.path, ": server is missing: type the name server's address")
        return None
    if not _both(scope, "key-name", "key-file"):
        return None
    server = scope.take("server", addresses.parse_resolver, Address("127.0.0.1", 53))
    return DnsServer(
        host=server.host or "127.0.0.1",
        port=server.port,
        key_name=table.get("key-name", ""),
        key_file=scope.file("key-file") if "key-file" in table else "",
        algorithm=table.get("algorithm", ALGORITHMS[0]),
        zone=table.get("zone", ""),
    )
