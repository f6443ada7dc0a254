"""The house's order: a module imports only from floors below its own."""

import ast
import pathlib

import pytest

import rawproxy

PACKAGE = pathlib.Path(rawproxy.__file__).parent
FLOORS = [
    ["errors", "config", "names", "variables", "options", "positions"],
    [
        "engine",
        "recognise",
        "bounds",
        "target",
        "head",
        "lanes",
        "body",
        "proxy_protocol",
        "forwarded",
        "rewrite",
        "lasthop",
        "asked",
        "routing",
        "site",
        "identity",
        "client_hello",
        "handshake",
        "challenge",
        "wsframes",
        "frames",
        "hpack",
        "fields",
        "reader_h2",
        "fair_queue",
        "pool",
        "fingerprints",
        "meter",
        "history",
        "screen",
        "trace",
        "balancer",
        "health",
        "masks",
        "record",
        "pages",
        "admission",
        "outbox",
        "repeats",
        "admin_names",
    ],
    ["journal", "caution", "control", "handover", "systemd", "sockets", "children"],
    [
        "errqueue",
        "flow",
        "poller",
        "presence",
        "transport",
        "shake",
        "sink",
        "tls",
        "renewal",
        "contexts",
        "trust",
        "resolver",
        "watch",
        "upstream",
        "endpoint",
        "prober",
        "namesakes",
        "members",
        "waiting_room",
        "group",
    ],
    ["notes", "farewell", "service", "tunnel"],
    ["front", "checkout", "holding", "exchange"],
    [
        "responder",
        "intake",
        "front_h1",
        "writer_h2",
        "stream_transport",
        "stream_h2",
        "intake_h2",
        "front_h2",
    ],
    [
        "arrival",
        "listener",
        "exposition",
        "admin",
        "doors",
        "worker",
        "master",
        "demo_page",
        "demo",
        "top",
    ],
    ["keys", "document", "settings", "assemble", "cli", "child", "__main__"],
]
# Within a floor too the order is total: a module may import those that stand before it.
ORDER = [module for floor in FLOORS for module in floor]
PURE = set(FLOORS[0] + FLOORS[1])
FORBIDDEN = {"asyncio", "uvloop", "ssl", "socket", "time", "select", "threading"}


def imports(module: str) -> tuple[set[str], set[str]]:
    """The modules of the house, and of others, that `module` imports anywhere in its text."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            ours |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            others.add((node.module or "").partition(".")[0])
    return ours - {"__version__"}, others


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_down_only(module: str) -> None:
    ours, _ = imports(module)
    above = {name for name in ours if ORDER.index(name) >= ORDER.index(module)}
    assert not above, f"{module} imports {above} from its own height or above"


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_floors_know_no_sockets_and_no_clock(module: str) -> None:
    _, others = imports(module)
    assert not others & FORBIDDEN
