"""Makes a `Route` of one `[[site.route]]`.

This module never looks at a second route: `problems` compares them. Invariant: as in `build`, every
mistake is collected, and a valid value stands in the place of a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rawproxy.config import option_values, route_values, variables
from rawproxy.config.conditions import groups_of, keeps_host, parse_condition
from rawproxy.config.model import (
    DEFAULT,
    HANG_UP,
    TEXT,
    Config,
    Edits,
    ErrorPage,
    Key,
    Redirect,
    Respond,
    ResponseMapping,
    Route,
)
from rawproxy.config.path_regex import PathRegex, path_regex
from rawproxy.config.sources import Scope
from rawproxy.errors import ConfigError

T = TypeVar("T")
# Of each of these rows a route may have one key: what answers a request, and what its path becomes.
_ANSWERS = ("redirect", "respond")
_MAPS = frozenset(("map-location", "map-cookie-path", "map-cookie-domain", "map-back"))
_PATHS = ("strip-prefix", "replace-prefix", "rewrite")
# Most routes have none of these keys, and then none of them can be wrong beside another.
_BESIDE = frozenset(
    (
        *_ANSWERS,
        *_PATHS,
        "status",
        "gather-over",
        "map-back",
        "path-regex",
        "again",
        "intercept",
        "named",
    )
)

_KEPT_HOST = re.compile(
    r"\A((?:https?|\$scheme)://)(?:[A-Za-z0-9-]+\.)*(?:\$[1-9]|\$\{[1-9]\})(?:\.[A-Za-z0-9-]+)*(?![A-Za-z0-9.@-])"
).sub


def route(scope: Scope, config: Config) -> Route:
    """The route of one table. `config` has the groups already."""
    table = scope.table
    regex = scope.take("path-regex", _regex, None) if "path-regex" in table else None
    when = _when(scope, regex.groups if regex else 0)
    groups = groups_of(when, regex.groups if regex else 0)
    redirect, respond = _redirect(scope, groups, keeps_host(when)), _respond(scope, groups)
    if not _BESIDE.isdisjoint(table):
        _alone(scope, _ANSWERS, ("group",), "answers by itself")
        _alone(scope, _ANSWERS, _PATHS, "leaves no path to be changed")
        _alone(scope, _PATHS, (), "says what the path becomes")
        _alone(scope, ("again",), (*_ANSWERS, "group"), "leads to another route")
        _together(scope)
    again = table.get("again", False)
    only = config.groups[0].name if len(config.groups) == 1 else DEFAULT
    group = table.get("group") or only
    return Route(
        path=scope.take("path", option_values.parse_path, "/") if "path" in table else "/",
        exact=table.get("exact", False),
        partial=table.get("partial", False),
        path_regex=regex.pattern if regex else None,
        before_regex=table.get("before-regex", False),
        when=when,
        first=table.get("first", False),
        replace_prefix=_prefix(scope),
        rewrite=_rewrite(scope, groups),
        as_nginx=table.get("as-nginx", False),
        mapping=_mapping(scope),
        respond=respond,
        again=again,
        internal=table.get("internal", False),
        named=scope.take("named", route_values.parse_named, "@") if "named" in table else None,
        error_pages=_error_pages(scope, groups),
        intercept=table.get("intercept", False),
        group=None if redirect or respond or again else group,
        redirect=redirect,
        request_headers=_edits(scope, "request-headers", groups),
        response_headers=_edits(scope, "response-headers", groups),
        cache_control=scope.take("cache-control", route_values.parse_cache, "no-cache")
        if "cache-control" in table
        else None,
        upgrades=_listed(scope, "upgrades", option_values.parse_upgrade, None),
        request_trailers=_listed(scope, "request-trailers", option_values.parse_trailer, ()) or (),
        allow_trace=table.get("allow-trace"),
        gather=scope.take("gather", option_values.parse_gather, 0) if "gather" in table else 0,
        gather_over=table.get("gather-over", "refuse"),
        limits=_own(scope, "limits", option_values.parse_limits, config.limits),
        deadlines=_own(scope, "timeouts", option_values.parse_timeouts, config.deadlines),
    )


def _alone(scope: Scope, names: tuple[str, ...], others: tuple[str, ...], why: str) -> None:
    """Note a mistake if a table has two of `names`, or one of `names` and one of `others`."""
    given = [name for name in names if scope.table.get(name)]
    excess = given[1:] + [name for name in others if scope.table.get(name)]
    if given and excess:
        text = f" {why}: leave {' and '.join(excess)} out"
        scope.settings.mistake((*scope.path, given[0]), text)


def _together(scope: Scope) -> None:
    """Note keys that mean something only beside other keys, and keys that exclude each other."""
    table = scope.table

    def wrong(name: str, text: str) -> None:
        scope.settings.mistake((*scope.path, name), text)

    if "status" in table and "redirect" not in table:
        wrong("status", " is that of a redirect: type redirect too")
    if "gather-over" in table and "gather" not in table:
        wrong("gather-over", " is for what is gathered: type gather too")
    if table.get("again") and "rewrite" not in table:
        wrong("again", " is for a rewrite: type rewrite too")
    if "map-back" in table and "replace-prefix" not in table and not table.get("strip-prefix"):
        wrong("map-back", " is for a prefix: type strip-prefix = true or replace-prefix too")
    if table.get("intercept") and "error-page" not in table:
        wrong("intercept", " is for error pages: type error-page too")
    if "named" in table and ("path" in table or "path-regex" in table):
        wrong("named", " is found by no path: leave path and path-regex out")
    if "path-regex" in table:
        for name in ("path", "exact", "partial", "before-regex", "strip-prefix", "replace-prefix"):
            if name in table:
                wrong(name, " is of a path, and path-regex has none: leave one of them out")


def _error_pages(scope: Scope, groups: int) -> tuple[ErrorPage, ...]:
    found = []
    for key, value in scope.table.get("error-page", ()):
        try:
            found.append(route_values.parse_error_page(key, value, groups))
        except ConfigError as error:
            scope.settings.refuse((*scope.path, "error-page", key), error)
    return tuple(found)


def _when(scope: Scope, groups: int) -> tuple[tuple[str, str], ...]:
    found = []
    for value, test in scope.table.get("when", ()):
        try:
            found.append(parse_condition(value, test, groups))
        except ConfigError as error:
            scope.settings.refuse((*scope.path, "when", value), error)
            continue
        groups = groups_of(tuple(found), groups)
    return tuple(found)


def _own(scope: Scope, name: str, parse: Callable[..., T], whole: T) -> T | None:
    """The limits or timeouts of the route, beside those of the process; None: it has none."""
    said = scope.table.get(name)
    return scope.settings.named((*scope.path, name), said, (), parse, whole) if said else None


def _listed(
    scope: Scope, name: str, parse: Callable[[str], str], absent: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    return scope.several(name, parse) if name in scope.table else absent


def _regex(text: str) -> PathRegex:
    try:
        return path_regex(text)
    except ConfigError as error:
        raise ConfigError(f"--path-regex {text}: {error}") from None


def _redirect(scope: Scope, groups: int, of_host: bool) -> Redirect | None:
    if "redirect" not in scope.table:
        return None

    def parse(text: str) -> str:
        # A part of the name that was asked for names no other host than that name does.
        named = _KEPT_HOST(r"\1$host", text) if of_host else text
        option_values.parse_redirect(named, groups)
        variables.check(f"--redirect {text}", text, groups)
        return text

    target = scope.take("redirect", parse, "/")
    return Redirect(int(scope.table.get("status", "302")), target)


def _respond(scope: Scope, groups: int) -> Respond | None:
    if "respond" not in scope.table:
        return None
    table = scope.table["respond"]
    here: Key = (*scope.path, "respond")
    take = scope.settings.take
    if "status" not in table and not scope.settings.has((*here, "status")):
        scope.settings.mistake(here, ": status is missing: type { status = 200 }, say")
    if table.get("status") == HANG_UP and len(table) > 1:
        scope.settings.mistake(here, " 444 hangs up: leave everything but status out")
    if table.get("status") in (204, 205, 304) and table.get("body"):
        text = f": a {table['status']} has no body (RFC 9110 6.4.1): leave body out"
        scope.settings.mistake((*here, "body"), text)
    return Respond(
        table.get("status", 200),
        take((*here, "body"), lambda text: route_values.parse_body(text, groups), table["body"], "")
        if "body" in table
        else "",
        take((*here, "type"), route_values.parse_type, table["type"], "text/plain")
        if "type" in table
        else TEXT,
    )


def _prefix(scope: Scope) -> str | None:
    """The prefix that the upstream gets in the place of `path`; None if the path stays."""
    if "replace-prefix" in scope.table:
        return scope.take("replace-prefix", route_values.parse_prefix, "/")
    return "/" if scope.table.get("strip-prefix") else None


def _rewrite(scope: Scope, groups: int) -> str | None:
    if "rewrite" not in scope.table:
        return None
    return scope.take("rewrite", lambda text: route_values.parse_rewrite(text, groups), "/")


def _mapping(scope: Scope) -> ResponseMapping:
    table = scope.table
    if _MAPS.isdisjoint(table):
        return ResponseMapping()
    found: list[tuple[tuple[str, str], ...]] = []
    for name in ("map-location", "map-cookie-path", "map-cookie-domain"):
        pairs = []
        for key, value in table.get(name, ()):
            try:
                pairs.append(route_values.parse_mapping(f"--{name}", key, value))
            except ConfigError as error:
                scope.settings.refuse((*scope.path, name, key), error)
        found.append(tuple(pairs))
    return ResponseMapping(found[0], found[1], found[2], table.get("map-back", True))


def _edits(scope: Scope, name: str, groups: int) -> Edits:
    table: Mapping[str, Any] = scope.table.get(name, {})
    if not table:
        return Edits()
    settings, path = scope.settings, (*scope.path, name)
    found: dict[str, list[tuple[str, str]]] = {"remove": [], "set": [], "add": []}
    for kind, pairs in found.items():
        for at, one in enumerate(table.get(kind, ())):
            field, value = one if kind != "remove" else (one, "")
            key: Key = (*path, kind, at if kind == "remove" else field)
            try:
                pairs.append(option_values.parse_header(f"--{kind}", field, value, groups))
            except ConfigError as error:
                settings.refuse(key, error)
    removed = tuple(field for field, _ in found["remove"])
    return Edits(removed, tuple(found["set"]), tuple(found["add"]))
