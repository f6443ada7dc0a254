"""Where one text of the tests names another test: `wire/test_faults.py::test_deadlines`.

`docs/threats.md` and the rule table point at tests instead of repeating them; a test follows every
pointer, so that none leads nowhere. A pointer may name a whole file.
"""

import ast
import functools
import pathlib
import re

TESTS = pathlib.Path(__file__).parent
POINTER = re.compile(r"\b((?:[\w-]+/)*test_\w+\.py)(?:::(\w+))?")


def pointers(text: str) -> list[tuple[str, str]]:
    """File (below `tests/`) and name of every test that `text` points at; the name may be empty."""
    return [(found[1].removeprefix("tests/"), found[2] or "") for found in POINTER.finditer(text)]


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """The functions and classes in a file below `tests/`; a file that is missing has none."""
    path = TESTS / file
    if not path.exists():
        return frozenset()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def dangling(text: str) -> list[str]:
    """The pointers in `text` that lead nowhere."""
    return [
        f"{file}::{name}"
        for file, name in pointers(text)
        if not names_in(file) or (name and name not in names_in(file))
    ]
