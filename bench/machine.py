"""Facts about the machine of a result: no names, no paths, no addresses."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import ssl
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

PACKAGES = ("rawproxy", "uvloop", "h11", "aiofastnet", "picows", "aiohttp", "h2", "jh2")


def facts() -> dict[str, object]:
    """The CPU, memory, kernel and versions that matter."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release().split("-")[0],
        "system": _system(),
        "python": platform.python_version(),
        "build": python_build(),
        "openssl": ssl.OPENSSL_VERSION,
        "packages": _packages(),
    }


def python_build() -> dict[str, object]:
    """How the interpreter was compiled, as far as it says.

    A distribution may hide the flags of its two-stage build from sysconfig, as Debian does. So for
    `system` a missing flag says nothing: None.
    """
    flags = " ".join(
        str(sysconfig.get_config_var(name) or "")
        for name in ("CONFIG_ARGS", "PY_CFLAGS", "PY_CFLAGS_NODIST", "PY_LDFLAGS_NODIST")
    )
    system = Path(sys.base_prefix) == Path("/usr")
    absent = None if system else False
    levels = re.findall(r"(?<!\S)-O(?:[0-3sg]|fast)", flags)
    return {
        "origin": "the system's" if system else "not the system's",
        "compiler": platform.python_compiler(),
        "optimisation": levels[-1] if levels else "optimisation not stated",
        "pgo": True if re.search(r"--enable-optimizations|-fprofile-use", flags) else absent,
        "lto": True if re.search(r"--with-lto|-flto", flags) else absent,
    }


def steal_ticks() -> int:
    """Time that a hypervisor has taken since boot. It is shown if it grows during a run."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(first[8]) if len(first) > 8 else 0


def load_average() -> float:
    return round(os.getloadavg()[0], 2)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1].strip()
    return platform.machine()


def _system() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return platform.system()


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
