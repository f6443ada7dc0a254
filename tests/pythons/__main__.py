"""`python -m tests.pythons test | again | wheels`: see `make test-pythons` and `make release`.

    test      tests, compiled build and demo with each Python; writes tests/PYTHONS.md
    again     only the files of the tests that failed
    wheels    a compiled wheel of each Python, the plain wheel and the sources, into dist/

Pythons are those of PATH and of pyenv, those given by --python, and where this is root and has
debootstrap those of Debian. They take turns. Exit code 1: not everything was as it should be.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys

from tests.debian import ROOT, Debian
from tests.pythons import matrix, table
from tests.pythons.places import SUITES, Here, Place, Rooted, on_this_machine


def chosen(options: argparse.Namespace) -> list[Place]:
    """Every Python that is to be had, less those that nobody asked for."""
    places: list[Place] = list(on_this_machine(options.python))
    if reason := Debian.missing():
        print(f"no Python of Debian: {reason}", file=sys.stderr)
    else:
        places += [Rooted(suite) for suite in SUITES]
    if not options.only:
        return places
    names = [(place, place.project.name if isinstance(place, Here) else place.name.lower())
             for place in places]  # fmt: skip
    return [
        place
        for place, name in names
        if any(name == one or name.startswith(f"{one}.") or f" {one}" in name or f"({one})" in name
               for one in options.only)
    ]  # fmt: skip


def run_tests(places: list[Place], selection: str) -> bool:
    """Whether all was well; the page is written after each step, so that nothing gets lost."""
    good = True
    for place in places:
        known = table.read()
        result = matrix.test(
            place, selection, lambda one, known=known: table.write(table.merged(known, one))
        )
        good &= result.good()
        print(f"── {result.python}: {'good' if result.good() else 'NOT GOOD'}", flush=True)
        for line in result.failures:
            print(f"   {line}", flush=True)
    return good


def run_again(places: list[Place]) -> bool:
    """What has failed and is still known: only its files, in the place as it was left."""
    for place in places:
        known = table.read()
        with place.entered(fresh=False):
            for result in known:
                if result.where == place.name and version_in(place) in ("", result.python):
                    for build in matrix.COMMANDS:
                        matrix.once_more(place, result, build)
        table.write(known)
    return all(result.good() for result in table.read())


def version_in(place: Place) -> str:
    """Of a Python of this machine; there may be several."""
    return place.project.name if isinstance(place, Here) else ""


def gather_wheels(places: list[Place]) -> bool:
    """Of each kind one file: where two places have the same Python, the first one's."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    good = True
    for place in places:
        with place.entered():
            failed = place.run(matrix.make(place, "wheel-check"))[0]  # which makes it first
        good &= not failed
        have = {kind_of(one) for one in dist.iterdir()}
        for made in [] if failed else sorted((place.project / "dist").glob("rawproxy-*")):
            if kind_of(made) not in have:
                shutil.copyfile(made, dist / made.name)
    for file in sorted(dist.iterdir()):
        print(file.name, flush=True)
    return good


def kind_of(file: pathlib.Path) -> str:
    """ "cp311" of a wheel that Python 3.11 takes, "py3" of the plain one; "gz" of the sources."""
    return file.name.split("-")[2] if file.suffix == ".whl" else "gz"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.pythons")
    parser.add_argument("what", choices=("test", "again", "wheels", "list"))
    parser.add_argument("--python", type=pathlib.Path, action="append", default=[],
                        help="one more Python of this machine")  # fmt: skip
    parser.add_argument("--only", action="append", default=[],
                        help="3.12, trixie or testing; may be given again")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="the whole of tests/, not only "
                        + matrix.SELECTION)  # fmt: skip
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted
    places = chosen(options)
    if not places:
        sys.exit("no such Python is to be had here: python -m tests.pythons list")
    if options.what == "list":
        for place in places:
            print(place.name, place.python)
        return
    try:
        if options.what == "test":
            good = run_tests(places, "tests" if options.all else matrix.SELECTION)
        elif options.what == "again":
            good = run_again(places)
        else:
            good = gather_wheels(places)
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {' '.join(map(str, error.cmd))}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
