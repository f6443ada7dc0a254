"""What was asked for, wherever it was asked for: of it a `Config` is made, now or again.

It never reads a file: the document has been read. Invariant: two configurations of one `Reading`
differ only by their documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rawproxy.config.build import build_config
from rawproxy.config.model import Config
from rawproxy.config.sources import Rank, Settings
from rawproxy.config.toml_file import Document


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of all options with their ranks, and the file."""

    values: Mapping[str, Any]
    ranks: Mapping[str, Rank]
    document: Document | None

    def settings(self, document: Document | None = None) -> Settings:
        """Settings of their own, over another document if one is given."""
        return Settings(self.values, self.ranks, document or self.document)

    def config(self, document: Document | None = None) -> Config:
        """The configuration. Raises `ConfigError` with all mistakes."""
        return build_config(self.settings(document))
