"""What the room's keys mean for the configuration: whether somebody has to watch its sources.

It never opens a source. Invariant: sites, groups and options are as they were.
"""

from __future__ import annotations

from dataclasses import replace

from rawproxy.config.model import Config
from rawproxy.config.sources import Settings


def amend(settings: Settings, config: Config) -> Config:
    """The configuration, `has_sources` if the file names a source."""
    return replace(config, has_sources=bool(settings.data.get("discovery")))
