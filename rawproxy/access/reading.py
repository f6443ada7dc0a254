"""From the keys of the file to the rules of each route: who may pass, as `rules` describes it.

`[auth.NAME]` brings a group for its upstream, called `auth.NAME`. A site's keys hold for all of its
routes; a route's own take their place, one by one (`allow` and `deny` together). What belongs to
the guard itself, as `/outpost.goauthentik.io`, becomes a route of each site that asks it:
unguarded, as it is where visitors sign in, but behind the site's own lists and rate.

Files of passwords are read here, once, so that all workers agree. Invariant: whatever is wrong is
said with file, line and key; a route of which the rules are wrong is never served.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from rawproxy.access import htpasswd
from rawproxy.access.address_lists import parse_rule
from rawproxy.access.keys import NAMES
from rawproxy.access.rules import (
    BY_KIND,
    REQUEST,
    AccessRules,
    AddressRule,
    AuthRule,
    PasswordRule,
    RateRule,
)
from rawproxy.config import option_values, variables
from rawproxy.config.build import group_of
from rawproxy.config.field_names import plain
from rawproxy.config.json_codec import to_json
from rawproxy.config.model import Config, Group, Key, Route, Site
from rawproxy.config.sources import Scope, Settings
from rawproxy.errors import ConfigError

_PATH: Final = re.compile(r"/[!-\"$-~]*").fullmatch
_SIGN_IN: Final = re.compile(r"(?:https?://[A-Za-z0-9.:\[\]-]+(?:[/?]|\Z)|/)[!-\"%-~]*").fullmatch
_RATE_KEY: Final = re.compile(r"client|site|\$(?:http|cookie)_[A-Za-z0-9_]+").fullmatch
_ZONE: Final = re.compile(r"[A-Za-z0-9._-]{1,50}").fullmatch
# What we write ourselves: no family of an answer's fields may have one of these in it.
_OURS: Final = (
    "x-forwarded-for", "x-real-ip", "x-request-id", "forwarded", "via", "host", "cookie",
    "ssl-client-verify", "connection", "content-length", "transfer-encoding", "traceparent",
)  # fmt: skip


def amend(settings: Settings, config: Config) -> Config:
    """The configuration, with rules for its routes, and routes and groups that these bring."""
    tables: Mapping[str, Any] = settings.data.get("auth", {})
    known: dict[str, AuthRule] = {}
    groups: list[Group] = []
    for name, table in tables.items():
        scope = Scope(settings, ("auth", name), table)
        settings.take(scope.path, _parse_name, name, name)
        group = _group(scope, name, config)
        if isinstance(group, Group):
            groups.append(group)
        known[name] = _auth(scope, name, group if isinstance(group, str) else group.name)
    sites = [
        _site(Scope(settings, ("site", at), table), config.sites[at], known)
        for at, table in enumerate(settings.data.get("site", ()))
    ]
    return replace(
        config, groups=(*config.groups, *groups), sites=tuple(sites) if sites else config.sites
    )


# ── [auth.NAME] ─────────────────────────────────────────────────────────────────────────────────


def _parse_name(text: str) -> str:
    if not _ZONE(text):
        raise ConfigError("--auth: type letters, digits, dots and dashes, 50 at most")
    return text


def _group(scope: Scope, name: str, config: Config) -> Group | str:
    """The group of a guard: one of its own, or the name of another."""
    settings, table = scope.settings, scope.table
    known = [group.name for group in config.groups]
    if "group" in table:
        if "upstream" in table:
            settings.mistake((*scope.path, "group"), " and upstream: leave one of them out")
        elif table["group"] not in known:
            hint = _nearest(table["group"], known)
            text = f" {table['group']}: there is no such group{hint}"
            settings.mistake((*scope.path, "group"), text)
        return str(table["group"])
    if "upstream" not in table:
        text = ": upstream is missing: type upstream = 'https://authentik.internal:9443', say"
        settings.mistake(scope.path, text)
        return config.groups[0].name
    if f"auth.{name}" in known:
        settings.mistake(scope.path, f": its upstream is to be the group auth.{name}, which exists")
    return group_of(scope, f"auth.{name}", config)


def _auth(scope: Scope, name: str, group: str) -> AuthRule:
    settings, table, path = scope.settings, scope.table, scope.path
    kind = table.get("kind")
    if kind is None:
        text = f" is missing: type one of {', '.join(BY_KIND)}"
        settings.mistake((*path, "kind"), text)
        kind = REQUEST
    known = BY_KIND[kind]
    headers: list[tuple[str, str]] = []
    for field, value in table.get("headers", ()):
        try:
            headers.append(option_values.parse_header("--set", field, value))
        except ConfigError as error:
            settings.refuse((*path, "headers", field), error)
    more = {key: table[key] for key in ("timeout", "cache", "recheck", "method") if key in table}
    if "status" in table:
        more["statuses"] = scope.several("status", option_values.parse_status)
    if kind == REQUEST and "path" not in table:
        settings.mistake((*path, "path"), " is missing: what is it asked for? type path = '/check'")
    copied = scope.several("copy", _parse_copied) if "copy" in table else ()
    renamed: list[tuple[str, str]] = []
    for field, told in table.get("copy-as", ()):
        try:
            renamed.append((_parse_copied_as(field), _parse_required(told)))
        except ConfigError as error:
            settings.refuse((*path, "copy-as", field), error)
    return AuthRule(
        name,
        kind,
        group,
        path=scope.take("path", _parse_path, "/") if "path" in table else known.path,
        headers=tuple(headers),
        copied=(*known.copied, *copied),
        renamed=tuple(renamed),
        require=scope.several("require", _parse_required) if "require" in table else (),
        sign_in=scope.take("sign-in", _parse_sign_in, "") if "sign-in" in table else known.sign_in,
        own_path=known.own_path,
        **more,
    )


def _parse_path(text: str) -> str:
    if not _PATH(text):
        raise ConfigError(f"--path {text}: type a path in ASCII, as /check")
    variables.check(f"--path {text}", text)
    return text


def _parse_copied(text: str) -> str:
    name, family = text.removesuffix("*"), text.endswith("*")
    option_values.parse_header("--copy", name)
    if family and any(one.startswith(plain(name.lower().encode()).decode()) for one in _OURS):
        raise ConfigError(f"--copy {text}: some of these are written by rawproxy itself")
    return text


def _parse_copied_as(text: str) -> str:
    name = option_values.parse_header("--copy-as", text)[0]
    if plain(name.lower().encode()).decode() in _OURS:
        raise ConfigError(f"--copy-as {text}: rawproxy writes that itself")
    return name


def _parse_required(text: str) -> str:
    return option_values.parse_header("--require", text)[0]


def _parse_sign_in(text: str) -> str:
    if "$" in text:
        return option_values.parse_redirect(text, 0)
    if not _SIGN_IN(text) or text.startswith("//"):
        raise ConfigError(f"--sign-in {text}: type https://login.tld/path, or /path")
    return text


# ── sites and routes ────────────────────────────────────────────────────────────────────────────


def _site(scope: Scope, site: Site, known: Mapping[str, AuthRule]) -> Site:
    tables = scope.table.get("route") or [{}]
    if all(map(NAMES.isdisjoint, (scope.table, *tables))):
        return site
    scopes = [
        Scope(scope.settings, (*scope.path, "route", at), table) for at, table in enumerate(tables)
    ]
    rules = [_rules(one, scope, known) for one in scopes]
    auths = {one.auth.name: one.auth for one in rules if one.auth is not None}
    identity = _identity(auths)
    routes = [
        _with(route, replace(one, identity=identity))
        for route, one in zip(site.routes, rules, strict=True)
    ]
    # The guard's own paths are a door as well: they are behind the site's lists and rate.
    bare = Scope(scope.settings, scope.path, {"auth": False})
    outer = replace(_rules(bare, scope, known), password=None, identity=identity)
    for auth in auths.values():
        if auth.own_path and all(route.path != auth.own_path for route in routes):
            own = Route(auth.own_path, group=auth.group)
            routes.append(_with(own, outer))
    for route, one in zip(scopes, routes, strict=False):
        _own_path_problem(route, one, auths)
    return replace(site, routes=tuple(routes))


def _own_path_problem(scope: Scope, route: Route, auths: Mapping[str, AuthRule]) -> None:
    """A route at the path where visitors sign in must not ask whether they have done so."""
    for auth in auths.values():
        guarded = isinstance(route.access, dict) and "auth" in route.access
        if guarded and auth.own_path and route.path == auth.own_path:
            text = f" {route.path}: that is where visitors sign in; type auth = false beside it"
            scope.settings.mistake((*scope.path, "path"), text)


def _identity(auths: Mapping[str, AuthRule]) -> tuple[str, ...]:
    """What tells who somebody is. An Authorization of the client's own may be meant for others."""
    names = (
        name
        for auth in auths.values()
        for name in (*auth.copied, *(field for field, _ in auth.renamed))
    )
    return tuple(dict.fromkeys(name for name in names if name.lower() != "authorization"))


def _with(route: Route, rules: AccessRules) -> Route:
    return route if rules == AccessRules() else replace(route, access=to_json(rules))


def _rules(scope: Scope, site: Scope, known: Mapping[str, AuthRule]) -> AccessRules:
    """The rules of a route, those of its site among them."""

    def where(*names: str) -> Scope | None:
        """The table that says something about any of these."""
        return next(
            (one for one in (scope, site) if any(name in one.table for name in names)), None
        )

    lists, rate, many = where("allow", "deny"), where("request-rate"), where("connections")
    auth, password = where("auth"), where("basic-auth")
    realm, any_of = where("realm"), where("satisfy")
    said = "" if realm is None else realm.table["realm"]
    addresses = _addresses(lists) if lists is not None else ()
    found = AccessRules(
        addresses=addresses,
        address_rest=lists is None or "allow" not in lists.table,
        rate=None if rate is None else _rate(rate),
        connections=0 if many is None else many.table["connections"],
        password=None if password is None else _password(password, site, said),
        auth=None if auth is None else _who(auth, known),
        any=any_of is not None and any_of.table["satisfy"] == "any",
    )
    if found.any and found.password is not None and found.auth is not None:
        text = " any: beside allow and deny one way to sign in: leave basic-auth or auth out"
        scope.settings.mistake((*scope.path, "satisfy"), text)
    return found


def _addresses(scope: Scope) -> tuple[AddressRule, ...]:
    """In the order of the file, as the first that fits counts."""
    found: list[AddressRule] = []
    for name in (one for one in scope.table if one in ("allow", "deny")):
        for at, text in enumerate(scope.table[name]):
            key: Key = (*scope.path, name, at)
            try:
                found.append(parse_rule(f"--{name}", text, name == "allow"))
            except ConfigError as error:
                scope.settings.refuse(key, error)
    return tuple(found)


def _rate(scope: Scope) -> RateRule:
    table, path = scope.table["request-rate"], (*scope.path, "request-rate")
    if "requests" not in table:
        text = " is missing: type { requests = 10, per = 60 }, say"
        scope.settings.mistake((*path, "requests"), text)
    requests, key = table.get("requests", 1), table.get("key", "client")
    if "zone" in table and not _ZONE(table["zone"]):
        settings_text = f" {table['zone']}: type letters, digits, dots and dashes, 50 at most"
        scope.settings.mistake((*path, "zone"), settings_text)
    if not _RATE_KEY(key):
        text = f" {key}: type client, site, $http_NAME or $cookie_NAME"
        scope.settings.mistake((*path, "key"), text)
    names = ",".join(scope.settings.data["site"][scope.path[1]].get("server-name", ()))
    return RateRule(
        requests,
        float(table.get("per", 1)),
        table.get("burst", requests - 1),
        key,
        # The same over a reload, whatever else changes; routes that share a site's rate share it.
        zone=table["zone"]
        if "zone" in table
        else f"{names} {scope.table.get('path', '') if 'route' in scope.path else '*'}",
    )


def _password(scope: Scope, site: Scope, realm: str) -> PasswordRule | None:
    path = scope.file("basic-auth")
    names = site.table.get("server-name") or ["restricted"]
    try:
        size = os.stat(path).st_size
        if size > htpasswd.SIZE:
            raise ConfigError(f"{path}: larger than {htpasswd.SIZE} bytes")
        with open(path, "rb") as file:
            users = htpasswd.read(path, file.read())
    except OSError as error:
        scope.settings.mistake((*scope.path, "basic-auth"), f" {path}: {error.strerror}")
    except ConfigError as error:
        scope.settings.mistake((*scope.path, "basic-auth"), f" {error}")
    else:
        return PasswordRule(path, users, realm or names[0])
    return None


def _who(scope: Scope, known: Mapping[str, AuthRule]) -> AuthRule | None:
    name = scope.table["auth"]
    if name is False:
        return None
    if name not in known:
        hint = _nearest(name, list(known)) or ": write its table"
        text = f" {name}: there is no [auth.{name}]{hint}"
        scope.settings.mistake((*scope.path, "auth"), text)
    return known.get(name)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
