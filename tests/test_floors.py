"""The house's order: rooms stand on each other, and the lower ones know no sockets and no clock.

A room is a package. Its docstring says what it is, what it never does and, in a line that begins
`May import:`, which rooms it stands on; here the code is held to that.
"""

import ast
import graphlib
import pathlib
import re

import pytest

import rawproxy

PACKAGE = pathlib.Path(rawproxy.__file__).parent
# From the ground up. A name stands for the rooms within it as well.
ROOMS = [
    "errors",
    "config",
    "nginx",
    "protocol",
    "protocol.http",
    "protocol.http1",
    "protocol.http2",
    "protocol.websocket",
    "routing",
    "balancing",
    "telemetry",
    "net.openssl",
    "net",
    "tls",
    "upstream",
    "proxy",
    "access",
    "acme",
    "discovery",
    "client",
    "admin",
    "process",
    "store",
    "demo",
    "cli",
    "__main__",
]
ENTRIES = {"__init__", "__main__", "cli", "errors"}
PURE = ("errors", "config", "protocol", "routing", "balancing")
PURE_FILES = {
    "access.address_lists",
    "access.counts",
    "access.keys",
    "access.ledger",
    "access.reading",
    "access.answer_cache",
    "access.htpasswd",
    "access.password_hashes",
    "access.questions",
    "access.rates",
    "access.rules",
    "access.verdicts",
    "acme.advice",
    "acme.keys",
    "acme.plan",
    "acme.reading",
    "acme.settings",
    "acme.timing",
    "discovery.docker_labels",
    "discovery.joined_document",
    "discovery.keys",
    "discovery.reading",
    "discovery.source",
    "telemetry.access_log",
    "telemetry.counters",
    "telemetry.facts",
    "telemetry.history",
    "telemetry.masks",
    "telemetry.repeats",
    "net.tls_outbox",
    "proxy.admission",
    "admin.host_names",
    "admin.top_screen",
    "store.address",
    "store.amounts",
    "store.verbs",
    "tls.client_identity",
    "tls.fingerprints",
}
FORBIDDEN = {"asyncio", "uvloop", "ssl", "socket", "time", "select", "threading"}


def _name(path: pathlib.Path) -> str:
    """`client.listener` of its path."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = sorted(name.rpartition(".")[0] for name in FILES if name.endswith(".__init__"))
MODULES = sorted(name for name in FILES if not name.endswith("__init__"))


def room_of(module: str) -> str:
    """The room that a module stands in; an entry point is one by itself."""
    return module.rpartition(".")[0] or module


def within(room: str, other: str) -> bool:
    """Whether `room` is `other`, or one within it."""
    return room == other or room.startswith(other + ".")


def imports(module: str) -> tuple[set[str], set[str]]:
    """The modules of the house, and of others, that `module` imports anywhere in its text."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: imports name the whole path here"
            top, _, rest = (node.module or "").partition(".")
            if top != "rawproxy":
                others.add(top)
                continue
            for alias in node.names:
                inner = f"{rest}.{alias.name}".lstrip(".")
                ours.add(inner if inner in FILES else rest)
    return ours - {""}, others - {"rawproxy"}


def test_the_top_holds_entry_points_and_rooms_alone() -> None:
    assert {name for name in FILES if "." not in name} == ENTRIES
    assert set(PACKAGES) | ENTRIES - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("room", PACKAGES)
def test_a_room_says_what_it_stands_on_and_stands_on_nothing_else(room: str) -> None:
    text = ast.get_docstring(ast.parse(FILES[f"{room}.__init__"].read_text())) or ""
    allowed = re.search(r"^May import: (.+)\.$", text, re.M)
    assert "never" in text and "Invariant: " in text and allowed, f"{room} does not say it"
    named = set(allowed[1].split(", ")) - {"nothing"}
    above = {name for name in named if ROOMS.index(name) >= ROOMS.index(room)}
    assert not above, f"{room} would stand on {above}, which are not below it"
    used = {
        room_of(other)
        for module in MODULES
        if room_of(module) == room
        for other in imports(module)[0]
        if room_of(other) != room
    }
    assert not {one for one in used if not any(within(one, name) for name in named)}
    assert not {name for name in named if not any(within(one, name) for one in used)}


@pytest.mark.parametrize("room", PACKAGES)
def test_a_room_exports_nothing_by_itself(room: str) -> None:
    """Whoever needs something of it names the file, so that a reader finds the file."""
    body = ast.parse(FILES[f"{room}.__init__"].read_text()).body
    assert [type(node) for node in body] == [ast.Expr]


def test_files_stand_on_each_other_one_way() -> None:
    graph = {module: imports(module)[0] for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the way round


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in MODULES
        if name in PURE_FILES or any(within(room_of(name), room) for room in PURE)
    ],
)
def test_pure_files_know_no_sockets_and_no_clock(module: str) -> None:
    _, others = imports(module)
    assert not others & FORBIDDEN


def test_no_class_name_stands_twice() -> None:
    """Who reads a name in a log, a test or a page finds one class, or one type, of that name."""
    where: dict[str, list[str]] = {}
    for name, path in FILES.items():
        tree = ast.parse(path.read_text())
        types = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for node in tree.body:  # what a module calls a type: `Row = tuple[str, int]`
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [one.id for one in targets if isinstance(one, ast.Name)]
                types += [one for one in names if re.match("[A-Z][A-Za-z0-9]*[a-z]", one)]
        for one in types:
            where.setdefault(one, []).append(name)
    assert not {name: files for name, files in where.items() if len(files) > 1}
