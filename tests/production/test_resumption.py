"""Clients that come back resume their sessions, whichever worker they come to."""

import pytest

from .resumption import VERSIONS, WANTED, Count, page, run

CLIENTS = 60


@pytest.mark.parametrize("version", VERSIONS)
def test_workers_resume_each_others_sessions_and_those_of_before_a_reload(version):
    for what, count in run(CLIENTS, VERSIONS[version]).items():
        assert count.resumed >= WANTED * CLIENTS, f"{what}: {count}"
        # Else it would not show anything: one worker would have served them all twice.
        assert count.elsewhere >= CLIENTS / 8, f"{what}: {count}"
        assert count.resumed_elsewhere >= WANTED * count.elsewhere, f"{what}: {count}"


def test_the_page_has_a_row_for_each():
    text = page({"TLS 1.3": {"a reload": Count(9, 4, 8, 3)}}, "today")
    assert "\n| TLS 1.3 | a reload | 9 | 4 | **8** | 3 |\n" in text
