"""A configuration as plain JSON values, and back.

    to_json      a dataclass of `model` ──► dicts, lists, texts and numbers
    from_json    the same values, and the class they are of ──► an equal dataclass

The type of a field says how the field is read, so a new field needs no line here. A field that has
its default is left out: both sides run the same code, and know it.

This module never checks what a value means: `problems` has done that. Invariant: `from_json` gives
back an object that equals the one `to_json` was given, or raises `ValueError`, which names the
field. `to_json` raises `TypeError` for a value of a kind that `from_json` could not read.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from rawproxy.config.model import Network

T = TypeVar("T")
_AS_IS = frozenset((str, int, float, bool, dict, NoneType))
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def to_json(value: Any) -> Any:
    """The value as `json.dumps` takes it. Raises `TypeError`."""
    if type(value) in _AS_IS or isinstance(value, (str, int, float, dict)):
        return value
    if is_dataclass(value):
        found = {}
        for name, default in _layout(value.__class__):
            inner = getattr(value, name)
            if inner is not default and inner != default:  # most are the default itself
                found[name] = to_json(inner)
        return found
    if isinstance(value, tuple):
        return [to_json(one) for one in value]
    if isinstance(value, frozenset):
        return sorted(to_json(one) for one in value)
    if isinstance(value, Network):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON here")


def from_json(kind: type[T], data: object) -> T:
    """The `kind` that `data` was made of. Raises `ValueError`."""
    made: T = _read(kind, data, kind.__name__)
    return made


def _read(hint: Any, data: Any, where: str) -> Any:
    """One value of the type `hint`; `where` is its name in an error."""
    return _reader(hint)(hint, data, where)


@functools.cache
def _reader(hint: Any) -> Callable[[Any, Any, str], Any]:
    """What reads values of a type: a configuration has a hundred thousand, of some dozen types."""
    if is_dataclass(hint):
        return _read_object
    if hint == Network:
        return lambda _, data, where: _read_network(data, where)
    if get_origin(hint) in (Union, UnionType):
        return _read_optional
    if get_origin(hint) is tuple:
        return lambda hint, data, where: _read_tuple(get_args(hint), data, where)
    if get_origin(hint) is frozenset:
        return lambda hint, data, where: frozenset(_read_tuple((*get_args(hint), ...), data, where))
    if hint is Any:
        return lambda _, data, where: data
    return _read_plain


def _read_plain(hint: Any, data: Any, where: str) -> Any:
    if hint not in _NAMES:
        raise TypeError(f"{where}: {hint} has no form in JSON here")
    if type(data) is hint or (hint is float and type(data) is int):
        return data
    raise ValueError(f"{where}: {_NAMES[hint]} is expected, not {_shown(data)}")


def _read_object(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: an object is expected, not {_shown(data)}")
    hints = _hints(kind)
    values = {}
    for name, inner in data.items():
        hint = hints.get(name)
        if hint is None:
            raise ValueError(f"{where}: {name} is not known here")
        # What is a plain value needs no reader, and no name for an error.
        values[name] = inner if type(inner) is hint else _read(hint, inner, f"{where}.{name}")
    for name in _needed(kind):
        if name not in values:
            raise ValueError(f"{where}: {name} is missing")
    return kind(**values)


def _read_tuple(items: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    """As many values as `items` has types; any number of the first type before an ellipsis."""
    if not isinstance(data, list):
        raise ValueError(f"{where}: a list is expected, not {_shown(data)}")
    hints = [items[0]] * len(data) if items[1:] == (...,) else list(items)
    if len(hints) != len(data):
        raise ValueError(f"{where}: {len(hints)} values are expected, not {len(data)}")
    return tuple(
        [
            one if type(one) is hint else _read(hint, one, f"{where}[{at}]")
            for at, (hint, one) in enumerate(zip(hints, data, strict=True))
        ]
    )


def _read_optional(hint: Any, data: Any, where: str) -> Any:
    """None, or a value of the one other type."""
    others = [one for one in get_args(hint) if one is not NoneType]
    if len(others) > 1:
        raise TypeError(f"{where}: {hint} does not say which of its types is meant")
    return None if data is None else _read(others[0], data, where)


def _read_network(data: Any, where: str) -> Network:
    try:
        return ipaddress.ip_network(_read(str, data, where))
    except ValueError:
        raise ValueError(f"{where}: a network is expected, not {_shown(data)}") from None


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@functools.cache
def _needed(kind: Any) -> tuple[str, ...]:
    """The fields of a dataclass that have no default."""
    every = fields(kind)
    return tuple(
        one.name for one in every if one.default is MISSING and one.default_factory is MISSING
    )


@functools.cache
def _layout(kind: Any) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass, each with its default."""
    return tuple((one.name, _default(one)) for one in fields(kind))


def _default(one: Field[Any]) -> Any:
    """What a field is without being told; for one that must be told, an object equal to nothing."""
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _shown(data: object) -> str:
    """The beginning of a value, for an error."""
    return repr(data)[:40]
