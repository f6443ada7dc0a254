"""Makes a `Config` of the settings: its groups, sites and routes.

This module never asks where a setting comes from: `sources` knows. Invariant: every mistake is
collected there. A valid value stands in the place of a wrong one, so that the rest is checked too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rawproxy.config import addresses, option_values, route_values
from rawproxy.config.build_route import route
from rawproxy.config.capabilities import modules
from rawproxy.config.model import (
    DEFAULT,
    Active,
    Address,
    Config,
    Deadlines,
    Group,
    Key,
    Limits,
    Passive,
    Site,
    Upstream,
)
from rawproxy.config.options import CAPABILITIES
from rawproxy.config.problems import problems
from rawproxy.config.sources import Rank, Scope, Settings
from rawproxy.errors import ConfigError

_NOWHERE = Upstream("?", tls=True, host="?", port=1)  # in the place of a wrong upstream


def build_config(settings: Settings) -> Config:
    """The whole configuration. Raises `ConfigError` with all mistakes, in the order of the file."""
    config = _top(settings)
    config = replace(config, groups=_groups(settings, config))
    config = replace(config, sites=_sites(settings, config))
    for room in modules(CAPABILITIES, "reading"):
        config = room.amend(settings, config)
    if not config.https and config.has_certificate():
        config = replace(config, https=(Address(None, 8443),))
    config = replace(config, groups=_needed(config))
    for key, text in problems(config):
        if key == ("upstream",) and settings.document and key in settings.document.lines:
            continue  # it is not missing: what is wrong with it has been noted
        settings.mistake(key, text)
    if settings.mistakes:
        raise ConfigError(*dict.fromkeys(text for _, text in sorted(settings.mistakes)))
    return config


def _needed(config: Config) -> tuple[Group, ...]:
    """The groups, less an empty one that is nobody's: every route answers by itself."""
    used = {route.group for site in config.sites for route in site.routes}
    empty = DEFAULT if DEFAULT not in used else None
    return tuple(one for one in config.groups if one.upstreams or one.name != empty)


def _top(settings: Settings) -> Config:
    top, values, data = settings.top, settings.values, settings.data
    limits = settings.named(
        ("limits",), data.get("limits", {}), values["limit"], option_values.parse_limits, Limits()
    )
    trusted = top.several("trusted-proxy", addresses.parse_network)
    return Config(
        http=top.several("http", lambda text: addresses.parse_address("--http", text)),
        https=top.several("https", lambda text: addresses.parse_address("--https", text)),
        redirect=not values["no-redirect"],
        self_signed=values["self-signed"],
        tls=values["tls"],
        strict_sni=values["strict-sni"],
        http2=not values["no-http2"],
        forwarded=values["forwarded"],
        trusted_proxies=tuple(one for one in trusted if not isinstance(one, str)),
        trust_unix="unix:" in trusted,
        client_field=top.take("client-field", option_values.parse_client_field, "")
        if values["client-field"] is not None
        else "",
        send_forwarded=values["send-forwarded"],
        send_real_ip=values["send-real-ip"],
        accept_proxy=values["accept-proxy"],
        send_via=values["send-via"],
        allow_trace=values["allow-trace"],
        underscores=values["underscores"],
        upgrades=top.several("upgrade", option_values.parse_upgrade),
        resolver=top.take("resolver", addresses.parse_resolver, None)
        if values["resolver"] is not None
        else None,
        access_log=top.file("access-log", ("-", "off")),
        log_format=values["log-format"],
        access_log_mask=top.several("access-log-mask", option_values.parse_parameter),
        access_log_short_addresses=values["access-log-short-addresses"],
        access_log_no_paths=values["access-log-no-paths"],
        admin=top.take("admin", lambda text: addresses.parse_address("--admin", text), None)
        if values["admin"] is not None
        else None,
        send_request_id=values["send-request-id"],
        send_traceparent=values["send-traceparent"],
        parser=values["parser"],
        limits=replace(
            limits, h2_streams=values["http2-streams"], h2_budget=values["http2-budget"]
        ),
        deadlines=_deadlines(settings),
        workers=values["workers"],
        file=settings.document.path if settings.document else None,
    )


def _deadlines(settings: Settings) -> Deadlines:
    found = settings.named(
        ("timeouts",),
        settings.data.get("timeouts", {}),
        settings.values["timeout"],
        option_values.parse_timeouts,
        Deadlines(),
    )
    drain = settings.values["drain-timeout"]  # another name of a timeout; it wins
    return found if drain is None else replace(found, drain=drain)


def _groups(settings: Settings, config: Config) -> tuple[Group, ...]:
    tables: dict[str, dict[str, Any]] = dict(settings.data.get("group", {}))
    outside = settings.values["upstream"]
    if outside or not tables:
        own = tables.get(DEFAULT, {})
        if "upstream" in own and outside:
            reason = " is given twice: here, and outside of the table; leave one of them out"
            settings.mistake(("group", DEFAULT, "upstream"), reason)
        tables = {DEFAULT: own, **tables}
    scopes = {name: Scope(settings, ("group", name), table) for name, table in tables.items()}
    return tuple(group_of(scope, name, config) for name, scope in scopes.items())


def group_of(scope: Scope, name: str, config: Config) -> Group:
    """The group called `name`. The table of `scope` has all of its keys, or some of them."""
    settings, path, table = scope.settings, scope.path, scope.table
    settings.take(path, option_values.parse_group, name, name)
    # Only the default group gets upstreams from outside of its table.
    if "upstream" in table or name == DEFAULT:
        upstreams = [
            _upstream(settings, name, (*scope.key("upstream"), at), one)
            for at, one in enumerate(scope.value("upstream"))
        ]
    else:
        upstreams = []
    pairs = settings.pairs(scope, "upstream-cert", "upstream-key")
    most, kept = scope.value("max-upstream"), scope.value("keepalive")
    # If nobody asked for a keepalive, or not for this group, it follows a smaller --max-upstream.
    follows = scope.rank("keepalive") == Rank.DEFAULT or (
        "max-upstream" in table and "keepalive" not in table
    )
    named = scope.value("upstream-name") is not None
    own = {key: table[key] for key in ("policy", "cookie", "slow-start") if key in table}
    return Group(
        name,
        tuple(upstreams),
        keepalive=min(kept, most) if follows else kept,
        max_upstream=most,
        keepalive_idle=scope.value("keepalive-idle"),
        queue=table.get("queue", config.limits.queue),
        verify=scope.file("upstream-verify", ("auto", "pin", "system", "off")),
        tls=scope.value("upstream-tls"),
        pins=frozenset(scope.several("upstream-pin", option_values.parse_pin)),
        server_name=scope.take("upstream-name", addresses.parse_upstream_name, "")
        if named
        else None,
        client_cert=pairs[0] if pairs else None,
        send_proxy=int((scope.value("send-proxy") or "v0")[1:]),
        passive=_passive(settings, (*path, "passive"), table.get("passive", {})),
        active=_active(settings, (*path, "active"), table["active"]) if "active" in table else None,
        **_fields(own),
    )


def _upstream(settings: Settings, group: str, key: Key, one: str | dict[str, Any]) -> Upstream:
    table: dict[str, Any] = one if isinstance(one, dict) else {"url": one}
    url = table.get("url")
    if url is None:
        settings.mistake((*key, "url"), " is missing: type url = 'host:port'")
        return _NOWHERE
    found = settings.take(key, addresses.parse_upstream, url, _NOWHERE)
    found = replace(found, weight=table.get("weight", 1), backup=table.get("backup", False))
    settings.keys[group, found] = key
    return found


def _passive(settings: Settings, path: Key, table: Mapping[str, Any]) -> Passive:
    facts = _fields(table)
    if "status" in facts:
        facts["status"] = Scope(settings, path, table).several("status", option_values.parse_status)
    return Passive(**facts)


def _active(settings: Settings, path: Key, table: Mapping[str, Any]) -> Active:
    facts = _fields(table)
    scope = Scope(settings, path, table)
    if "path" in facts:
        scope.take("path", option_values.parse_target, "/")
    if "host" in facts:
        scope.take("host", addresses.parse_host, "")
    if "status" in facts:
        facts["status"] = scope.several("status", option_values.parse_status)
    return Active(**facts)


def _sites(settings: Settings, config: Config) -> tuple[Site, ...]:
    tables = settings.data.get("site")
    if not tables:
        names = [group.name for group in config.groups]
        if config.file and len(names) > 1 and DEFAULT not in names:
            text = f"{config.file}: [[site]] is missing: nothing says which group serves what"
            settings.mistakes.append((0, text))
            config = replace(config, groups=config.groups[:1])
        return (_site(Scope(settings, (), {}), config),)
    if settings.values["server-name"]:
        settings.mistake(("server-name",), " belongs in [[site]] where there is one")
    scopes = [
        Scope(settings, ("site", at), {"server-name": (), **table})
        for at, table in enumerate(tables)
    ]
    return tuple(_site(scope, config) for scope in scopes)


def _site(scope: Scope, config: Config) -> Site:
    settings, table = scope.settings, scope.table
    ca = scope.file("client-ca")
    routes = [
        route(Scope(settings, (*scope.path, "route", at), one), config)
        for at, one in enumerate(table.get("route") or [{}])
    ]
    listeners: tuple[Address, ...] = ()
    if "listen" in table:
        listeners = scope.several("listen", lambda text: addresses.parse_address("--listen", text))
    patterns: tuple[str, ...] = ()
    if "server-name-regex" in table:
        patterns = scope.several("server-name-regex", route_values.parse_name_regex)
    return Site(
        patterns=patterns,
        names=scope.several("server-name", addresses.parse_server_name),
        routes=tuple(routes),
        certificates=settings.pairs(scope, "cert", "key"),
        hsts=_hsts(scope),
        client_ca=ca,
        client_verify=scope.value("client-verify") or ("off" if ca is None else "require"),
        listeners=listeners,
    )


def _hsts(scope: Scope) -> str | None:
    """The value of the header, or None.

    The one of `hsts` and `no-hsts` with the higher rank counts.
    """
    if scope.value("no-hsts"):
        ours, theirs = scope.rank("no-hsts"), scope.rank("hsts")
        if ours == theirs:
            scope.settings.mistake(
                scope.key("hsts"), " and --no-hsts exclude each other: leave one of them out"
            )
        if theirs <= ours:
            return None
    return scope.take("hsts", option_values.check_hsts, None)


def _fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a table as field names of a dataclass."""
    return {name.replace("-", "_"): value for name, value in table.items()}
