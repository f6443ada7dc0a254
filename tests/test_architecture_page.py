"""The walk in docs/architecture.md: what a step names is in a file that the step links."""

import ast
import functools
import pathlib
import re

import pytest

TOP = pathlib.Path(__file__).parent.parent
PAGE = (TOP / "docs" / "architecture.md").read_text()
# A step, a point of a list or a paragraph: from its first line to the next of them.
STEPS = [
    step
    for step in re.split(r"\n(?:\n|(?= *(?:\d+\.|\*) ))", PAGE)
    if re.search(r"`[\w.]+\(\)`", step) and "](" in step
]


@functools.cache
def names(path: pathlib.Path) -> frozenset[str]:
    """Functions and methods that a file defines, as `function` and `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inner = (ast.FunctionDef, ast.AsyncFunctionDef)
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, inner)}
    return frozenset(found)


@pytest.mark.parametrize("step", STEPS, ids=range(len(STEPS)))
def test_what_a_step_names_is_in_a_file_that_it_links(step):
    files = [TOP / "docs" / link for link in re.findall(r"\]\(([^)#]+\.py)\)", step)]
    known = frozenset().union(*(names(path) for path in files))
    assert set(re.findall(r"`([\w.]+)\(\)`", step)) - known == set()


def test_there_are_steps_and_the_list_of_rooms_is_whole():
    assert len(STEPS) > 25
    rooms = {path.parent.name for path in (TOP / "rawproxy").glob("*/__init__.py")}
    assert set(re.findall(r"^\| \[(\w+)\]\(\.\./rawproxy/", PAGE, re.M)) == rooms
