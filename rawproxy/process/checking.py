"""What `rawproxy check` looks at beside the configuration itself: certificates and upstreams.

This module never serves. Invariant: everything is looked at, whatever is wrong with something else.
"""

from __future__ import annotations

from collections.abc import Callable

from rawproxy.config.capabilities import modules
from rawproxy.config.model import Config
from rawproxy.config.options import CAPABILITIES
from rawproxy.config.sources import Settings
from rawproxy.config.toml_file import Mistake
from rawproxy.errors import ConfigError
from rawproxy.process.worker import probe
from rawproxy.tls.server import certificate_warnings, mistakes, server_context


def looked_at(chosen: Settings, config: Config, say: Callable[[str], object]) -> list[Mistake]:
    """Everything that is wrong. `say` is called with what is good, and with warnings."""
    wrong = [chosen.say(chosen.keys["cert", pair], str(error)) for pair, error in mistakes(config)]
    if not wrong:
        try:
            for line in _certificates(config):
                say(line)
        except ConfigError as error:
            wrong += [(0, message) for message in error.messages]
    for group, upstream, found in probe(config):
        if isinstance(found, list):
            say("\n".join(found))
        elif isinstance(found, ConfigError):  # of what its group is to be trusted by
            option = str(found).partition(" ")[0].removeprefix("--")
            wrong.append(chosen.say(("group", group.name, option), str(found)))
        else:
            key = chosen.keys[group.name, upstream]
            wrong.append(chosen.say(key, f"--upstream {found.detail}"))
    return wrong


def _certificates(config: Config) -> list[str]:
    """What is to be said of them. Raises `ConfigError`."""
    lines = []
    if config.https:
        server_context(config)
        if config.certificates() or config.self_signed:
            given = len(config.certificates()) or "self-signed"
            lines.append(f"certificates: {given}, usable")
    for room in modules(CAPABILITIES, "checking"):
        lines += room.look(config)
    return lines + [f"warning: {text}" for text in certificate_warnings(config)]
