"""From labels of containers to fragments of configuration: [group.NAME], and [[site]] for a host.

    rawproxy.host       the server names, with commas between: app.example.com, www.example.com
    rawproxy.port       the port in the container; needed if its image has several
    rawproxy.scheme     http (as without it) or https
    rawproxy.group      the name of the group; else that of the service, or of the container
    rawproxy.network    the network whose address is dialled; else the first by name
    rawproxy.weight, rawproxy.backup    of this container beside the others
    rawproxy.KEY        any other key of a route, a group or a site, in this order: path, auth,
                        strip-prefix, policy; of a table with a dot: timeouts.response-head

All running containers of a group serve; those that are not healthy are backups: they serve only
while none of the others can be reached. Where the labels of two differ, the word of the newest
counts, as the others are about to be replaced. A container with a group and no host serves what
the file sends to that group.

It never talks to Docker. Invariant: whatever a label says, it ends up as one value of one key: what
is wrong with it is found where every file is checked, and named by the container.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from rawproxy.config.options import GROUP, ROUTE, SITE, Attributes, Keys, Workers
from rawproxy.discovery.source import Fragment

PREFIX = "rawproxy."
HOST, PORT, SCHEME, NAME, NETWORK = "host", "port", "scheme", "group", "network"
BACKUP = "backup"
MEMBER = ("weight", BACKUP)
OWN = (HOST, PORT, SCHEME, NAME, NETWORK, *MEMBER)
# What labels cannot say, as it comes from what there is, or belongs to several containers at once.
_NOT = ("upstream", "route", "server-name", "group", "listen")
_SERVICES = (
    ("com.docker.compose.project", "com.docker.compose.service"),
    ("com.docker.swarm.service.name",),
)
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?").fullmatch
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_ILL = re.compile(r"\((?:unhealthy|health: starting)\)").search


class LabelError(Exception):
    """A container says what cannot be. The text names it, and what to type."""


@dataclass(frozen=True, slots=True)
class Container:
    """What is known of one that runs."""

    id: str
    name: str
    created: int
    labels: Mapping[str, str]  # those that begin with `PREFIX`, without it
    service: str  # what stands for it where it names no group
    addresses: Mapping[str, str]  # by network
    ports: tuple[int, ...]  # that its image exposes, TCP
    well: bool  # its health check, if it has one, passes


def containers(listed: Any) -> list[Container]:
    """Those that have labels for us, of the answer to GET /containers/json; the oldest first.

    Raises `ValueError` for what is no such answer.
    """
    found = []
    try:
        for one in listed:
            labels = one.get("Labels") or {}
            ours = {
                name.removeprefix(PREFIX): str(value)
                for name, value in labels.items()
                if name.startswith(PREFIX)
            }
            if ours and one.get("State") == "running":
                found.append(_container(one, labels, ours))
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"not a list of containers: {error!s}") from None
    return sorted(found, key=lambda one: (one.created, one.id))


def _container(one: Any, labels: Mapping[str, str], ours: Mapping[str, str]) -> Container:
    name = str(one["Names"][0]).removeprefix("/")
    service = name
    for parts in _SERVICES:
        if all(part in labels for part in parts):
            service = "-".join(labels[part] for part in parts)
            break
    networks = (one.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = {
        net: told.get("IPAddress") or told.get("GlobalIPv6Address") or ""
        for net, told in networks.items()
    }
    if "host" in addresses:
        addresses["host"] = "127.0.0.1"  # it has our own network
    ports = {port["PrivatePort"] for port in one.get("Ports") or () if port["Type"] == "tcp"}
    well = not _ILL(str(one.get("Status", "")))
    return Container(
        str(one["Id"]), name, int(one.get("Created", 0)), ours,
        _NOT_IN_NAMES.sub("-", service)[:64],
        {net: address for net, address in addresses.items() if address},
        tuple(sorted(ports)), well,
    )  # fmt: skip


def fragments(found: Iterable[Container], network: str = "") -> dict[str, Fragment]:
    """A fragment for each group, and one for each host, by their names."""
    groups: dict[str, list[Container]] = {}
    for one in found:
        groups.setdefault(one.labels.get(NAME, one.service), []).append(one)
    made: dict[str, Fragment] = {}
    hosts: dict[str, dict[str, tuple[str, Container]]] = {}  # by host and path: who serves it
    wrong: dict[str, str] = {}
    for name, members in sorted(groups.items()):
        try:
            text = _group(name, members, network)
            for one in members:
                for host in _hosts(one):
                    paths = hosts.setdefault(host, {})
                    path = one.labels.get("path", "/")
                    other = paths.setdefault(path, (name, one))
                    if other[0] != name:
                        also = f"{other[1].name} has {path} of {host} too, in another group"
                        hint = "give both the same rawproxy.group, or other paths"
                        wrong[host] = f": container {one.name}: {also}; {hint}"
                    paths[path] = (other[0], one if other[0] == name else other[1])
            made[f"group {name}"] = Fragment(f"docker:group {name}", text)
        except LabelError as error:
            made[f"group {name}"] = Fragment(f"docker:group {name}", "", wrong=f": {error}")
    for host, paths in sorted(hosts.items()):
        text = "" if host in wrong else _site(host, paths)
        made[f"site {host}"] = Fragment(f"docker:{host}", text, wrong=wrong.get(host, ""))
    return made


def _hosts(one: Container) -> list[str]:
    return [host for part in one.labels.get(HOST, "").split(",") if (host := part.strip().lower())]


def _group(name: str, members: list[Container], network: str) -> str:
    """The table of a group. Raises `LabelError`."""
    for one in members:
        _check(one)
    newest = members[-1]
    lines = [f"[group.{_quoted(name)}]", "upstream = ["]
    well = [one for one in members if one.well and one.labels.get(BACKUP) != "true"]
    for one in members if well else [each for each in members if each.well] or members:
        told = [f"url = {_quoted(_url(one, network))}"]
        said = {key: one.labels[key] for key in MEMBER if key in one.labels}
        if well and not one.well:
            said[BACKUP] = "true"
        told += [f"{key} = {_bare(value)}" for key, value in said.items()]
        lines.append(f"  {{ {', '.join(told)} }},  # container {_comment(one.name)}")
    lines.append("]")
    for label, value in newest.labels.items():
        if _table_of(label) is GROUP:
            lines.append(f"{_key(label)} = {_value(label, value, GROUP)}")
    return "\n".join(lines) + "\n"


def _site(host: str, paths: Mapping[str, tuple[str, Container]]) -> str:
    """The table of a site."""
    lines = ["[[site]]", f"server-name = {_quoted(host)}"]
    newest = max((one for _, one in paths.values()), key=lambda one: one.created)
    for label, value in newest.labels.items():
        if _table_of(label) is SITE:
            lines.append(f"{_key(label)} = {_value(label, value, SITE)}")
    for group, one in paths.values():
        lines += ["[[site.route]]", f"group = {_quoted(group)}  # container {_comment(one.name)}"]
        for label, value in one.labels.items():
            if _table_of(label) is ROUTE:
                lines.append(f"{_key(label)} = {_value(label, value, ROUTE)}")
    return "\n".join(lines) + "\n"


def _check(one: Container) -> None:
    """Raises `LabelError` for labels that nobody knows, or that say nothing together."""
    here = f"container {one.name}: label {PREFIX}"
    for label in one.labels:
        if label not in OWN and _table_of(label) is None:
            known = [*OWN, *(key for keys in (ROUTE, GROUP, SITE) for key in keys)]
            near = difflib.get_close_matches(label, known, 1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "see docs/docker.md"
            raise LabelError(f"{here}{label}: not known; {hint}")
    if not _hosts(one) and NAME not in one.labels:
        raise LabelError(f"{here}{HOST} is missing: type the host that it serves, app.example.com")


def _url(one: Container, network: str) -> str:
    """Where a container is dialled. Raises `LabelError`."""
    here = f"container {one.name}: label {PREFIX}"
    port = one.labels.get(PORT, "")
    if not port:
        if len(one.ports) != 1:
            ports = " ".join(map(str, one.ports)) or "none"
            raise LabelError(f"{here}{PORT} is missing: its image exposes {ports}; type one")
        port = str(one.ports[0])
    scheme = one.labels.get(SCHEME, "http")
    if scheme not in ("http", "https"):
        raise LabelError(f"{here}{SCHEME} {scheme}: type http or https")
    wanted = one.labels.get(NETWORK, network)
    if wanted and wanted not in one.addresses:
        known = " ".join(sorted(one.addresses)) or "none"
        raise LabelError(f"{here}{NETWORK} {wanted}: it has no address there; it is in {known}")
    if not one.addresses:
        raise LabelError(f"container {one.name}: it has no address; give it a network")
    address = one.addresses[wanted or min(one.addresses)]
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}"


# ── labels as TOML ──────────────────────────────────────────────────────────────────────────────


def _table_of(label: str) -> Keys | None:
    """The table whose key a label is; None: it is one of `OWN`, or nobody's."""
    top = label.partition(".")[0]
    if label in OWN or top in _NOT:
        return None
    return next(
        (keys for keys in (ROUTE, GROUP, SITE) if _attributes(keys, label) is not None), None
    )


def _attributes(keys: Keys, label: str) -> Attributes | None:
    """How the key `label` is described, through the dots; None: there is none."""
    top, _, rest = label.partition(".")
    told = keys.get(top)
    if told is None or "tables" in told or "each" in told:
        return None
    if "table" in told:
        return _attributes(told["table"], rest) if rest else None
    if "names" in told:
        return {} if rest else None
    return told if not rest else None


def _key(label: str) -> str:
    """A label as a dotted key; what stands behind the name of a field has no dots of its own."""
    return ".".join(_quoted(part) for part in label.split("."))


def _value(label: str, text: str, keys: Keys) -> str:
    """The text of a label as a value of its key's kind. What does not fit stays a text."""
    told = _attributes(keys, label) or {}
    if told.get("multiple"):
        return f"[{', '.join(_quoted(part.strip()) for part in text.split(','))}]"
    kind = told.get("type")
    if told.get("is_flag") or (told.get("false") and text == "false"):
        return _bare(text)
    if isinstance(kind, click.IntRange | click.FloatRange) and not isinstance(kind, Workers):
        return _bare(text)
    return _quoted(text)


def _bare(text: str) -> str:
    """A number, true or false as it is; anything else in quotes, where it is found to be wrong."""
    return text if text in ("true", "false") or _NUMBER(text) else _quoted(text)


def _quoted(text: str) -> str:
    """A text as TOML has it: what JSON leaves as it is, and TOML does not, is escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """A name that cannot end its line."""
    return "".join(c for c in text if c.isprintable())
