"""docs/scale.md has the figures of the last bench, reckoned as it says."""

import json

from docs import write_scale


def test_the_page_is_current():
    text = write_scale.PAGE.read_text()
    assert write_scale.page(text) == text, "type make docs"


def test_what_is_reckoned():
    assert write_scale.cores(1_000_000, 60.0, 1.0) == 100
    assert write_scale.cores(1, 1.0, 1.0) == 1
    assert write_scale.machines(16) == "2", "one, and one to spare"
    assert write_scale.machines(17) == "3"
    results = json.loads(write_scale.RESULTS.read_text())
    assert set(write_scale.ROWS) <= set(results["rows"])
