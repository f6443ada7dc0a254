"""A Debian of its own in a folder, made by debootstrap, and the project's sources in it.

Of such a folder `tests.debian13`, `tests.pythons` and `bench.debian13` make use. It is kept between
runs: unpacking and filling it takes some minutes, and is done the first time only. It has to be
root, for debootstrap and chroot; the commands run as root there too, with the network of this
machine. Invariant: whatever `entered` has mounted is gone when it is left.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
# What the sources need there: to be installed, tested and compiled.
PACKAGES = (
    "python3", "python3-venv", "python3-dev", "gcc", "libc6-dev", "libpcre2-dev", "make",
    "ca-certificates", "curl", "openssl",
)  # fmt: skip
# What names this machine's own server of packages, and whom it trusts.
BORROWED = ("etc/resolv.conf", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")


def copy_sources(target: pathlib.Path) -> None:
    """The files of this work tree as they are now; what is the same stays as it was.

    So `make` there does again only what has to be done again.
    """
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = [name for name in told.split("\0") if name and (ROOT / name).is_file()]
    before = target / ".copied"
    for name in before.read_text().split("\n") if before.exists() else []:
        if name not in names:
            (target / name).unlink(missing_ok=True)
    for name in names:
        copy = target / name
        if not copy.exists() or not filecmp.cmp(ROOT / name, copy, shallow=False):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy)
            shutil.copymode(ROOT / name, copy)
    before.write_text("\n".join(names))


class Debian:
    """The folder. `suite` is a name that debootstrap knows; of `testing` see `make`."""

    def __init__(
        self, folder: pathlib.Path, suite: str, packages: tuple[str, ...] = PACKAGES
    ) -> None:
        self.folder = folder.absolute()
        self.suite = suite
        self.packages = packages
        self.project = self.folder / "root" / "rawproxy"

    @staticmethod
    def missing() -> str:
        """Why there cannot be one here; nothing if there can."""
        if os.geteuid():
            return "it has to be root, for chroot"
        if shutil.which("debootstrap", path=os.environ["PATH"] + ":/usr/sbin") is None:
            return "debootstrap is missing: apt install debootstrap"
        return ""

    def make(self) -> None:
        """Unpack it, fill it, and bring the sources; what has been done is not done again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "usr/bin/apt-get").exists():
            command = ["debootstrap", "--variant=minbase", self.suite, str(self.folder)]
            subprocess.run(command, check=True)
        self._borrow()
        with self.entered():
            self._fill()
        self._borrow()  # again, as a package may bring its own
        self.project.mkdir(parents=True, exist_ok=True)
        copy_sources(self.project)

    def _borrow(self) -> None:
        for name in BORROWED:
            source, target = pathlib.Path("/", name), self.folder / name
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def _fill(self) -> None:
        words = " ".join(self.packages)
        done = self.folder / "root" / "filled"
        if done.exists() and set(self.packages) <= set(done.read_text().split()):
            return
        # A package that starts a service by itself must not: the tests start their own.
        policy = self.folder / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        # A mirror that is not of today still has the packages; their signatures are checked.
        quiet = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Check-Valid-Until=false"
        self.run(
            f"{quiet} update && {quiet} install --yes --no-install-recommends {words}", where="/"
        )
        done.write_text(words)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """With /proc, /dev/shm and the like as a process expects them; gone afterwards."""
        mounts = (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "dev/shm"), ("devpts", "dev/pts"))
        with contextlib.ExitStack() as stack:
            for kind, where in mounts:
                point = self.folder / where
                if os.path.ismount(point):
                    continue
                point.mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", "-t", kind, kind, str(point)], check=True)
                stack.callback(subprocess.run, ["umount", str(point)], check=False)
            yield

    def command(self, script: str, where: str = "") -> list[str]:
        """What runs a shell's `script` there, in the project's folder unless told `where`."""
        inside = where or f"/root/{self.project.name}"
        return ["chroot", str(self.folder), "/bin/sh", "-c", f"cd {inside} && {script}"]

    @staticmethod
    def environment() -> dict[str, str]:
        """Neither this machine's PYTHONPATH nor its folders of packages exist there."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_FIND"))}
        keep["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return keep | {"HOME": "/root", "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8"}

    def run(self, script: str, *, where: str = "", check: bool = True) -> int:
        """Run it, its output for all to see; the exit code."""
        print(f"── {script}", flush=True)
        command = self.command(script, where)
        done = subprocess.run(command, check=False, env=self.environment())
        if check and done.returncode:
            sys.exit(f"in {self.folder.name} failed: {script}")
        return done.returncode
