"""What holds for all tests: the patience of hypothesis, and which of them begin first."""

import pathlib

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
