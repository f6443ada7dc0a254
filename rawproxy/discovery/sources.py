"""Which sources a configuration file names under `[discovery]`.

It never asks one of them. Invariant: their order is that of this module, whatever the file's is.
"""

from __future__ import annotations

import os

from rawproxy.config.toml_file import Document
from rawproxy.discovery.folder import FolderSource
from rawproxy.discovery.source import FragmentSource


def sources_of(document: Document) -> list[FragmentSource]:
    """The sources that `document` names."""
    table = document.data.get("discovery", {})
    found: list[FragmentSource] = []
    if "folder" in table:
        base = os.path.dirname(os.path.abspath(document.path_of(("discovery", "folder"))))
        found.append(FolderSource(os.path.join(base, table["folder"])))
    return found
