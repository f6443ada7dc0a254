"""What every file of the package keeps to, beside the order of the rooms: its length, and reasons.

A private part of a library, a `type: ignore` or a `noqa` may be right. Then its reason stands beside
it: behind it, or in a comment on the line above.
"""

import ast
import io
import pathlib
import re
import tokenize

import pytest

import rawproxy

PACKAGE = pathlib.Path(rawproxy.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
LINES = 400
FUNCTION = 50
SILENCED = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma|fmt:\s*off)\b")
# What such a comment says by itself; what is left of it is the reason.
DIRECTIVE = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w,-]+\])?)"
)
PUBLIC = {
    "_replace",
    "_asdict",
    "_fields",
    "_make",
}  # of named tuples, with a _ as fields have none
# Where each use is tried at the start and can be gone without; `objects` and its like say how.
DOOR = "net/openssl/"


def comments(text: str) -> dict[int, str]:
    """By line; a comment that has its line for itself begins with a blank."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[token.start[0]] = " " * alone + token.string
    return found


def reason(line: int, said: dict[int, str]) -> str:
    """Why what stands in `line` is right, as far as a comment tells."""
    behind = DIRECTIVE.sub("", said.get(line, "")).strip(" #-,:;")
    above = said.get(line - 1, "")
    return behind or (above.strip() if above.startswith(" ") else "")


def functions(text: str) -> dict[str, int]:
    """How many lines each function has, its docstring and all."""
    return {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def own_names(text: str) -> set[str]:
    """Every private name that a file itself gives to something."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


OWN = set().union(*map(own_names, FILES.values()))


def private(text: str) -> list[tuple[int, str]]:
    """Uses of private parts of others: line and name."""
    found = []
    own = own_names(text)
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        known = own
        if isinstance(node, ast.Attribute):
            names = [node.attr]
            if ast.unparse(node.value) in ("self", "cls", "super()"):
                known = OWN  # inherited perhaps
        elif isinstance(node, ast.Import):
            names, known = [part for alias in node.names for part in alias.name.split(".")], set()
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            known = set()
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            names = [node.args[1].value] if isinstance(node.args[1], ast.Constant) else []
        found += [
            (node.lineno, name)
            for name in names
            if re.match(r"_[a-z]", name) and name not in PUBLIC and name not in known
        ]
    return found


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_long(name):
    lines = FILES[name].count("\n")
    assert lines <= LINES, f"{lines} lines"


@pytest.mark.parametrize("name", FILES)
def test_no_function_is_long(name):
    assert not [one for one, lines in functions(FILES[name]).items() if lines > FUNCTION]


def unexplained(text: str) -> list[str]:
    """What is silenced without a reason."""
    said = comments(text)
    return [
        f"{line}: {words}"
        for line, words in said.items()
        if SILENCED.search(words) and not reason(line, said)
    ]


@pytest.mark.parametrize("name", FILES)
def test_what_is_silenced_has_a_reason(name):
    assert not unexplained(FILES[name])


def test_what_is_silenced_beside_the_package_has_one_too():
    top = pathlib.Path(__file__).parent.parent
    files = [path for room in ("tests", "bench", "docs") for path in (top / room).rglob("*.py")]
    assert len(files) > 200
    lacking = {str(path): unexplained(path.read_text()) for path in files}
    assert {name: what for name, what in lacking.items() if what} == {}


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(DOOR)])
def test_private_parts_of_others_are_used_with_a_reason_or_not_at_all(name):
    said = comments(FILES[name])
    found = private(FILES[name])
    assert not [f"{line}: {part}" for line, part in found if not reason(line, said)]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("x = 1  # noqa: S301", 1),
        ("x = 1  # noqa", 1),
        ("x = 1  # type: ignore[a-b,c]", 1),
        ("x = 1  # type: ignore[a-b]  # noqa: E1", 1),
        ("x = 1  # noqa: S301, our parent made it", 0),
        ("x = 1  # noqa: N818 - the RFC's word", 0),
        ("x = 1  # type: ignore[a-b]  # typeshed knows none", 0),
        ("# Because.\nx = 1  # noqa", 0),
        ("y = 2  # Because.\nx = 1  # noqa", 1),
    ],
)
def test_the_check_for_reasons_finds_what_lacks_one(text, problems):
    said = comments(text)
    assert problems == sum(
        bool(SILENCED.search(one)) and not reason(line, said) for line, one in said.items()
    )


@pytest.mark.parametrize(
    "text",
    [
        "a._sslobj.read(1)",
        "self._sock._sslobj",
        "self._inherited_from_nowhere()",
        "import _ssl",
        "from ssl import _context_factory",
        "getattr(a, '_sslobj')",
        "sock._accept()",
    ],
)
def test_the_check_for_private_parts_finds_them(text):
    assert private(text)
    fine = "from __future__ import annotations\nhead._replace(target=b''), self._state, __slots__"
    assert not private(fine)


def test_the_door_is_the_only_place_for_openssls_private_parts():
    named = {
        name for name, text in FILES.items() if re.search(r"\._(?:sslobj|wrap_socket)\b", text)
    }
    assert named == {DOOR + "objects.py"}
