"""Single values of the configuration: the text of one option goes in, a checked value comes out.

Values that name a host are read by `addresses`. This module never looks at a second option, a file
or a clock. Invariant: what comes out can stand in a header line or a log. Raises `ConfigError`,
which begins with the option and says what to type.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterable
from dataclasses import fields, replace

from rawproxy.config import variables
from rawproxy.config.field_names import may_trail
from rawproxy.config.model import PARKED, Deadlines, Limits
from rawproxy.errors import ConfigError

# One directive, RFC 6797 6.1. ASCII by name: \d and \s would let other digits and line ends in.
_DIRECTIVE = re.compile(r'([A-Za-z0-9_-]+)(?:=(?:[A-Za-z0-9_-]+|"[A-Za-z0-9 _-]*"))?').fullmatch
_MAX_AGE = re.compile(r'(?i:max-age)=(?:[0-9]{1,10}|"[0-9]{1,10}")').fullmatch


def parse_pin(text: str) -> str:
    """One `--upstream-pin`, with or without colons. Raises `ConfigError`."""
    digits = text.replace(":", "").lower()
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise ConfigError(
            f"--upstream-pin {text}: not a SHA-256; it is 64 hex digits, as this prints:"
            " openssl x509 -noout -fingerprint -sha256 -in cert.pem"
        )
    return digits


_LEAST = {"start-line": 64, "head": 1024, "response-head": 1024, "fields": 8, "requests": 1}
_OR_NONE = ("body", "rate", "connections", "per-client", "tunnels", "queue")
_OR_NEVER = ("wait", "tunnel-drain")
_SIZE = re.compile(r"([0-9]{1,15})([kmg]?)").fullmatch
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def limit_names() -> list[str]:
    """The names that `--limit` takes. Other limits have options of their own."""
    return [f.name.replace("_", "-") for f in fields(Limits) if not f.name.startswith("h2_")]


def timeout_names() -> list[str]:
    """The names that `--timeout` takes."""
    return [f.name.replace("_", "-") for f in fields(Deadlines)]


def parse_client_field(text: str) -> str:
    """The `client-field`: the name of a field that has one address."""
    if text and (not _TOKEN(text) or text.lower() in ("host", "forwarded", "x-forwarded-for")):
        raise ConfigError(f"--client-field {text}: type the name of a field, as CF-Connecting-IP")
    return text


def parse_limits(texts: Iterable[str], base: Limits | None = None) -> Limits:
    """All values of `--limit NAME=N`.

    If a name is given twice, the last counts. Raises `ConfigError`.
    """
    found: dict[str, int] = {}
    for text in texts:
        name, value = _named("--limit", text, limit_names())
        match = _SIZE(value.lower())
        least = 0 if name in _OR_NONE else _LEAST.get(name, 1)
        if match is None or int(match[1]) * _UNITS[match[2]] < least:
            raise ConfigError(
                f"--limit {text}: type {name}=N, {least} or more; k, m and g are known"
            )
        found[name.replace("-", "_")] = int(match[1]) * _UNITS[match[2]]
    return replace(base or Limits(), **found)


def parse_timeouts(texts: Iterable[str], base: Deadlines | None = None) -> Deadlines:
    """All values of `--timeout NAME=SECONDS`; the last of each name counts.

    Raises `ConfigError`.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, value = _named("--timeout", text, timeout_names())
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf and (seconds or name not in _OR_NEVER):  # true for nan too
            raise ConfigError(f"--timeout {text}: type {name}=SECONDS, more than 0")
        found[name.replace("-", "_")] = seconds
    return replace(base or Deadlines(), **found)


def _named(option: str, text: str, names: list[str]) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{option} {text}: {hint}known are {', '.join(names)}")
    return name, value


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_FIELD_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?").fullmatch
# What frames a message, or belongs to one connection, we write ourselves (RFC 9110 7.6.1).
_OURS = frozenset(
    "connection content-length expect keep-alive proxy-connection te trailer transfer-encoding"
    " upgrade".split()
)
_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,=:@-]"  # RFC 3986 3.3, less what could be read in two ways
_PATH = re.compile(rf"/(?:{_SEGMENT}+/)*{_SEGMENT}*").fullmatch
# A client's words stand behind a whole host, so that they can never name another one.
_HOST_NAMED = (
    r"(?:[A-Za-z0-9-]+\.)*\$(?:http_host|host|server_name|\{(?:http_host|host|server_name)\})"
)
_PATH_NAMED = r"\$(?:path|request_uri|uri|\{(?:path|request_uri|uri)\})(?![A-Za-z0-9_])"
_REDIRECT = re.compile(
    rf"(?:(?:https?|\$scheme)://(?:{_HOST_NAMED}|[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?"
    rf"(?=[/?]|{_PATH_NAMED}|\Z)|/)[!-~]*"
).fullmatch
_STATUS = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?").fullmatch


def parse_header(option: str, name: str, value: str = "", groups: int = 0) -> tuple[str, str]:
    """A field to set, add or remove. The route has `groups` captures to name. Raises `ConfigError`.

    Invariant: neither the name nor the value can end its line or change how the message is framed.
    """
    if not _TOKEN(name):
        raise ConfigError(
            f"{option}: {name!r} is not the name of a header field; type X-Real-IP, say"
        )
    if name.lower() == "host" and (option != "--set" or not value):
        raise ConfigError(f"{option}: Host can only be set; type it under set, and with a value")
    if name.lower() in _OURS:
        raise ConfigError(f"{option}: {name} is written by rawproxy itself; leave it out")
    if not _FIELD_VALUE(value):
        raise ConfigError(f"{option} {value!r}: type printable ASCII, no blanks around it")
    variables.check(f"{option} {value!r}", value, groups)
    return name, value


def parse_trailer(text: str) -> str:
    """One of a route's `request-trailers`, in lower case. Raises `ConfigError`."""
    name = text.lower()
    if not _TOKEN(name):
        raise ConfigError(
            f"--request-trailers: {text!r} is not the name of a field; type Server-Timing, say"
        )
    if not may_trail(name.encode()):
        why = "frames, forwards, identifies or controls, and may stand in heads alone"
        raise ConfigError(f"--request-trailers: {text} {why} (RFC 9110 6.5.1); leave it out")
    return name


def parse_gather(text: str) -> int:
    """A route's `gather`. Raises `ConfigError`."""
    match = _SIZE(text.lower())
    size = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= size <= PARKED:
        most = f"{PARKED // 1024 // 1024}m"
        why = "all that are gathered at once are no more"
        raise ConfigError(f"--gather {text}: type bytes, from 1 to {most} ({why})")
    return size


def parse_upgrade(text: str) -> str:
    """One `--upgrade`. Raises `ConfigError`."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[0-9A-Za-z.]+)?", text):
        raise ConfigError(f"--upgrade {text}: not the name of a protocol; type websocket, say")
    if text.lower() in ("h2c", "h2", "http/2.0"):
        why = "would let requests through that nobody has looked at"
        raise ConfigError(f"--upgrade {text}: a tunnel of HTTP/2 {why}; leave it out")
    return text


def parse_path(text: str) -> str:
    """The `path` of a route, in the one form that requests are compared with."""
    segments = text.split("/")
    if not _PATH(text) or any(segment.endswith(".") for segment in segments):
        raise ConfigError(
            f"--path {text}: type a plain path, as /app; without %, ?, #, //, and dots at the end"
            " of segments"
        )
    return text


def parse_redirect(text: str, groups: int = 0) -> str:
    """The `redirect` of a route: a URL or a path in ASCII, with variables."""
    if not _REDIRECT(text):
        raise ConfigError(f"--redirect {text}: type https://host/path, or /path")
    variables.check(f"--redirect {text}", text, groups)
    return text


def parse_status(text: str) -> tuple[int, int]:
    """One `status` that counts as healthy, or a range such as 200-399."""
    match = _STATUS(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise ConfigError(f"--status {text}: type a status, as 200, or a range, as 200-399")
    return first, last


def parse_target(text: str) -> str:
    """The `path` of a health check, as it stands in the request line."""
    if not re.fullmatch(r"/[!-\"$-~]*", text):
        raise ConfigError(f"--path {text}: type a path, as /-/health/ready/, in ASCII")
    return text


def parse_group(text: str) -> str:
    """The NAME of a `[group.NAME]`, as logs and metrics show it."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ConfigError("--group: type letters, digits, dots and dashes, 64 at most")
    return text


def parse_parameter(text: str) -> str:
    """One `--access-log-mask`: the name of a query parameter. Raises `ConfigError`."""
    if not re.fullmatch(r"[!-~]+", text) or set(text) & set("&;=?#%+"):
        raise ConfigError(
            f"--access-log-mask {text}: type the name of a query parameter, as it is decoded: token"
        )
    return text


def parse_file(option: str, text: str, words: str = "") -> str:
    """A path, or one of the option's own `words`. Whether the file can be read is seen later.

    Raises `ConfigError` for an empty text, which an unset shell variable leaves behind.
    """
    if not text:
        raise ConfigError(f"{option}: empty; type {words}the path of a file")
    return text


@functools.lru_cache(maxsize=16)  # thousands of sites have the same one
def check_hsts(value: str) -> str:
    """The value of `--hsts` (RFC 6797 6.1). Raises `ConfigError`.

    Invariant: the value is printable ASCII, so it cannot end its header line.
    """
    directives = [part.strip(" ") for part in value.split(";")]
    matches = [_DIRECTIVE(directive) for directive in directives if directive]
    names = [match[1].lower() for match in matches if match]
    ages = [directive for directive in directives if _MAX_AGE(directive)]
    # A browser ignores the whole header where a directive stands twice (6.1, rule 2).
    if not all(matches) or len(set(names)) != len(names) or len(ages) != 1:
        raise ConfigError(
            f"--hsts {value!r}: type max-age=SECONDS, as in --hsts max-age=63072000, or --no-hsts"
        )
    return value
