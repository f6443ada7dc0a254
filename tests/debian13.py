"""`python -m tests.debian13`: the tests on Debian 13, whose Python 3.13 and OpenSSL 3.5 are today's.

The bystander test comes first, as it is what only these versions can fail (see
`rawproxy/net/openssl/error_queue.py`); then unit and wire tests of the plain build, and with --fast the
same over the compiled one. `tests.debian` makes the folder. Exit code 1: a test failed.
"""

import argparse
import pathlib
import signal
import sys

from tests.debian import ROOT, Debian

BYSTANDERS = "tests/wire/test_bystanders.py"


def main() -> None:
    """Make, install, test."""
    parser = argparse.ArgumentParser(prog="python -m tests.debian13")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / ".debian13")
    parser.add_argument("--fast", action="store_true", help="the compiled build too")
    parser.add_argument("--bystanders", action="store_true", help="only that test")
    options = parser.parse_args()
    if reason := Debian.missing():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted
    debian = Debian(options.folder, "trixie")
    debian.make()
    builds = [
        ".venv/bin/python -m pytest -p no:cacheprovider -q {}",
        "make --silent test-fast FAST_TESTS='{}'",
    ][: 1 + options.fast]
    failed = 0
    with debian.entered():
        debian.run("python3 -c 'import ssl, sys; print(sys.version, ssl.OPENSSL_VERSION)'")
        debian.run("make --silent setup")
        suites = [BYSTANDERS] if options.bystanders else [BYSTANDERS, "tests/unit tests/wire"]
        for suite in suites:
            for build in builds:
                failed += bool(debian.run(build.format(suite), check=False))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
