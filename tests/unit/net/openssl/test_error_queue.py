"""OpenSSL's error queue, which this Python may keep clean and another may not: by a double."""

import ast
import asyncio
import pathlib
import socket
import ssl

import pytest

import rawproxy
from rawproxy.net import tls_handshake
from rawproxy.net.openssl import error_queue
from rawproxy.net.tls_transport import TlsTransport

PACKAGE = pathlib.Path(rawproxy.__file__).parent
RAW = {"read", "write", "shutdown", "do_handshake", "unwrap"}


class Soiled:
    """The thread's error queue where Python 3.13 meets OpenSSL 3.5."""

    def __init__(self) -> None:
        self.left: OSError | None = None
        self.cured = 0

    def cure(self) -> None:
        self.left = None
        self.cured += 1


class Double:
    """OpenSSL's side of a connection that is reset, or has nothing to say."""

    server_side = True
    context = None

    def __init__(self, queue: Soiled, *, broken: bool) -> None:
        self.queue = queue
        self.broken = broken

    def _do(self, *_: object) -> int:
        if self.broken:
            self.queue.left = BrokenPipeError(32, "Broken pipe")
        if self.queue.left is not None:
            raise self.queue.left
        raise ssl.SSLWantReadError

    read = write = shutdown = do_handshake = _do


class Told(asyncio.Protocol):
    def __init__(self) -> None:
        self.errors: list[Exception | None] = []

    def connection_lost(self, error: Exception | None) -> None:
        self.errors.append(error)


@pytest.fixture
def soiled(monkeypatch):
    queue = Soiled()
    monkeypatch.setattr(error_queue.queue, "cure", queue.cure)
    return queue


@pytest.mark.parametrize("call", ["write", "long write", "read", "close", "handshake"])
def test_nobody_hears_of_the_resets_of_others(soiled, call):
    async def story():
        socks = [*socket.socketpair(), *socket.socketpair()]
        for sock in socks:
            sock.setblocking(False)
        told = [Told(), Told()]
        broken = Double(soiled, broken=True)
        bystander = TlsTransport(socks[0], Double(soiled, broken=False), told[0], 1)
        bystander.begin()
        other = TlsTransport(socks[2], broken, told[1], 1)
        other.begin()
        if call == "handshake":
            ended = []
            tls_handshake.Handshake(socket.socket(), broken, ended.append).step()
            assert isinstance(ended[0], BrokenPipeError)
        elif call == "close":
            other.close()
        elif call == "read":
            socks[3].send(b"a record")
        else:
            other.write(bytes(20_000 if call == "long write" else 1))
        await asyncio.sleep(0.01)
        assert soiled.cured == 1 and soiled.left is None
        socks[1].send(b"part of a record")
        await asyncio.sleep(0.01)
        assert not told[0].errors and not bystander.is_closing()
        bystander.abort()
        other.abort()
        await asyncio.sleep(0)
        for sock in socks:
            sock.close()

    asyncio.run(story())


def test_to_have_to_wait_leaves_nothing_behind(soiled):
    error_queue.after(ssl.SSLWantReadError())
    error_queue.after(ssl.SSLWantWriteError())
    assert not soiled.cured


def test_what_helps_here_is_found_out():
    queue = error_queue.ErrorQueue()
    assert queue.find_out() is None
    with error_queue.QueueTrial(error_queue.ErrorQueue()) as trial:
        assert not trial.soiled(), "the first cure, before anything is known"
    with error_queue.QueueTrial(queue) as trial:
        assert not trial.soiled()
    for cure in error_queue.CURES:
        cure()


@pytest.mark.parametrize(
    ("outcomes", "cure", "said"),
    [
        ([False], None, False),
        ([True, False], error_queue.CURES[0], False),
        ([True, True, False], error_queue.CURES[1], False),
        ([True, True, True], error_queue.CURES[0], True),
        ([ssl.SSLError("no cipher match")], error_queue.CURES[0], False),
    ],
)
def test_which_cure_is_chosen(monkeypatch, outcomes, cure, said):
    def soiled(trial):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(error_queue.QueueTrial, "soiled", soiled)
    queue = error_queue.ErrorQueue()
    text = queue.find_out()
    assert queue.cure is cure
    assert bool(text) is said
    assert not outcomes


def raw_calls(tree: ast.AST):
    """Calls of OpenSSL, by the names that the house gives to such objects, and what guards them."""
    aliases = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target, value in pairs(node)
        if isinstance(target, ast.Name) and is_raw(value)
    }

    def visit(node: ast.AST, handlers: list[ast.ExceptHandler]):
        if isinstance(node, ast.Try):
            for child in node.body:
                yield from visit(child, [*handlers, *node.handlers])
            for child in [*node.handlers, *node.orelse, *node.finalbody]:
                yield from visit(child, handlers)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            handlers = []
        called = node.func if isinstance(node, ast.Call) else None
        if is_raw(called) or (isinstance(called, ast.Name) and called.id in aliases):
            yield node, handlers
        for child in ast.iter_child_nodes(node):
            yield from visit(child, handlers)

    yield from visit(tree, [])


def pairs(node: ast.Assign):
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def is_raw(node: ast.AST | None) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr not in RAW:
        return False
    return ast.unparse(node.value).rpartition(".")[2] in ("tls", "_tls", "_sslobj", "ssl_object")


# These pass the error on to `error_queue.after`.
PASSING = {"self._blocked", "self._end", "error_queue.after"}


def guards(handlers: list[ast.ExceptHandler]) -> bool:
    """Whether an `OSError` of any kind ends in `error_queue.after`."""
    for handler in handlers:
        kinds = ast.unparse(handler.type) if handler.type else "OSError"
        calls = {ast.unparse(n.func) for n in ast.walk(handler) if isinstance(n, ast.Call)}
        if kinds == "OSError":
            return bool(calls & PASSING)
        if "Want" not in kinds and not calls & PASSING:
            return False
    return False


def test_every_call_of_openssl_is_guarded():
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "openssl":
            continue  # what tries things before any connection is made
        for call, handlers in raw_calls(ast.parse(path.read_text())):
            found += 1
            assert guards(handlers), f"{path.name}:{call.lineno} lacks error_queue.after"
    assert found >= 7, "the check looks for names that nobody uses any more"


@pytest.mark.parametrize(
    "text",
    [
        "self._tls.read(1)",
        "try:\n self._tls.read(1)\nexcept ssl.SSLError as e:\n error_queue.after(e)",
        "try:\n self.tls.write(b'')\nexcept ssl.SSLError:\n pass\nexcept OSError as e:\n error_queue.after(e)",
        "read, n = self._tls.read, 1\ntry:\n read(1)\nexcept OSError:\n pass",
        "try:\n def f():\n  x._tls.shutdown()\nexcept OSError as e:\n error_queue.after(e)",
    ],
)
def test_the_check_itself_finds_what_is_not_guarded(text):
    ((_, handlers),) = raw_calls(ast.parse(text))
    assert not guards(handlers)
