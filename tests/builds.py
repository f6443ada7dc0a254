"""The few tests that say nothing of the compiled build, each with its reason.

Everything else runs over both builds: `make test` and `make test-fast`. `tests/test_builds.py` holds
the list in CONTRIBUTING.md to what is marked here.
"""

import pytest

from rawproxy.process.build import is_compiled


def plain_only(why: str) -> pytest.MarkDecorator:
    """Leave a test out where the hot path is machine code."""
    return pytest.mark.skipif(is_compiled(), reason=f"the plain build's alone: {why}")
