"""What is allowed, works, and is still not wise: told at start, and by `rawproxy check`.

It only looks at who runs this process and at the modes of files; it changes neither. Invariant:
nothing here prevents a start.
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
    """A line for each thing."""
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
    """Whether any user can read a file: its own mode, and that of each folder above it."""
    path = os.path.realpath(path)
    try:
        if not os.stat(path).st_mode & stat.S_IROTH:
            return False
        while path != os.path.dirname(path):
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & stat.S_IXOTH:
                return False
    except OSError:
        return False  # whoever needs the file will say so
    return True
