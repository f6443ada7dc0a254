"""The JSON Schema of the configuration file, for editors and checkers. It is made from `options`.

This module never looks at a file. Invariant: the schema accepts what the parser accepts, and
nothing else.
"""

from __future__ import annotations

import json
from typing import Any

import click

from rawproxy.config.options import TOP, Attributes, Keys, Workers


def schema() -> str:
    """The JSON Schema as text."""
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rawproxy's configuration file (TOML)",
        **_table(TOP),
    }
    return json.dumps(whole, indent=2) + "\n"


def _table(keys: Keys) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _property(attributes) for name, attributes in keys.items()},
        "additionalProperties": False,
    }


def _property(attributes: Attributes) -> dict[str, Any]:
    text = {"description": attributes["help"]} if "help" in attributes else {}
    if "table" in attributes:
        return {**text, **_table(attributes["table"])}
    if "tables" in attributes:
        return {**text, "type": "array", "items": _table(attributes["tables"])}
    if "each" in attributes:
        return {**text, "type": "object", "additionalProperties": _table(attributes["each"])}
    if "names" in attributes:
        return {**text, "type": "object", "additionalProperties": _one_or_more({"type": "string"})}
    one = _value(attributes)
    if "false" in attributes:
        one = {"anyOf": [one, {"const": False}]}
    if "or" in attributes:
        one = {"anyOf": [one, _table(attributes["or"])]}
    return {**text, **(_one_or_more(one) if attributes.get("multiple") else one)}


def _one_or_more(one: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _value(attributes: Attributes) -> dict[str, Any]:
    kind = attributes.get("type")
    if attributes.get("is_flag"):
        return {"type": "boolean"}
    if kind in ("size", "status"):
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
    if isinstance(kind, click.Choice):
        if all(choice.isdigit() for choice in kind.choices):
            return {"enum": [int(choice) for choice in kind.choices]}
        return {"enum": list(kind.choices)}
    if isinstance(kind, Workers):
        return {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}
    if isinstance(kind, click.IntRange | click.FloatRange):
        number = "integer" if isinstance(kind, click.IntRange) else "number"
        least = "exclusiveMinimum" if kind.min_open else "minimum"
        bounds = {least: kind.min, "maximum": kind.max}
        return {"type": number, **{name: at for name, at in bounds.items() if at is not None}}
    return {"type": "string"}
