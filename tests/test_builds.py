"""Both builds run the same tests, but for a handful that CONTRIBUTING.md names."""

import pathlib
import re

TOP = pathlib.Path(__file__).parent.parent
MARK = re.compile(r"^@plain_only\((.+)\)\n(?:@.+\n)*(?:async )?def (\w+)", re.M)
ENTRY = re.compile(r"^\* `(tests/[\w/]+\.py)`, `(\w+)`: ", re.M)


def test_what_the_compiled_build_leaves_out_is_listed():
    marked = {
        (str(path.relative_to(TOP)), name)
        for path in sorted((TOP / "tests").rglob("test_*.py"))
        for _, name in MARK.findall(path.read_text())
    }
    listed = set(ENTRY.findall((TOP / "CONTRIBUTING.md").read_text()))
    assert marked == listed
    assert 0 < len(marked) <= 6, "what is compiled is what people run: it is to be tested"
