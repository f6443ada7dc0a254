"""What is different between two configurations, and whether running workers can take it over.

    difference    two configurations ──► a `Change`: what is other, and what that needs
    patch_of      the same two ──► JSON that says only what is other
    patched       the first one and that JSON ──► the second one

What stays the same stays the same *object* in what `patched` gives, so a worker knows by identity
what it need not touch. This module never changes anything. Invariant: for any two configurations,
`patched(old, patch_of(old, new)) == new`. Raises `ValueError` for a patch that is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from rawproxy.config.json_codec import from_json, to_json
from rawproxy.config.model import Config, Group, Site, Upstream

# What a worker has opened or decided for good when it started, and the option that says so.
FIXED: Final = {
    "http": "--http",
    "https": "--https",
    "admin": "--admin",
    "workers": "--workers",
    "resolver": "--resolver",
    "parser": "--parser",
}
# What makes connections to an upstream interchangeable. If it is another, so are they.
_CONNECTION: Final = ("verify", "tls", "pins", "server_name", "client_cert", "send_proxy")
# What is no setting: where others come from.
_ORIGIN: Final = ("file", "has_sources")
# What a TLS context towards clients is made of, beside the sites' certificates and authorities.
_TLS: Final = ("self_signed", "tls", "strict_sni", "http2", "keepers", "watched")
_NESTED: Final = ("limits", "deadlines")
_NAMED: Final = {"limits": "--limit", "deadlines": "--timeout"}


@dataclass(frozen=True, slots=True)
class GroupNews:
    """What is other in one group."""

    name: str
    joined: tuple[str, ...] = ()  # URLs of upstreams
    left: tuple[str, ...] = ()
    other: tuple[str, ...] = ()  # names of its keys
    anew: tuple[str, ...] = ()  # of these, those for which its connections are made anew

    def line(self) -> str:
        """The same in words."""
        said = [f"{url} joins" for url in self.joined]
        said += [f"{url} leaves" for url in self.left]
        said += [f"another {name.replace('_', '-')}" for name in self.other]
        text = f"group {self.name}: {', '.join(said)}"
        return f"{text}; its connections are made anew" if self.anew else text


@dataclass(frozen=True, slots=True)
class Change:
    """What is other in a second configuration."""

    new_processes: tuple[str, ...] = ()  # why running workers cannot take it over
    options: tuple[str, ...] = ()  # at the top, in place
    sites_added: tuple[str, ...] = ()
    sites_removed: tuple[str, ...] = ()
    sites_changed: tuple[str, ...] = ()
    groups_added: tuple[str, ...] = ()
    groups_removed: tuple[str, ...] = ()
    groups_changed: tuple[GroupNews, ...] = ()
    files: tuple[str, ...] = ()  # whose names are the same, and what is in them is not
    moved: bool = False  # the same sites or groups in another order

    def nothing(self) -> bool:
        """Whether nothing is other."""
        return self == Change()

    def in_place(self) -> bool:
        """Whether running workers can take it over."""
        return not self.new_processes

    def lines(self) -> list[str]:
        """What would happen, for the log and `rawproxy check --against`: a line for each."""
        said = [f"new processes: {why}" for why in self.new_processes]
        said += [f"option {name}: another value" for name in self.options]
        for word, names in (
            ("added", self.sites_added), ("removed", self.sites_removed),
            ("changed", self.sites_changed),
        ):  # fmt: skip
            said += [f"site {name}: {word}" for name in names]
        said += [f"group {name}: added" for name in self.groups_added]
        said += [f"group {name}: removed; what is under way ends" for name in self.groups_removed]
        said += [news.line() for news in self.groups_changed]
        said += [f"file {path}: another content" for path in self.files]
        if self.moved:
            said.append("the order of sites or groups: another one")
        return said

    def short(self) -> str:
        """The same in one line of numbers."""
        counts = (
            (len(self.options), "option"),
            (sum(map(len, (self.sites_added, self.sites_removed, self.sites_changed))), "site"),
            (sum(map(len, (self.groups_added, self.groups_removed, self.groups_changed))), "group"),
            (len(self.files), "file"),
        )
        said = [f"{many} {one}{'' if many == 1 else 's'}" for many, one in counts if many]
        return ", ".join(said) or ("another order" if self.moved else "nothing")


def difference(old: Config, new: Config, files: Sequence[str] = ()) -> Change:
    """What is other in `new`. `files` are those that the two name alike, with another content."""
    names = [one.name for one in fields(Config) if one.name not in ("groups", "sites", *_ORIGIN)]
    other = [name for name in names if getattr(old, name) != getattr(new, name)]
    sites, groups = _sites(old, new), _groups(old, new)
    before, after = _by_name(old.sites), _by_name(new.sites)
    listed = {one.name: one for one in old.groups}, {one.name: one for one in new.groups}
    same_members = before.keys() == after.keys() and listed[0].keys() == listed[1].keys()
    in_order = list(before) == list(after) and list(listed[0]) == list(listed[1])
    return Change(
        new_processes=tuple(
            [f"{FIXED[name]} is another one" for name in other if name in FIXED]
            + _keepers(old, new)
        ),
        options=tuple(
            text for name in other if name not in FIXED for text in _options(name, old, new)
        ),
        sites_added=sites[0],
        sites_removed=sites[1],
        sites_changed=sites[2],
        groups_added=tuple(name for name in listed[1] if name not in listed[0]),
        groups_removed=tuple(name for name in listed[0] if name not in listed[1]),
        groups_changed=groups,
        files=tuple(files),
        moved=same_members and not in_order,
    )


def _keepers(old: Config, new: Config) -> list[str]:
    """Capabilities with a process of their own that workers would have to know in another way."""
    before, after = dict(old.keepers), dict(new.keepers)
    other = [f"{room} begins" for room in after if room not in before]
    other += [f"{room} ends" for room in before if room not in after]
    for room in before.keys() & after.keys():
        mine, theirs = before[room], after[room]
        if isinstance(mine, dict) and mine.get("state") != theirs.get("state"):
            other.append(f"{room} has another --state")
    return other


def remade(old: Group, new: Group, files: frozenset[str] = frozenset()) -> bool:
    """Whether no connection of the first group may carry requests of the second."""
    if any(getattr(old, name) != getattr(new, name) for name in _CONNECTION):
        return True
    return bool(files) and not files.isdisjoint(group_files(new))


def group_files(group: Group) -> tuple[str, ...]:
    """The files that its connections depend on."""
    pair = group.client_cert
    return (group.verify, *((pair.cert, pair.key) if pair is not None else ()))


def other_tls(old: Config, new: Config, files: frozenset[str] = frozenset()) -> bool:
    """Whether the TLS contexts towards clients are to be made anew.

    `files` are those with another content.
    """
    if any(getattr(old, name) != getattr(new, name) for name in _TLS):
        return True
    return _tls_of(old) != _tls_of(new) or not files.isdisjoint(tls_files(new))


def tls_files(config: Config) -> set[str]:
    """The files that these contexts are made of, but for those that capabilities keep."""
    found = {name for one in config.certificates() for name in (one.cert, one.key)}
    return found | {site.client_ca for site in config.sites if site.client_ca is not None}


def _tls_of(config: Config) -> list[object]:
    """What sites ask for of a context. Names matter where contexts are chosen by them."""
    found: list[object] = list(dict.fromkeys(site.certificates for site in config.sites))
    if config.self_signed or any(site.client_verify != "off" for site in config.sites):
        return [
            *found,
            *((site.names, site.client_ca, site.client_verify) for site in config.sites),
        ]
    return [*found, None]


def _options(name: str, old: Config, new: Config) -> Iterator[str]:
    if name not in _NESTED:
        yield name.replace("_", "-")
        return
    mine, others = getattr(old, name), getattr(new, name)
    for one in fields(mine):
        if getattr(mine, one.name) != getattr(others, one.name):
            yield f"{_NAMED[name]} {one.name.replace('_', '-')}"


def _by_name(sites: Sequence[Site]) -> dict[tuple[object, ...], Site]:
    """Sites by what tells them apart: their first name, and where they are served."""
    return {(one.called()[:1], one.listeners): one for one in sites}


def _called(site: Site) -> str:
    return site.called()[0] if site.called() else "without a name"


def _sites(old: Config, new: Config) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Those that were added, removed and changed."""
    before, after = _by_name(old.sites), _by_name(new.sites)
    added = [_called(one) for key, one in after.items() if key not in before]
    removed = [_called(one) for key, one in before.items() if key not in after]
    changed = [_called(one) for key, one in after.items() if key in before and before[key] != one]
    return tuple(added), tuple(removed), tuple(changed)


def _groups(old: Config, new: Config) -> tuple[GroupNews, ...]:
    before = {one.name: one for one in old.groups}
    pairs = ((before[one.name], one) for one in new.groups if one.name in before)
    return tuple(_group(one, other) for one, other in pairs if one != other)


def _group(old: Group, new: Group) -> GroupNews:
    mine, others = _servers(old), _servers(new)
    other = [
        one.name
        for one in fields(Group)
        if one.name != "upstreams" and getattr(old, one.name) != getattr(new, one.name)
    ]
    if mine.keys() == others.keys() and old.upstreams != new.upstreams:
        other.append("order" if set(old.upstreams) == set(new.upstreams) else "weight")
    return GroupNews(
        new.name,
        tuple(one.url for key, one in others.items() if key not in mine),
        tuple(one.url for key, one in mine.items() if key not in others),
        tuple(other),
        tuple(name for name in other if name in _CONNECTION),
    )


def _servers(group: Group) -> dict[Upstream, Upstream]:
    return {replace(one, weight=1, backup=False): one for one in group.upstreams}


# ── patches ─────────────────────────────────────────────────────────────────────────────────────


def patch_of(old: Config, new: Config) -> dict[str, Any]:
    """What is other, in JSON values: at the top, the groups and the sites.

    In the place of a group or site that is the same stands its number in the old one; several in a
    row are a pair, the first and how many.
    """
    top = {
        one.name: to_json(getattr(new, one.name))
        for one in fields(Config)
        if one.name not in ("groups", "sites") and getattr(old, one.name) != getattr(new, one.name)
    }
    groups, sites = _listed(old.groups, new.groups), _listed(old.sites, new.sites)
    return {"top": top, "groups": groups, "sites": sites}


def _listed(old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    places = {_key(one): at for at, one in enumerate(old)}
    found: list[Any] = []
    for one in new:
        at = places.get(_key(one))
        if at is None or old[at] != one:
            found.append(to_json(one))
        elif found and isinstance(found[-1], list) and sum(found[-1]) == at:
            found[-1][1] += 1
        else:
            found.append([at, 1])
    return found


def _key(one: Any) -> object:
    """By what it is looked for in the other configuration."""
    return one.name if isinstance(one, Group) else (one.called()[:1], one.listeners)


def patched(old: Config, patch: Mapping[str, Any]) -> Config:
    """The configuration that `patch` was made of, with `old`. Raises `ValueError`."""
    groups = [one for item in patch["groups"] for one in restored(Group, old.groups, item)]
    sites = [one for item in patch["sites"] for one in restored(Site, old.sites, item)]
    return reassembled(old, patch["top"], groups, sites)


def restored(kind: type[Any], old: Sequence[Any], item: object) -> Sequence[Any]:
    """The groups or sites that one item of a patch stands for. Raises `ValueError`."""
    if not isinstance(item, list):
        return (from_json(kind, item),)
    at, many = item
    found = old[at : at + many]
    if at < 0 or len(found) != many:
        raise ValueError(f"{kind.__name__} {at} to {at + many} are not all known here")
    return found


def reassembled(
    old: Config, top: Mapping[str, Any], groups: Sequence[Group], sites: Sequence[Site]
) -> Config:
    """`old` with other groups and sites, and what `top` says. Raises `ValueError`."""
    values = from_json(Config, top)
    facts = {name: getattr(values, name) for name in top}
    return replace(old, groups=tuple(groups), sites=tuple(sites), **facts)
