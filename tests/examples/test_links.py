"""Links in the documents lead to files that exist."""

import re

import pytest

from tests.examples import EXAMPLES

TOP = EXAMPLES.parent
DOCUMENTS = sorted({*TOP.glob("*.md"), *TOP.glob("docs/**/*.md"), *TOP.glob("examples/**/*.md")})
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_relative_links_lead_somewhere(path):
    targets = [one for one in LINK.findall(path.read_text()) if "://" not in one]
    assert [one for one in targets if not (path.parent / one).exists()] == []
