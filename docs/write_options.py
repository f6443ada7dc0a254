"""Writes docs/options.md from the option table: `make docs`.

Names, values, defaults and bounds come from `rawproxy.config.options` and `rawproxy.config.model`;
longer words stand in options.toml. A test holds the page current. Raises `SystemExit` for words
about what does not exist.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rawproxy.config import options
from rawproxy.config.model import Deadlines, Limits
from rawproxy.config.option_values import limit_names, timeout_names

HERE = Path(__file__).parent
PAGE = HERE / "options.md"
INTRO = """\
# Options

<!-- `make docs` writes this page from rawproxy/config/options.py and docs/options.toml. -->

`rawproxy --help` says the same in short. Every option is also an environment variable:
`--upstream-name` is `RAWPROXY_UPSTREAM_NAME`. The values of an option that can be repeated are
separated by spaces there. Every option but `--config` is also a key of the
[configuration file](configuration.md), without its dashes. The command line wins over the file, the
file over the environment, and the environment over the default.

`rawproxy check` takes the same options. It validates everything and reaches each upstream once. It
warns, as the start does, of certificates that expire, of serving as root, and of keys that every
user can read.

Exit codes: 0 is drained after SIGINT or SIGTERM, 1 is could not start, 2 is wrong usage or
configuration.
"""
REDIRECT = """\
The redirect from `--http` goes to the host that was asked for. A `Host` without a port came in on
port 80, through a port mapping perhaps, and is sent to 443. A `Host` with a port is sent to the
port of the https listener.
"""
LIMITS = """\
Type `--limit body=100m --limit per-client=200`. `k`, `m` and `g` are known. 0 is none where that is
said.
"""
TIMEOUTS = """\
In seconds. Type `--timeout tunnel-idle=86400`. Deadlines are looked at once a second, so an end may
come a second late.
"""
FILE_KEYS = """\
These keys have no option. [configuration.md](configuration.md) shows them at work;
`rawproxy schema` prints all of them for editors.
"""


def row(*cells: str) -> str:
    """A line of a markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def heading(*titles: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*titles), "|---" * len(titles) + "|"]


def values(attributes: dict[str, Any]) -> str:
    """What may stand behind a name."""
    kind = attributes.get("type")
    if attributes.get("is_flag"):
        return ""
    if isinstance(kind, click.Choice):
        return "|".join(kind.choices)
    return str(attributes.get("metavar", ""))


def default(attributes: dict[str, Any], words: dict[str, str]) -> str:
    """The value without the option."""
    if "default" in words:
        return words["default"]
    if attributes.get("is_flag"):
        return "off"
    found = attributes.get("default")
    if found is None:
        return "none"
    return " ".join(f"`{one}`" for one in (found if isinstance(found, list) else [found]))


def size(number: int) -> str:
    """16384 as 16k."""
    return f"{number // 1024}k" if number >= 4096 and number % 1024 == 0 else str(number)


def option_tables(words: dict[str, dict[str, str]]) -> list[str]:
    """A table for each heading of `--help`."""
    lines = []
    for title, entries in options.OPTIONS.items():
        if title == "Limits":
            continue
        lines += ["", f"## {title}", "", *heading("option", "meaning", "default")]
        for (name, *_), attributes in entries:
            told = words.get(name[2:], {"text": attributes["help"]})
            shown = f"`{f'{name} {values(attributes)}'.strip()}`"
            if attributes.get("multiple"):
                shown += " (repeatable)"
            lines.append(row(shown, told["text"], default(attributes, told)))
        if title == "Listeners":
            lines += ["", *REDIRECT.splitlines()]
    return lines


def bound_table(
    names: list[str], defaults: dict[str, Any], words: dict[str, dict[str, str]], first: str
) -> list[str]:
    """Limits or timeouts."""
    lines = heading(first, "of what", "default", "beyond it")
    for name in names:
        found = defaults[name.replace("-", "_")]
        shown = words[name].get("default", "")
        if not shown:
            shown = f"{found:g}" if isinstance(found, float) else size(found)
        lines.append(row(f"`{name}`", words[name]["text"], shown, words[name]["beyond"]))
    return lines


# Tables of keys that capabilities bring: those by a name, and those within a route.
BROUGHT = [
    *(
        (f"[{name}.NAME]", told["each"])
        for name, told in options.TOP.items()
        if "each" in told and name != "group"
    ),
    *(
        (f"[{name}]", told["table"])
        for name, told in options.TOP.items()
        if "table" in told and name not in ("limits", "timeouts")
    ),
    *(
        (f"{name} = {{ … }}", told["table"])
        for name, told in options.SITE.items()
        if "table" in told
    ),
    *(
        (f"[{path}]", table)
        for name, told in options.TOP.items()
        if "table" in told and name not in ("limits", "timeouts")
        for path, table in (
            (name, told["table"]),
            *(
                (f"{name}.{one}", inner["table"])
                for one, inner in told["table"].items()
                if "table" in inner
            ),
        )
    ),
]


def file_tables() -> list[str]:
    """The keys that only a file has, table by table."""
    known = dict(options.flat())
    lines = []
    for title, keys in (
        ("[group.NAME]", options.GROUP),
        ("upstream = [{ … }]", options.UPSTREAM),
        ("passive = { … }", options.PASSIVE),
        ("active = { … }", options.ACTIVE),
        ("[[site]]", options.SITE),
        ("[[site.route]]", options.ROUTE),
        *BROUGHT,
    ):
        own = {name: told for name, told in keys.items() if known.get(name) != told}
        also = [f"`{name}`" for name in keys if name not in own]
        lines += ["", f"`{title}`", "", *heading("key", "meaning")]
        for name, told in own.items():
            choices = values(told) if isinstance(told.get("type"), click.Choice) else ""
            lines.append(row(f"`{name}`", told["help"] + (f" `{choices}`" if choices else "")))
        if also:
            lines += ["", f"And, as the options above: {', '.join(also)}."]
    return lines


def page() -> str:
    """The whole page."""
    words = tomllib.loads((HERE / "options.toml").read_text())
    known = {name for name, _ in options.flat()} | {"config"}
    stray = set(words["option"]) - known
    stray |= set(words["limit"]) - set(limit_names())
    stray |= set(words["timeout"]) - set(timeout_names())
    if stray:
        sys.exit(f"docs/options.toml: not known: {', '.join(sorted(stray))}")
    lines = [
        *INTRO.splitlines(),
        *option_tables(words["option"]),
        *("", "## Limits", "", *LIMITS.splitlines(), ""),
        *bound_table(limit_names(), asdict(Limits()), words["limit"], "`--limit`"),
        *("", "## Timeouts", "", *TIMEOUTS.splitlines(), ""),
        *bound_table(timeout_names(), asdict(Deadlines()), words["timeout"], "`--timeout`"),
        *("", "## Keys of the file alone", "", *FILE_KEYS.splitlines()),
        *file_tables(),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
