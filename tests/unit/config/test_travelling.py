"""What travels between processes as JSON can be read in the compiled build as well."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import pytest

from rawproxy.access.rules import AccessRules
from rawproxy.config.model import Config
from tests.hot import HOT


def reachable(hint: Any, seen: set[Any]) -> Iterator[Any]:
    """The dataclasses that a type is made of."""
    if is_dataclass(hint) and hint not in seen:
        seen.add(hint)
        yield hint
        for inner in get_type_hints(hint).values():
            yield from reachable(inner, seen)
    for inner in get_args(hint):
        yield from reachable(inner, seen)


@pytest.mark.parametrize("top", [Config, AccessRules])
def test_compiled_classes_that_travel_have_plain_fields_alone(top):
    """A compiled class keeps `tuple` of `tuple[Network, ...]`, and nobody could read it back."""
    found = list(reachable(top, set()))
    assert len(found) > 3
    for one in found:
        if one.__module__ in HOT:
            types = set(get_type_hints(one).values())
            assert types <= {int, float, str, bool}, f"{one} stands in a compiled module"
