"""The walk in docs/architecture.md: what a step names is in a file that the step links."""

import ast
import functools
import itertools
import pathlib
import re

import pytest

from rawproxy.proxy.checkout import ExchangeState

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


def test_the_diagram_the_table_and_the_states_of_an_exchange_are_the_same():
    """Every arrow of the diagram is in the table, which knows some more."""
    table: dict[str, set[str]] = {}
    text = (TOP / "rawproxy" / "proxy" / "exchange.py").read_text()  # compiled, it has no docstring
    rows = (
        (ast.get_docstring(ast.parse(text), clean=False) or "")
        .partition("─\n")[2]
        .partition("\n\n")[0]
    )
    state = ""
    for row in rows.splitlines():
        state = row[:14].strip() or state  # or the row goes on with the one before
        table.setdefault(state, set()).update(re.findall(r"[A-Z]{4,}", row[44:]))
    diagram = PAGE.partition("subgraph proxy/exchange\n")[2].partition("\n    end")[0]
    arrows = set()
    for line in diagram.splitlines():
        names = re.findall(r"\b([A-Z]{4,})\b", line)
        arrows |= set(itertools.pairwise(names))
    states = {state.name for state in ExchangeState}
    assert set(table) == states == {name for arrow in arrows for name in arrow}
    assert not {arrow for arrow in arrows if arrow[1] not in table[arrow[0]]}
    assert table["DONE"] == set(), "it is for ever"


def test_each_word_stands_once_and_is_one_of_the_code():
    words = re.findall(r"^\| ([a-z ]+) \| ", PAGE.partition("## Words\n")[2], re.M)[1:]
    assert words == sorted(set(words))
    code = "\n".join(path.read_text().lower() for path in (TOP / "rawproxy").rglob("*.py"))
    assert [word for word in words if not re.search(word.replace(" ", "[ _]?"), code)] == []
