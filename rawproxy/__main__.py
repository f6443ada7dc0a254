"""`rawproxy` and `python -m rawproxy`. A master's children are the same command once more.

OpenSSL reads its configuration once, when it is first used, and before Python 3.15 there is no
other way to tell it which key exchange groups to use. So this module never imports `ssl` before it
has named the file with the groups. There is one file for OpenSSL 3.5 and later, and one for older
ones. An OPENSSL_CONF of the admin's is respected. Invariant: from `main` until the event loop
handles signals, SIGINT ends the process at once and without a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawproxy.config.reading import Reading


HYBRID = (3, 5)  # the OpenSSL that knows X25519MLKEM768


def main() -> None:
    """Run the command line."""
    # Until the loop takes SIGINT over, let it end the process as SIGTERM does. Python's own handler
    # would raise in the middle of an import, and asyncio's would wait for a start that hangs.
    # Ignored (nohup, `&` in a script) it stays.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    tell_openssl()
    child = os.environ.pop("RAWPROXY_CHILD", "")
    if child:
        from rawproxy.process.child_main import main as work

        sys.exit(work(int(child), reread))
    from rawproxy.cli import main as command

    command()


def tell_openssl() -> None:
    """Name the file with the groups. If OpenSSL is in use already, start the process anew."""
    used = "_ssl" in sys.modules or "_hashlib" in sys.modules
    # The version is no part of what Python promises there, but `ssl` would read the configuration.
    import _ssl

    folder = os.path.dirname(os.path.abspath(__file__))
    given = os.environ.get("OPENSSL_CONF")
    if given is not None and os.path.dirname(given) != folder:
        return  # the admin's
    name = "openssl-3.5.cnf" if _ssl.OPENSSL_VERSION_INFO >= HYBRID else "openssl.cnf"
    conf = os.path.join(folder, name)
    if given != conf:
        os.environ["OPENSSL_CONF"] = conf
        if used:
            os.execv(sys.executable, sys.orig_argv)


def reread(arguments: list[str]) -> Reading:
    """Read the options and the file of `rawproxy ARGUMENTS` anew, with the code as it is now."""
    from rawproxy.cli import read_again as read

    return read(arguments)


if __name__ == "__main__":
    main()
