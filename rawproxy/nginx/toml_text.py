"""Tables as TOML text, with a comment above each that says where it comes from.

It never reads one. Invariant: `tomllib` reads back what went in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f\x7f]').sub


def table(header: str, facts: Mapping[str, Any], comment: str = "") -> str:
    """One table: its comment, its header in brackets (none for the top) and its keys."""
    lines = [f"# {line}" for line in comment.splitlines()]
    if header:
        lines.append(header)
    lines += [f"{key(name)} = {value(one)}" for name, one in facts.items()]
    return "\n".join(lines) + "\n"


def key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if _BARE(name) else text(name)


def value(one: Any) -> str:
    """A value of a key: text, numbers, booleans, lists and tables within the line."""
    if isinstance(one, str):
        return text(one)
    if isinstance(one, bool):
        return "true" if one else "false"
    if isinstance(one, int | float):
        return f"{plain(one)}"
    if isinstance(one, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {value(it)}" for name, it in one.items()) + " }"
    return "[" + ", ".join(value(it) for it in one) + "]"


def plain(one: Any) -> Any:
    """The value as `tomllib` reads it back from what `value` writes."""
    if isinstance(one, (str, int)):
        return one
    if isinstance(one, float):
        return int(one) if one == int(one) else one
    if isinstance(one, (dict, Mapping)):
        return {name: plain(it) for name, it in one.items()}
    return [plain(it) for it in one]


def text(one: str) -> str:
    """A basic string."""
    return '"' + _ESCAPED(lambda match: _escape(match[0]), one) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\u{ord(character):04x}")
