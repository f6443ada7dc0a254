"""Which build of rawproxy this is: the text of `--version`, and what a busy plain build advises.

    compiled    the hot path is machine code (`make wheel`), and PCRE2 reads the heads
    plain       the same source, run by Python, and `re` reads the heads: about half as fast

This module never changes what a request gets. Invariant: a process gives the advice at most once,
and only after it has used `BUSY` of a core for `SPAN` seconds.
"""

from __future__ import annotations

import asyncio
import platform
import ssl
import sys
import time
from collections.abc import Callable
from importlib import metadata

from rawproxy import __version__
from rawproxy.protocol import regex
from rawproxy.proxy import exchange
from rawproxy.telemetry.error_log import log

SPAN = 10.0  # seconds: longer than a burst, or than the handshakes after a restart
BUSY = 0.25  # of a core: a proxy that has to share its core may never get more than that


def is_compiled() -> bool:
    """Whether the hot path is machine code. Either all of its modules are, or none is."""
    return not exchange.__file__.endswith(".py")


def described() -> str:
    """The line of `--version`."""
    try:
        loop = f"uvloop {metadata.version('uvloop')}"
    except metadata.PackageNotFoundError:
        loop = "asyncio's loop"
    facts = (
        "compiled" if is_compiled() else "plain",
        f"heads read by {regex.ENGINE}",
        f"Python {platform.python_version()}",
        ssl.OPENSSL_VERSION.rsplit(" ", 3)[0],  # without its date
        loop,
    )
    return f"rawproxy {__version__} ({', '.join(facts)})"


def advice() -> str:
    """What the admin of a busy plain build should know, and type."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return (
        "this is the plain build, and it has been busy: the compiled build serves small requests"
        " about twice as fast. In the sources of rawproxy type: make wheel"
        f" && {sys.executable} -m pip install --force-reinstall --no-deps"
        f" dist/rawproxy-{__version__}-{tag}-*.whl and send rawproxy SIGHUP"
    )


def watch_load(used: Callable[[], float] = time.process_time) -> Callable[[], None]:
    """Log `advice` once the process has been busy. The function returned ends the watch.

    `used` gives the processor seconds that the process has used so far.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def look(then: float, before: float) -> None:
        nonlocal timer
        now, after = loop.time(), used()
        if after - before >= BUSY * (now - then):
            log.warning("%s", advice())
            timer = None
        else:
            timer = loop.call_later(SPAN, look, now, after)

    timer = loop.call_later(SPAN, look, loop.time(), used())

    def end() -> None:
        if timer is not None:
            timer.cancel()

    return end
