"""What a class leaves to those made of it, they cannot forget: it is abstract.

And a callback for whoever does not want to know is `errors.ignore`, not a function that happens to
do nothing with such arguments.
"""

import ast

import pytest

from rawproxy.proxy.client_side import ClientSide
from rawproxy.upstream.connection import ConnectionOwner
from rawproxy.upstream.response_handler import ResponseHandler
from tests.builds import plain_only
from tests.test_floors import FILES, MODULES

# Any of them takes an argument or none, and does no harm.
HARMLESS = {"int", "id", "bool", "str", "len", "print"}


def _empty(body: list[ast.stmt]) -> bool:
    """Whether nothing is done but to say so."""
    rest = [
        one
        for one in body
        if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
    ]
    if len(rest) == 1 and isinstance(rest[0], ast.Raise):
        return "NotImplementedError" in ast.dump(rest[0])
    return not rest and isinstance(body[-1], ast.Expr) and body[-1].value.value is ...


@pytest.mark.parametrize("module", MODULES)
def test_a_method_that_is_left_to_others_is_abstract(module: str) -> None:
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if not isinstance(node, ast.ClassDef) or "Protocol" in map(ast.unparse, node.bases):
            continue
        stubs = [
            one.name
            for one in node.body
            if isinstance(one, ast.FunctionDef)
            and _empty(one.body)
            and "abstractmethod" not in map(ast.unparse, one.decorator_list)
        ]
        assert not stubs, f"{node.name} has stubs: {stubs}"


@pytest.mark.parametrize("module", MODULES)
def test_a_callback_that_does_nothing_says_so(module: str) -> None:
    """`self.gone: Callable[[], object] = int` stands for nothing that a reader could know."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.AnnAssign) and "Callable" in ast.unparse(node.annotation):
            assert node.value is None or ast.unparse(node.value) not in HARMLESS, (
                f"line {node.lineno}: {ast.unparse(node)}"
            )


@plain_only("the compiler has looked")
@pytest.mark.parametrize("base", [ClientSide, ResponseHandler, ConnectionOwner])
def test_whoever_forgets_one_is_never_made(base: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (base,), {})()
