"""The Dockerfile of `examples/`, really built and run: `python -m tests.docker`, as root.

It needs Debian's `docker.io`, and `debootstrap` where no registry of images is reached. The daemon
is its own, with a socket and folders of its own, and it makes no bridge and no firewall rules; so
it stands beside another one without touching it. The container has no network but its loopback:
the upstream and the client run inside of it.

    --base IMAGE      build upon this image instead of one that debootstrap makes
    --rootfs FOLDER   or upon this folder, which debootstrap has made before
    --plain           leave the compiler out: some minutes less

It takes minutes, so neither `make check` nor CI runs it; test_container.py has what needs no daemon.
Exit code 0: the image does all that is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator

import trustme

ROOT = pathlib.Path(__file__).parents[1]
PATIENCE = 60  # seconds for the daemon, or for the container, to do what is waited for
PACKAGES = "python3,python3-venv,python3-dev,ca-certificates"
# By these pip inside of the base image reaches the package index as pip on this machine does.
OURS = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
NAME = "trial"

CLIENT = """
import http.client, ssl
plain = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
plain.request("GET", "/", headers={"Host": "sso.example.com"})
moved = plain.getresponse()
secure = http.client.HTTPSConnection("127.0.0.1", 8443, timeout=10,
    context=ssl.create_default_context(cafile="/certs/ca.pem"))
secure.request("GET", "/opt/")
got = secure.getresponse()
print(moved.status, moved.getheader("Location"), got.status,
    got.getheader("Strict-Transport-Security"), len(got.read()) > 0)
"""
COMPILED = """
import pathlib, rawproxy
print(sum(1 for _ in pathlib.Path(rawproxy.__file__).parent.rglob("*.so")))
"""


class Daemon:
    """A dockerd of our own. `run` raises `CalledProcessError`."""

    def __init__(self, folder: pathlib.Path, driver: str) -> None:
        self.folder = folder
        self.socket = f"unix://{folder}/socket"
        command = [
            *["/usr/sbin/dockerd", "--host", self.socket, "--storage-driver", driver],
            *["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"],
            *["--pidfile", f"{folder}/pid", "--bridge=none"],
            *["--iptables=false", "--ip6tables=false"],
        ]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def run(self, *words: str, quiet: bool = True) -> str:
        command = ["docker", "--host", self.socket, *words]
        # Without BuildKit, which some clients know by a plug-in alone.
        environment = os.environ | {"DOCKER_BUILDKIT": "0"}
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if quiet else None,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"docker {words[0]} failed:\n{done.stdout[-4000:]}")
        return done.stdout.strip()

    def ready(self) -> bool:
        """Whether it came up."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            command = ["docker", "--host", self.socket, "version"]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


@contextlib.contextmanager
def daemon() -> Iterator[Daemon]:
    """One that runs, with the first way of storing layers that this machine can do."""
    for driver in ("overlay2", "vfs"):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            one = Daemon(pathlib.Path(folder), driver)
            try:
                if one.ready():
                    print(f"daemon: {driver}", flush=True)
                    yield one
                    return
            finally:
                one.stop()
                # What it mounted for network namespaces would keep the folder.
                for mount in pathlib.Path(folder, "exec/netns").glob("*"):
                    subprocess.run(["umount", str(mount)], capture_output=True, check=False)
    raise SystemExit("dockerd does not start here; are you root?")


def base_image(docker: Daemon, rootfs: str | None) -> str:
    """An image of this machine's own Debian, made by debootstrap."""
    with tempfile.TemporaryDirectory() as folder:
        if rootfs is None:
            rootfs = f"{folder}/root"
            suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, rootfs]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        for path in OURS:
            if os.path.exists(path):
                shutil.copy(path, rootfs + path)
        archive = f"{folder}/root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(rootfs, ".")
        docker.run("import", archive, "base")
    return "base"


def until(question: Callable[[], bool]) -> float:
    """Ask until it is so; the seconds that it took."""
    began = time.monotonic()
    while not question():
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"not within {PATIENCE} s: {question.__doc__}")
        time.sleep(0.5)
    return time.monotonic() - began


def check(what: str, seen: str, good: bool) -> None:
    """A line of the report. Ends the trial where it is not as it should be."""
    print(f"{'ok  ' if good else 'BAD '} {what}: {seen}", flush=True)
    if not good:
        sys.exit(1)


def certificates(folder: str) -> None:
    """A pair for the proxy, and the authority that the client believes."""
    authority = trustme.CA()
    leaf = authority.issue_cert("sso.example.com", "127.0.0.1")
    authority.cert_pem.write_to_path(f"{folder}/ca.pem")
    leaf.private_key_pem.write_to_path(f"{folder}/privkey.pem")
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(f"{folder}/fullchain.pem", append=True)
    os.chmod(folder, 0o755)


def trial(docker: Daemon, folder: str, *, plain: bool) -> None:
    """All that the image promises."""
    certificates(folder)
    files = docker.run("run", "--rm", "--network=none", "--entrypoint=python", "i", "-c", COMPILED)
    check("compiled modules", files, (int(files) == 0) == plain)
    docker.run(
        *["run", "--detach", "--name", NAME, "--network=none", "--read-only", "--cap-drop=ALL"],
        *["--security-opt=no-new-privileges", f"--volume={folder}:/certs:ro", "i"],
        *["--upstream", "http://127.0.0.1:8000"],
        *["--cert", "/certs/fullchain.pem", "--key", "/certs/privkey.pem"],
    )
    docker.run("exec", "--detach", NAME, "python3", "-m", "http.server", "8000", "--directory=/")

    def ready() -> bool:
        """the proxy serves"""
        return "rawproxy ready" in docker.run("logs", NAME)

    until(ready)
    user = docker.run("exec", NAME, "id", "-u")
    check("user", user, user == "10001")
    seen = docker.run("exec", NAME, "python3", "-c", CLIENT)
    wanted = "301 https://sso.example.com/ 200 max-age=63072000 True"
    check("plain, then https", seen, seen == wanted)

    def health() -> str:
        return json.loads(docker.run("inspect", "--format={{json .State.Health.Status}}", NAME))

    def healthy() -> bool:
        """the health check passes"""
        return health() == "healthy"

    seconds = until(healthy)
    check("health", f"{health()} after {seconds:.0f} s", True)
    docker.run("kill", "--signal=HUP", NAME)

    def reloaded() -> bool:
        """SIGHUP brings new workers"""
        return "reloaded: 1 worker" in docker.run("logs", NAME)

    until(reloaded)
    seen = docker.run("exec", NAME, "python3", "-c", CLIENT)
    check("after a reload", seen, seen == wanted)
    began = time.monotonic()
    docker.run("stop", "--time=45", NAME)
    code = docker.run("inspect", "--format={{.State.ExitCode}}", NAME)
    check("stop", f"exit code {code} after {time.monotonic() - began:.1f} s", code == "0")
    docker.run("rm", NAME)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base")
    parser.add_argument("--rootfs")
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    for program in ("docker", "/usr/sbin/dockerd", *(() if options.base else ("debootstrap",))):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            sys.exit(f"{program} is missing: apt install docker.io debootstrap")
    with daemon() as docker:
        base = options.base or base_image(docker, options.rootfs)
        began = time.monotonic()
        docker.run(
            *["build", "--network=host", "--tag=i", f"--build-arg=BASE={base}"],
            *[f"--build-arg=COMPILE={'' if options.plain else '1'}"],
            *["--file", f"{ROOT}/examples/docker/Dockerfile", str(ROOT)],
        )
        size = int(docker.run("inspect", "--format={{.Size}}", "i"))
        before = int(docker.run("inspect", "--format={{.Size}}", base))
        check(
            "built",
            f"in {time.monotonic() - began:.0f} s, {(size - before) / 1e6:.0f} MB more than its base",
            True,
        )
        with tempfile.TemporaryDirectory() as folder:
            trial(docker, folder, plain=options.plain)


if __name__ == "__main__":
    main()
