"""tests/nginx/CONFIGURATIONS.md has every configuration, as the command wrote it."""

import re
from collections import Counter

from tests.nginx.__main__ import PAGE, page
from tests.nginx.compare import ALLOWED
from tests.nginx.stand import CONFIGS


def test_every_configuration_is_in_the_table():
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| ([0-9]+) \| ([0-9]+) \| ([0-9]+) \|", PAGE.read_text(), re.M
    )
    assert [name for name, *_ in rows] == [path.stem for path in sorted(CONFIGS.glob("*.conf"))]
    assert len(rows) >= 40, "as many were promised"
    assert all(asked == same and other == "0" for _, asked, same, other in rows)


def test_every_difference_on_purpose_is_explained():
    counted = re.findall(r"^\| ([^|]+) \| [0-9,]+ \| ([^|]+) \|$", PAGE.read_text(), re.M)
    assert counted and dict(counted).items() <= ALLOWED.items()


def test_what_differs_is_counted():
    results = {
        "one": (7, ["x"], Counter({"always": 3})),
        "two": (5, [], Counter({"always": 1, "forwarded": 2})),
    }
    made = page(results)
    assert (
        "| one | 7 | 6 | 1 | always |" in made and "| two | 5 | 5 | 0 | always, forwarded |" in made
    )
    assert "2 configurations, 12 requests." in made and "| always | 4 |" in made
