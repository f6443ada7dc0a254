"""Values of a route that change paths and answers, and what upstreams say of their own paths.

Each function takes the text of one key and returns a checked value. It never looks at another key.
Invariant: a value cannot end the line it is put into, and names no host that the admin has not
typed. Raises `ConfigError`, which begins with the key.
"""

from __future__ import annotations

import re

from rawproxy.config import option_values, variables
from rawproxy.config.model import ErrorPage
from rawproxy.config.path_regex import path_regex
from rawproxy.errors import ConfigError

_PREFIX = re.compile(r"/[A-Za-z0-9._~!$&'()*+,=:@/-]*").fullmatch
_REWRITE = re.compile(r"(?:/|\$(?:[1-9]|uri|path|request_uri)(?![A-Za-z0-9_]))[!-~]*").fullmatch
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[ -~]+").fullmatch
_CACHE = re.compile(r"[a-z][a-z0-9=, -]*").fullmatch
_NAMED = re.compile(r"@[!-~]{1,200}").fullmatch
_PAIR = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?").fullmatch
_PRINTABLE = re.compile(r"[!-~]+").fullmatch


def parse_prefix(text: str) -> str:
    """The `replace-prefix` of a route."""
    if not _PREFIX(text) or "//" in text or "." in text.split("/") or ".." in text.split("/"):
        raise ConfigError(f"--replace-prefix {text}: type a plain path, as /v1")
    return text


def parse_name_regex(text: str) -> str:
    """One `server-name-regex` of a site; names are lower case when it is asked."""
    try:
        path_regex(text)
    except ConfigError as error:
        raise ConfigError(f"--server-name-regex {text}: {error}") from None
    return text


def parse_rewrite(text: str, groups: int) -> str:
    """The `rewrite` of a route: a path with variables, and perhaps a query to put first."""
    if not _REWRITE(text) or "#" in text:
        raise ConfigError(f"--rewrite {text}: type a path that begins with /, as /u/$1")
    return _with_variables("--rewrite", text, groups)


def parse_named(text: str) -> str:
    """The `named` of a route."""
    if not _NAMED(text):
        raise ConfigError(f"--named {text}: type a name behind an @, as @sorry")
    return text


def parse_error_page(statuses: str, said: str, groups: int) -> ErrorPage:
    """One pair of `error-page`: statuses, and `[=STATUS] PLACE`."""
    match = _PAIR(statuses)
    from_status, to_status = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 400 <= from_status <= to_status <= 599:
        raise ConfigError("--error-page: type a status from 400 on, or 502-504")
    answer, place = -1, said
    if said.startswith("="):
        code, _, place = said[1:].partition(" ")
        answer = int(code) if code.isdigit() else 0 if not code else 1
    if answer > 0 and (not 200 <= answer <= 599 or answer in (204, 205, 304)):
        raise ConfigError("--error-page: type a status of a page, as in =200 /sorry")
    if place.startswith("@"):
        parse_named(place)
    elif place.startswith("/"):
        parse_rewrite(place, groups)
    else:
        option_values.parse_redirect(place, groups)
    return ErrorPage(from_status, to_status, place, answer)


def parse_cache(text: str) -> str:
    """The `cache-control` of a route."""
    if not _CACHE(text):
        raise ConfigError(f"--cache-control {text}: type directives, as public, max-age=3600")
    return text


def parse_body(text: str, groups: int) -> str:
    """The `body` of a `respond`."""
    return _with_variables("--body", text, groups)


def parse_type(text: str) -> str:
    """The `type` of a `respond`."""
    if not _TYPE(text):
        raise ConfigError(f"--type {text}: type a media type, as text/html; charset=utf-8")
    return text


def parse_mapping(option: str, origin: str, instead: str) -> tuple[str, str]:
    """One pair of `map-location`, `map-cookie-path` or `map-cookie-domain`."""
    groups = 0
    if origin.startswith("~"):
        try:
            groups = path_regex(origin[2:] if origin.startswith("~*") else origin[1:]).groups
        except ConfigError as error:
            raise ConfigError(f"{option} {origin}: {error}") from None
    else:
        variables.check(f"{option} {origin}", origin, 0)
    variables.check(f"{option}: {instead}", instead, groups)
    for text in (origin, instead):
        if not _PRINTABLE(text) or (option != "--map-location" and ";" in text):
            raise ConfigError(
                f"{option}: {text!r}: type printable ASCII without blanks"
                + (", and without ;" if option != "--map-location" else "")
            )
    begins = re.match(r"https?://|/|\$|~", origin)
    if option == "--map-location" and not begins:
        raise ConfigError(f"{option}: type how it begins, as http://internal:8080/ or /v1")
    if option == "--map-cookie-path" and not re.match(r"/|\$|~", origin):
        raise ConfigError(f"{option}: type how the path begins, as /v1")
    return origin, instead


def _with_variables(option: str, text: str, groups: int) -> str:
    variables.check(f"{option} {text}", text, groups)
    return text
