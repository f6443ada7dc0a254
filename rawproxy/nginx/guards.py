"""Who may pass: `allow`, `deny`, `auth_basic`, `auth_request`, `limit_req`, `limit_conn`.

They become the keys of docs/access.md on each route that they hold for. nginx asks them behind its
rewrites, so a location that answers by `return` is behind none of them.

    auth_request /check             [auth.NAME] of the location that /check leads to
    auth_request_set $u $upstream_http_x_user; proxy_set_header X-U $u      copy-as
    error_page 401 = @login, or a URL                                       sign-in

It never asks anybody. Invariant: where a guard cannot be made as the file says it, the location is
refused. Raises `Refusal`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.values import Refusal, fixed

GuardKeys = dict[str, Any]
_RATE: Final = re.compile(r"rate=([0-9]+)r/([sm])").fullmatch
_CLIENT: Final = ("$binary_remote_addr", "$remote_addr")
_KEY: Final = re.compile(r"\$(?:http|cookie)_[A-Za-z0-9_]+").fullmatch
_ANSWERED: Final = "upstream_http_"  # variables of a guard's answer


def told_by(blocks: Blocks) -> dict[str, str]:
    """The variables of `auth_request_set` and the fields of the answer that they are."""
    found = {}
    for one in blocks.all("auth_request_set"):
        name, text = (arg.removeprefix("$").strip("{}") for arg in one.args)
        if not text.startswith(_ANSWERED):
            raise Refusal(f"{one.place}: auth_request_set {one.args[1]}: only its answer's fields")
        found[name] = text.removeprefix(_ANSWERED).replace("_", "-")
    return found


class Zones:
    """What `limit_req_zone` and `limit_conn_zone` say, by their names."""

    def __init__(self, top: Blocks) -> None:
        self._rates: dict[str, GuardKeys] = {}
        self._keys: dict[str, str] = {}
        for one in top.own("limit_req_zone"):
            name = _zone(one)
            rate = next(filter(None, map(_RATE, one.args)), None)
            if name and rate is not None:
                per = 1 if rate[2] == "s" else 60
                self._rates[name] = {"requests": int(rate[1]), "per": per, "zone": name}
                self._keys[name] = one.args[0]
        self._counted = {_zone(one): one.args[0] for one in top.own("limit_conn_zone")}

    def rate(self, one: Directive) -> GuardKeys:
        """The `request-rate` of a `limit_req`."""
        name = _zone(one)
        if name not in self._rates:
            raise Refusal(f"{one.place}: there is no limit_req_zone with a rate called {name}")
        burst = next((arg for arg in one.args if arg.startswith("burst=")), "burst=0")
        facts = self._rates[name] | {"burst": int(burst.removeprefix("burst="))}
        key = self._keys[name]
        if key in _CLIENT:
            return facts
        if key == "$server_name":
            return facts | {"key": "site"}
        if _KEY(key):
            return facts | {"key": key}
        raise Refusal(f"{one.place}: requests are not counted by {key} here")

    def connections(self, one: Directive) -> int:
        """The `connections` of a `limit_conn`."""
        key = self._counted.get(one.args[0])
        if key not in _CLIENT:
            raise Refusal(f"{one.place}: connections are counted by client address, not by {key}")
        return int(one.args[1])


def _zone(one: Directive) -> str:
    found = [arg for arg in one.args if arg.startswith("zone=")]
    return found[0].removeprefix("zone=").partition(":")[0] if found else ""


def keys(blocks: Blocks, zones: Zones, known: Mapping[str, str]) -> GuardKeys:
    """The keys of a route, but for `auth`."""
    facts: GuardKeys = {}
    lists = _lists(blocks)
    if lists:
        facts["deny"] = [("!" if one.name == "allow" else "") + one.args[0] for one in lists]
    realm = blocks.last("auth_basic")
    if realm is not None and realm.args[0] != "off":
        file = blocks.last("auth_basic_user_file")
        if file is None:
            raise Refusal(f"{realm.place}: auth_basic without auth_basic_user_file lets nobody in")
        facts |= {
            "basic-auth": fixed(file.args[0], known),
            "realm": fixed(realm.args[0], known),
        }
    rates = blocks.all("limit_req")
    if len(rates) > 1:
        raise Refusal(f"{rates[1].place}: one rate for each location: leave the others out")
    for one in rates:
        facts["request-rate"] = zones.rate(one)
    many = blocks.all("limit_conn")
    if len(many) > 1:
        raise Refusal(f"{many[1].place}: one limit_conn for each location: leave the others out")
    for one in many:
        facts["connections"] = zones.connections(one)
    if blocks.first_of("satisfy", "all") == "any":
        facts["satisfy"] = "any"
    return facts


def _lists(blocks: Blocks) -> list[Directive]:
    """`allow` and `deny` in their order: a block that has one of them has none from around it."""
    return blocks.innermost("allow", "deny")


class Guards:
    """The `[auth.NAME]` tables of a file, made as locations need them."""

    def __init__(self) -> None:
        self.tables: dict[str, GuardKeys] = {}
        self.places: dict[str, str] = {}

    def name_of(self, facts: GuardKeys, wish: str, place: str) -> str:
        """The name of the table with these facts."""
        for name, known in self.tables.items():
            if known == facts:
                return name
        base = re.sub(r"[^A-Za-z0-9-]+", "-", wish).strip("-")[:40] or "auth"
        name, number = base, 2
        while name in self.tables:
            name, number = f"{base}-{number}", number + 1
        self.tables[name], self.places[name] = facts, place
        return name


def sign_in(
    blocks: Blocks, locations: Mapping[str, Directive], value: Callable[[str], str]
) -> GuardKeys:
    """Where a 401 leads: `error_page 401 = @login`, or a URL."""
    said = [one for one in blocks.all("error_page") if "401" in one.args[:-1]]
    if not said:
        return {}
    target = said[-1].args[-1]
    where = target
    if not target.startswith(("http://", "https://", "$scheme://")):
        found = locations.get(target)
        returned = [one for one in (found.block or () if found else ()) if one.name == "return"]
        if not returned or len(returned[0].args) < 1:
            raise Refusal(
                f"{said[-1].place}: error_page 401 {target}: type a URL, or a location that returns"
            )
        where = returned[0].args[-1]
        if len(returned[0].args) > 1 and returned[0].args[0] not in ("301", "302", "303", "307"):
            raise Refusal(f"{returned[0].place}: a 401 leads to a URL here: type return 302 URL")
    return {"sign-in": value(where)}
