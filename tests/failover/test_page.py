"""The figures of docs/upstreams.md are those of the last measurement."""

import pathlib
import re

HERE = pathlib.Path(__file__).parent


def rows(text: str) -> list[list[str]]:
    """Proxy and lost requests of each row of the table that begins with `proxy, health`."""
    table = text.partition("| proxy, health |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [[name, *(re.findall(r"\d+", cell)[0] for cell in lost)] for name, *lost in cells]


def test_the_page_says_what_was_measured():
    page = (HERE.parents[1] / "docs" / "upstreams.md").read_text()
    measured = rows((HERE / "RESULTS.md").read_text())
    assert len(measured) == 6
    assert rows(page) == measured
