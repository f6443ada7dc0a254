"""What is allowed but not wise: warnings at the start, and of `rawproxy check`.

This module looks only at who runs the process and at the modes of files. It changes neither.
Invariant: nothing here prevents a start.
"""

from __future__ import annotations

import os
import stat

from rawproxy.config.model import Config

ROOT = (
    "this is root: whoever finds a fault in it would own the machine. With systemd type"
    " DynamicUser=yes and AmbientCapabilities=CAP_NET_BIND_SERVICE, in a container --user 65534;"
    " files of keys need to be readable for that user then (LoadCredential=)"
)


def cautions(config: Config) -> list[str]:
    """The warnings, a line each."""
    found = [ROOT] if os.geteuid() == 0 else []
    keys = [("--key", pair.key) for pair in config.certificates()]
    keys += [("--upstream-key", one.client_cert.key) for one in config.groups if one.client_cert]
    for option, path in dict.fromkeys(keys):
        if is_everybodys(path):
            found.append(
                f"{option} {path}: every user of this machine can read it; type chmod o-r {path}"
            )
    return found


def is_everybodys(path: str) -> bool:
    """Whether every user can read a file.

    Its own mode counts, and the mode of each folder above it.
    """
    path = os.path.realpath(path)
    try:
        if not os.stat(path).st_mode & stat.S_IROTH:
            return False
        while path != os.path.dirname(path):
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & stat.S_IXOTH:
                return False
    except OSError:
        return False  # those who need the file will report it
    return True
