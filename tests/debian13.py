"""`python -m tests.debian13`: the tests on Debian 13, whose Python 3.13 and OpenSSL 3.5 are today's.

debootstrap makes the folder, apt fills it (both only the first time), and there the project is
installed from these sources. The bystander test comes first, as it is what only these versions can
fail (see `rawproxy/net/openssl/error_queue.py`); then unit and wire tests of the plain build, and with --fast the
same over the compiled one. It has to be root, for debootstrap and chroot; the tests run as root
there too, with the network of this machine.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
SUITE = "trixie"
PACKAGES = (
    "python3", "python3-venv", "python3-dev", "gcc", "libc6-dev", "libpcre2-dev", "pkg-config",
    "make", "ca-certificates", "curl", "openssl",
)  # fmt: skip
# What names this machine's own server of packages, and whom it trusts.
BORROWED = ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt")
SOURCES = (
    "rawproxy",
    "tests",
    "bench",
    "docs",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "setup.py",
)
PYTEST = "-m pytest -p no:cacheprovider -q"
BYSTANDERS = "tests/wire/test_bystanders.py"
# As `make test-fast` leaves out.
DOUBLES = (
    "tests/property/test_exchange.py",
    "tests/property/test_groups.py",
    "tests/unit/upstream/test_connection.py",
)


class Debian:
    """The folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder.absolute()
        self.project = self.folder / "root" / "rawproxy"

    def make(self) -> None:
        """Unpack Debian, unless that has been done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "usr/bin/apt-get").exists():
            command = ["debootstrap", "--variant=minbase", SUITE, str(self.folder)]
            subprocess.run(command, check=True)

    def fill(self) -> None:
        """What the tests need of Debian's packages, unless they are there."""
        words = " ".join(PACKAGES)
        done = self.folder / "root" / "filled"
        if not done.exists() or done.read_text() != words:
            quiet = "DEBIAN_FRONTEND=noninteractive apt-get -qq"
            self.run(f"{quiet} update && {quiet} install --yes --no-install-recommends {words}")
            done.write_text(words)

    def copy(self) -> None:
        """The sources as they are here, anew each time."""
        for name in BORROWED:
            source = pathlib.Path("/", name)
            if source.exists():
                shutil.copyfile(source, self.folder / name)
        self.project.mkdir(parents=True, exist_ok=True)
        for name in SOURCES:
            target = self.project / name
            if target.is_dir():
                shutil.rmtree(target)
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "out", "reports")
                shutil.copytree(ROOT / name, target, ignore=ignored)
            else:
                shutil.copyfile(ROOT / name, target)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """With /proc, /dev/shm and the like as a process expects them; gone afterwards."""
        mounts = (("proc", "proc"), ("tmpfs", "dev/shm"), ("devpts", "dev/pts"))
        with contextlib.ExitStack() as stack:
            for kind, where in mounts:
                point = self.folder / where
                if os.path.ismount(point):
                    continue
                point.mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", "-t", kind, kind, str(point)], check=True)
                stack.callback(subprocess.run, ["umount", str(point)], check=False)
            yield

    def run(self, command: str, *, check: bool = True) -> int:
        """A shell command in the project's folder there."""
        print(f"── {command}", flush=True)
        script = f"cd /root/{self.project.name} && {command}"
        # Neither this machine's PYTHONPATH nor its package folders exist there.
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_FIND"))}
        keep |= {"HOME": "/root", "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8"}
        keep["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        where = ["chroot", str(self.folder), "/bin/sh", "-c", script]
        return subprocess.run(where, check=check, env=keep).returncode


def main() -> None:
    """Make, install, test; exit code 1 where a test failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.debian13")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / ".debian13")
    parser.add_argument("--fast", action="store_true", help="the compiled build too")
    parser.add_argument("--bystanders", action="store_true", help="only that test")
    options = parser.parse_args()
    if os.geteuid() or shutil.which("debootstrap") is None:
        sys.exit("it has to be root, and the Debian package debootstrap has to be there")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted
    debian = Debian(options.folder)
    debian.make()
    debian.copy()
    builds = [".venv/bin/python", ".venv-fast/bin/python"][: 1 + options.fast]
    failed = 0
    with debian.entered():
        debian.fill()
        debian.copy()  # again, as a package may bring its own
        debian.run("python3 -c 'import ssl, sys; print(sys.version, ssl.OPENSSL_VERSION)'")
        debian.run("make --silent setup")
        if options.fast:
            debian.run("make --silent fast")
            debian.run(
                '.venv-fast/bin/python -m pip install --quiet "$(echo build/fast/*.whl)[test]"'
            )
            # Where the plain modules are not in the way.
            debian.run("rm -rf build/test && mkdir -p build/test")
            debian.run("cp -r tests bench docs pyproject.toml README.md build/test")
        suites = [f"{python} {PYTEST} {BYSTANDERS}" for python in builds]
        if not options.bystanders:
            suites += [f"{python} {PYTEST} tests/unit tests/wire" for python in builds]
        for suite in suites:
            if "fast" in suite:
                left_out = "".join(f" --ignore {name}" for name in DOUBLES)
                # mypyc's coroutines throw in a way that Python 3.12 and later warn of.
                quiet = "-W ignore::DeprecationWarning"
                suite = f"cd build/test && ../../{suite} {quiet}{left_out}"
            failed += bool(debian.run(suite, check=False))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
