"""What holds for all tests: the patience of hypothesis, which of them begin first, and that none
leaves something in the environment."""

import os
import pathlib
from collections.abc import Iterator

import hypothesis
import pytest

from tests.dealing import dealt

# A machine that is busy with something else is no failure of the code under test.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let what takes longest begin first, in every process."""
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes > 1:
        names = [item.path.relative_to(HERE).as_posix() for item in items]
        items[:] = [items[at] for at in dealt(names, processes)]


@pytest.fixture(autouse=True)
def _environment_is_put_back() -> Iterator[None]:
    """What a test leaves there, every process that a later one starts would inherit."""
    before = dict(os.environ)
    yield
    left = {name for name, value in os.environ.items() if before.get(name) != value}
    left |= before.keys() - os.environ.keys()
    assert left - {"PYTEST_CURRENT_TEST"} == set()
