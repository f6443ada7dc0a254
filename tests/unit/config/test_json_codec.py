"""The configuration as JSON: every field of every class of the model comes back as it was."""

import dataclasses
import functools
import ipaddress
import json
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rawproxy.config import model
from rawproxy.config.json_codec import from_json, to_json
from rawproxy.config.model import Address, Config, Group, Network, Respond, Upstream

MODEL = [one for one in vars(model).values() if dataclasses.is_dataclass(one)]
FULL = Config(
    groups=(
        Group("g", (Upstream("h:1", tls=True, host="h", port=1),), pins=frozenset({"b", "a"})),
    ),
    trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")),
    upgrades=(),
    admin=Address("127.0.0.1", 9900),
)


def travelled(value):
    """What comes out at the other end."""
    return from_json(type(value), json.loads(json.dumps(to_json(value))))


@functools.cache
def anything(hint: Any) -> st.SearchStrategy:
    """Any value that the type of a field allows, so that a new field is drawn by itself."""
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{one.name: anything(hints[one.name]) for one in fields(hint)})
    if hint == Network:
        return st.ip_addresses().map(ipaddress.ip_network)
    kinds = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return st.one_of(anything(one) for one in kinds)
    if get_origin(hint) is frozenset:
        return st.frozensets(anything(kinds[0]), max_size=2)
    if get_origin(hint) is tuple and kinds[1:] == (...,):
        return st.lists(anything(kinds[0]), max_size=2).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(anything, kinds))
    return {
        Any: st.none() | st.dictionaries(st.text(max_size=3), st.lists(st.integers(), max_size=2)),
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        str: st.text(max_size=5) | st.just("\udc80 a path that is no UTF-8"),
    }[hint]


def fields(hint):
    return [one for one in dataclasses.fields(hint) if one.init]


@pytest.mark.parametrize("kind", MODEL, ids=lambda one: one.__name__)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_class_of_the_model_comes_back_as_it_was(kind, data):
    value = data.draw(anything(kind))
    assert travelled(value) == value


def test_every_field_that_is_told_travels():
    """One field at a time has another value than its default, in each class of the model."""
    others = {str: "other", int: 77, float: 7.7, NoneType: None}
    for kind in MODEL:
        hints = get_type_hints(kind)
        needed = {
            one.name: {str: "needed", int: 1, bool: True}[hints[one.name]]
            for one in fields(kind)
            if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        }
        base = kind(**needed)
        for one in fields(kind):
            was = getattr(base, one.name)
            other = not was if isinstance(was, bool) else others.get(type(was), was)
            changed = dataclasses.replace(base, **{one.name: other})
            assert travelled(changed) == changed
            if changed != base:
                assert to_json(changed) != to_json(base), f"{kind.__name__}.{one.name}"


def test_what_has_its_default_is_left_out():
    assert to_json(Config()) == {}
    assert to_json(FULL) == {
        "groups": [
            {
                "name": "g",
                "upstreams": [{"url": "h:1", "tls": True, "host": "h", "port": 1}],
                "pins": ["a", "b"],
            }
        ],
        "trusted_proxies": ["10.0.0.0/8", "fd00::/8"],
        "upgrades": [],
        "admin": {"host": "127.0.0.1", "port": 9900},
    }
    assert travelled(FULL) == FULL


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], r"^Config: an object is expected, not \[\]"),
        ({"invented": 1}, "^Config: invented is not known here"),
        ({"groups": {}}, r"^Config\.groups: a list is expected, not \{\}"),
        ({"groups": [{}]}, r"^Config\.groups\[0\]: name is missing"),
        ({"groups": [{"name": 1}]}, r"^Config\.groups\[0\]\.name: text is expected, not 1"),
        ({"workers": True}, r"^Config\.workers: a whole number is expected, not True"),
        ({"workers": 1.5}, r"^Config\.workers: a whole number is expected, not 1\.5"),
        ({"redirect": 1}, r"^Config\.redirect: true or false is expected, not 1"),
        (
            {"deadlines": {"drain": "1"}},
            r"^Config\.deadlines\.drain: a number is expected, not '1'",
        ),
        ({"admin": 1}, r"^Config\.admin: an object is expected, not 1"),
        ({"trusted_proxies": ["x"]}, r"^Config\.trusted_proxies\[0\]: a network is expected"),
        ({"trusted_proxies": [1]}, r"^Config\.trusted_proxies\[0\]: a network is expected"),
        (
            {"groups": [{"name": "g", "passive": {"status": [[1]]}}]},
            r"^Config\.groups\[0\]\.passive\.status\[0\]: 2 values are expected, not 1",
        ),
    ],
)
def test_what_is_malformed_is_refused_by_name(data, why):
    with pytest.raises(ValueError, match=why):
        from_json(Config, data)


def test_whole_seconds_are_a_number_too():
    assert from_json(Config, {"deadlines": {"drain": 7}}).deadlines.drain == 7


def test_a_field_of_a_kind_that_cannot_travel_is_noticed():
    @dataclasses.dataclass
    class Odd:
        one: object = None
        two: int | str = 0
        three: Any = None

    with pytest.raises(TypeError, match="bytes has no form in JSON"):
        to_json(dataclasses.replace(Respond(200), body=b"x"))
    with pytest.raises(TypeError, match="has no form in JSON"):
        from_json(Odd, {"one": {}})
    with pytest.raises(TypeError, match="does not say which"):
        from_json(Odd, {"two": 1})
    assert from_json(Odd, {"three": {"as": "it is"}}) == Odd(three={"as": "it is"})
