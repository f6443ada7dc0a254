"""docs/options.md is what `make docs` would write now, and has every option of --help."""

import re

from docs import write_options
from rawproxy.config.options import OPTIONS


def test_the_page_is_current():
    assert write_options.PAGE.read_text() == write_options.page(), "type make docs"


def test_every_option_and_bound_stands_in_it():
    page = write_options.page()
    names = [name for entries in OPTIONS.values() for (name, *_), _ in entries]
    assert [name for name in names if not re.search(rf"`{name}[ `]", page)] == []
