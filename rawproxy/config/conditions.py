"""What a request has to be like for a route that has a `when`: a table of values and tests.

    when = { "$method" = "POST" }             it is this text
    when = { "$http_origin" = "!" }           it is not this text: here, it is not empty
    when = { "$http_user_agent" = "~*bot" }   this regular expression is found in it; * for any case
    when = { "$host" = "!~^www[.]" }          it is not found
    when = { "$arg_x" = "=~a" }               a text that begins with ~, ! or =
    when = { "$arg_x" = ["!", "!0"] }         all of these

All of a route's tests have to hold. This module never sees a request. Invariant: a test that
`parse_test` has returned can be asked of any bytes. Raises `ConfigError`.
"""

from __future__ import annotations

from typing import NamedTuple

from rawproxy.config import variables
from rawproxy.config.path_regex import PathRegex, path_regex
from rawproxy.errors import ConfigError


class ValueTest(NamedTuple):
    """One test of a value."""

    text: str  # what it is compared with, if there is no `regex`
    regex: PathRegex | None = None
    negated: bool = False


def parse_test(text: str) -> ValueTest:
    """A test, as it is written. Raises `ConfigError`, whose text names no key."""
    if text.startswith("="):
        return ValueTest(text[1:])
    negated = text.startswith("!")
    rest = text[1:] if negated else text
    if not rest.startswith("~"):
        return ValueTest(rest, negated=negated)
    pattern = f"(?i){rest[2:]}" if rest.startswith("~*") else rest[1:]
    return ValueTest("", path_regex(pattern), negated)


def parse_condition(value: str, test: str, groups: int) -> tuple[str, str]:
    """One pair of a `when`, checked. `groups`: of the route's `path-regex`."""
    variables.check("--when", value, groups)
    if "$" not in value:
        raise ConfigError("--when: type what differs, as $method or $http_origin")
    try:
        parse_test(test)
    except ConfigError as error:
        raise ConfigError(f"--when = {test}: {error}") from None
    return value, test


def keeps_host(conditions: tuple[tuple[str, str], ...]) -> bool:
    """Whether what `$1` and so on are was found in the name that was asked for."""
    kept = ""
    for value, text in conditions:
        test = parse_test(text)
        if test.regex is not None and test.regex.groups and not test.negated:
            kept = value
    return kept in ("$host", "${host}")


def groups_of(conditions: tuple[tuple[str, str], ...], groups: int) -> int:
    """How many groups a route's values can name: those of the last expression that has any."""
    for _, text in conditions:
        test = parse_test(text)
        if test.regex is not None and test.regex.groups and not test.negated:
            groups = test.regex.groups
    return groups
