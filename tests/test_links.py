"""Every relative link in a document leads to a file that exists, and to a heading that it has."""

import functools
import os
import pathlib
import re

import pytest

TOP = pathlib.Path(__file__).parent.parent
HIDDEN = ("build", "node_modules")


def _documents() -> list[pathlib.Path]:
    """Those of the repository. Environments, builds and whole Debians are not even entered."""
    found = []
    for folder, inner, files in os.walk(TOP):
        inner[:] = [name for name in inner if not name.startswith(".") and name not in HIDDEN]
        found += [pathlib.Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


DOCUMENTS = _documents()
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*#*$", re.M)


def prose(path: pathlib.Path) -> str:
    """Its text without blocks of code, which hold no links."""
    return FENCE.sub("", path.read_text())


def slug(heading: str) -> str:
    """The anchor that GitHub, and others after it, give a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@functools.cache
def anchors(path: pathlib.Path) -> frozenset[str]:
    """Those of its headings; a second heading of the same words gets a number."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(path)):
        name = first = slug(heading)
        number = 0
        while name in found:
            number += 1
            name = f"{first}-{number}"
        found.add(name)
    return frozenset(found)


def dead(path: pathlib.Path) -> list[str]:
    """The relative links of a document that lead nowhere."""
    found = []
    for one, other in LINK.findall(CODE.sub("", prose(path))):
        link = one or other
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.resolve())):
            found.append(link)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_relative_links_lead_somewhere(path):
    assert dead(path) == []


def test_links_that_lead_nowhere_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `word`, and more\n## Same\n## Same\n[a](#a-word-and-more) [b](page.md#same-1)\n"
        '[c](#same-2) [d](other.md) <img src="none.png"> `[e](code.md)` [f](https://x.test/y)\n'
        "```\n# no heading\n[g](fenced.md)\n```\n[h](#no-heading)\n"
    )
    assert dead(page) == ["#same-2", "other.md", "none.png", "#no-heading"]


def test_the_readme_is_short():
    """Eight kilobytes: what is more has a page in docs/."""
    assert len((TOP / "README.md").read_bytes()) <= 8000
