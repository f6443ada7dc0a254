"""Which sources a configuration file names under `[discovery]`.

It never asks one of them. Invariant: their order is that of this module, whatever the file's is.
"""

from __future__ import annotations

import os
import re
from typing import Final

from rawproxy.config.model import Address
from rawproxy.config.toml_file import Document
from rawproxy.discovery.docker import DockerSource
from rawproxy.discovery.folder import FolderSource
from rawproxy.discovery.source import FragmentSource
from rawproxy.errors import ConfigError

_ADDRESS: Final = re.compile(
    r"unix:(/.{1,106})|http://([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})/?"
).fullmatch


def sources_of(document: Document) -> list[FragmentSource]:
    """The sources that `document` names."""
    table = document.data.get("discovery", {})
    found: list[FragmentSource] = []
    if "folder" in table:
        base = os.path.dirname(os.path.abspath(document.path_of(("discovery", "folder"))))
        found.append(FolderSource(os.path.join(base, table["folder"])))
    if "docker" in table:
        shown = table["docker"]
        address = docker_address(f"{document.path}: [discovery] docker {shown}", shown)
        found.append(DockerSource(shown, address, table.get("docker-network", "")))
    return found


def docker_address(option: str, text: str) -> Address:
    """Where an Engine is: unix:/path, or http://host:port. Raises `ConfigError`."""
    one = _ADDRESS(text)
    if one is None:
        raise ConfigError(f"{option}: type unix:/var/run/docker.sock, or http://HOST:2375")
    if one[1]:
        return Address(path=one[1])
    return Address(one[2].strip("[]"), int(one[3]))
