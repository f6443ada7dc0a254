"""What one option cannot know of another: a certificate that is missing, a group that nobody named.

    option_values, addresses   check one value by itself
    problems                   checks all of them together

This module never reads a file or a clock, and never resolves a name. Invariant: all contradictions
are found, not only the first. Each message names the option and says what to type.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator

from rawproxy.config.model import DEFAULT, HOST, Address, Config, Group, Key, Site
from rawproxy.errors import ConfigError

_ANY = {None, "0.0.0.0", "::"}  # hosts that stand for every address


def check(config: Config) -> Config:
    """The same configuration, now known to be valid. Raises `ConfigError` with all `problems`."""
    found = [f"{option_of(key)}{text}" for key, text in problems(config)]
    if found:
        raise ConfigError(*found)
    return config


def option_of(key: Key) -> str:
    """What a message calls `key`: its option; in the table of a group, the table and the key."""
    name = key[-1] if isinstance(key[-1], str) else key[-2]
    return f"[group.{key[1]}] {name}" if key[0] == "group" and key[1] != DEFAULT else f"--{name}"


def problems(config: Config) -> Iterator[tuple[Key, str]]:
    """What is wrong between options: the key it is about, and the text behind its name."""
    asked = any(route.group is not None for site in config.sites for route in site.routes)
    if asked and not any(group.upstreams or group.name != DEFAULT for group in config.groups):
        yield ("upstream",), " is missing: type --upstream host:9443, say"
    if config.https and not config.has_certificate():
        yield (
            ("https",),
            " needs a certificate: type --cert FILE --key FILE, --acme EMAIL, or --self-signed for"
            " a trial",
        )
    if not config.http and not config.https:
        yield ("http",), " is missing, so there is nothing to listen on: type --http :8080, say"
    if config.accept_proxy and not (config.trusted_proxies or config.trust_unix):
        yield (
            ("accept-proxy",),
            " believes trusted peers only: type --trusted-proxy 10.0.0.0/8, say",
        )
    yield from _admin_problems(config)
    for group in config.groups:
        yield from _group_problems(group)
    yield from _site_problems(config)


def _admin_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """`--admin` must have a listener of its own, so that clients cannot reach the metrics."""
    for option, addresses in (("--http", config.http), ("--https", config.https)):
        if config.admin is not None and any(_overlap(config.admin, one) for one in addresses):
            text = f" stands on the public listener {option}: type a port of its own,"
            yield ("admin",), text + " as in --admin 127.0.0.1:9900"


def _overlap(one: Address, other: Address) -> bool:
    """Whether a client of `other` could reach `one`."""
    if one.path is not None or other.path is not None:
        return one.path == other.path
    hosts = {one.host, other.host}
    return 0 != one.port == other.port and (len(hosts) == 1 or bool(hosts & _ANY))


def _group_problems(group: Group) -> Iterator[tuple[Key, str]]:
    here: Key = ("group", group.name)
    if not group.upstreams and group.name != DEFAULT:
        yield (*here, "upstream"), " is missing: type upstream = 'host:9443', say"
    if group.pins and group.verify != "auto":
        text = " is a verification of its own: leave --upstream-verify out"
        yield (*here, "upstream-pin"), text
    if group.server_name == HOST and group.verify in ("auto", "pin") and not group.pins:
        text = (
            f" {HOST}: visitors choose what is asked for, and must not choose what is trusted:"
            " type --upstream-verify system, a FILE or off beside it"
        )
        yield (*here, "upstream-name"), text
    if group.upstreams and not any(upstream.tls for upstream in group.upstreams):
        for option, given in (
            ("upstream-verify", group.verify != "auto"),
            ("upstream-tls", group.tls != "intermediate"),
            ("upstream-pin", bool(group.pins)),
            ("upstream-name", group.server_name is not None),
            ("upstream-cert", group.client_cert is not None),
        ):
            if given:
                text = (
                    " is for https upstreams and none is given:"
                    " leave it out, or type --upstream https://host"
                )
                yield (*here, option), text
    if group.policy == "cookie" and not group.cookie:
        yield (*here, "cookie"), ": empty; type the name of the cookie"
    if group.max_upstream < 1:
        yield (*here, "max-upstream"), f" {group.max_upstream}: type 1 or more"
    if not 0 <= group.keepalive <= group.max_upstream:
        text = f" {group.keepalive}: type a number from 0 to --max-upstream, {group.max_upstream}"
        yield (*here, "keepalive"), text
    if not 0 < group.keepalive_idle < math.inf:  # false for nan too
        text = f" {group.keepalive_idle}: type seconds, as in --keepalive-idle 60"
        yield (*here, "keepalive-idle"), text


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _site_problems(config: Config) -> Iterator[tuple[Key, str]]:
    known = {group.name for group in config.groups}
    places = (*config.http, *config.https)
    seen: dict[tuple[str, tuple[Address, ...]], int] = {}
    for number, site in enumerate(config.sites):
        here: Key = ("site", number)
        if site.client_verify != "off" and site.client_ca is None:
            yield (*here, "client-verify"), " needs --client-ca FILE: type that too"
        for name in site.called() or ("",):
            if seen.setdefault((name, site.listeners), number) != number:
                shown = f" {name}" if name else ""
                why = "another site has it too" if name else "missing, and in another site too"
                yield (*here, "server-name"), f"{shown}: {why}; type other names for each site"
        for at, address in enumerate(site.listeners):
            if address not in places:
                yield (*here, "listen", at), ": not a listener yet; type it under http or https too"
        yield from _route_problems(here, site, known)


def _route_problems(here: Key, site: Site, known: set[str]) -> Iterator[tuple[Key, str]]:
    seen: set[tuple[str, bool]] = set()
    for index, route in enumerate(site.routes):
        place: Key = (*here, "route", index)
        if route.group is not None and route.group not in known:
            if route.group == DEFAULT:
                yield (*place, "group"), " is missing: type the name of a [group.NAME]"
            else:
                near = difflib.get_close_matches(route.group, known, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                text = f" {route.group}: there is no such group; {hint}known are {_listed(known)}"
                yield (*place, "group"), text
        names = {one.named for one in site.routes}
        for page in route.error_pages:
            if page.to.startswith("@") and page.to not in names:
                text = f": no route of this site has named = '{page.to}'; type one"
                yield (*place, "error-page"), text
        if route.named is not None or route.path_regex is not None or route.when or route.first:
            continue
        if (route.path, route.exact) in seen:
            text = f" {route.path}: another route of this site has it too; leave one of them out"
            yield (*place, "path"), text
        seen.add((route.path, route.exact))
