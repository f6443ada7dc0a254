"""The modern profile, confirmed by a scanner that shares nothing with us."""

import pytest

from tests.tls_scan import EXPECTED, SSLYZE, findings, scan


@pytest.mark.skipif(SSLYZE is None, reason="needs sslyze: make tls-scan installs it")
def test_sslyze_confirms_the_modern_profile():
    assert findings(*scan()) == EXPECTED
