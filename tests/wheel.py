"""`python -m tests.wheel`: what `make wheel` has put into dist/, installed as a user would.

    compiled    in a new environment without a compiler: pip install, --version, the demo over https,
                every module of setup.py's HOT native, and PCRE2 from inside of the wheel
    plain       the same, but nothing native
    sources     a wheel can be made of them

The environments are folders that are removed at the end. PATH holds nothing but the environment's
own programs, so that no compiler is found; dependencies come from the package index. It needs
nothing but Python itself. Exit code 0: all that is printed is so.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import http.client
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
PATIENCE = 30  # seconds for the demo to start, to answer and to stop
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
FILES = """
import importlib, sys
for name in sys.argv[1:]:
    print(name, importlib.import_module(name).__file__)
"""


class WheelError(Exception):
    """Something is not as it should be."""


def check(what: str, seen: object, good: bool) -> None:
    """A line of the report; the end where it is not so. Raises `WheelError`."""
    print(f"{'ok  ' if good else 'BAD '} {what}: {seen}", flush=True)
    if not good:
        raise WheelError(what)


def found(dist: pathlib.Path, pattern: str) -> pathlib.Path:
    """The one file of that name. Raises `WheelError`."""
    files = sorted(dist.glob(pattern))
    if len(files) != 1:
        raise WheelError(f"{len(files)} files are {dist}/{pattern}: type make wheel")
    return files[0]


def hot_modules(setup: str) -> list[str]:
    """What a setup.py compiles, by name."""
    for node in ast.parse(setup).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "HOT":
            rooms = ast.literal_eval(node.value)
            return [
                f"rawproxy.{room}.{name}".replace("/", ".")
                for room, names in rooms.items()
                for name in names.split()
            ]
    raise WheelError("setup.py has no HOT")


def hot_of(dist: pathlib.Path) -> list[str]:
    """The same of the sources that the wheels beside them were made of."""
    with tarfile.open(found(dist, "rawproxy-*.tar.gz")) as sdist:
        name = next(name for name in sdist.getnames() if re.fullmatch(r"[^/]+/setup\.py", name))
        file = sdist.extractfile(name)
        assert file is not None
        return hot_modules(file.read().decode())


class Empty:
    """A new environment, and nothing beside it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.bin = folder / "bin"
        self.folder = folder
        # As Python was before any environment: a new one is made of that.
        base = pathlib.Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
        python = str(base) if base.exists() else sys.executable
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        keep = ("HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name in keep or name.startswith("PIP_") or name.lower().endswith("_proxy")
        } | {"PATH": str(self.bin)}
        for program in ("cc", "gcc", "clang", "c++", "pkg-config"):
            if shutil.which(program, path=str(self.bin)):
                raise WheelError(f"{program} is in the empty environment")

    def run(self, *command: str) -> str:
        """What it prints. Raises `WheelError` with all of it."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise WheelError(f"{' '.join(command)}\n{done.stdout[-4000:]}")
        return done.stdout

    def install(self, what: pathlib.Path) -> None:
        self.run("pip", "install", "--quiet", "--disable-pip-version-check", str(what))
        check("pip install", what.name, True)

    @contextlib.contextmanager
    def demo(self) -> Iterator[tuple[int, int]]:
        """`rawproxy demo` on a free port: its process id and that port."""
        with socket.create_server(("127.0.0.1", 0)) as one:
            upstream = one.getsockname()[1]
        command = [str(self.bin / "rawproxy"), "demo", "--http", "127.0.0.1:0"]
        command += ["--https", "127.0.0.1:0", "--demo-upstream", f"127.0.0.1:{upstream}"]
        process = subprocess.Popen(
            [*command, "--access-log", "off"],
            env=self.environment,
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        try:
            yield process.pid, started(process)
            process.send_signal(signal.SIGTERM)
            check("it stops", f"exit code {process.wait(PATIENCE)}", process.returncode == 0)
        finally:
            late.cancel()
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def started(process: subprocess.Popen[str]) -> int:
    """The port of its https listener, once it is ready. Raises `WheelError`."""
    port, said = 0, []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        listening = re.search(r"listening on https://127\.0\.0\.1:(\d+)", line)
        port = int(listening[1]) if listening else port
        if "rawproxy ready" in line and port:
            return port
    raise WheelError("the demo did not start:\n" + "".join(said))


def asked(port: int) -> tuple[int, str | None, str]:
    """The demo's page over https: status, HSTS, the page."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is its own authority
    client = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    with contextlib.closing(client):
        client.request("GET", "/")
        answer = client.getresponse()
        hsts = answer.getheader("Strict-Transport-Security")
        return answer.status, hsts, answer.read().decode()


def main_job(empty: Empty, *, bundled: bool) -> None:
    """The demo answers over https, with what the upstream saw in its page."""
    with empty.demo() as (pid, port):
        status, hsts, page = asked(port)
        good = status == 200 and bool(hsts) and '"X-Forwarded-Proto", "https"' in page
        check("demo over https", f"{status}, HSTS {hsts}, {len(page)} characters", good)
        maps = pathlib.Path(f"/proc/{pid}/maps")
        if maps.exists():
            loaded = {line.split()[-1] for line in maps.read_text().splitlines()}
            used = [path for path in loaded if "libpcre2-8" in path]
            inside = bool(used) and all("/rawproxy.libs/" in path for path in used)
            check(
                "PCRE2 of the wheel",
                [pathlib.Path(path).name for path in used],
                inside if bundled else not used,
            )


def version(empty: Empty, build: str, engine: str) -> None:
    told = empty.run("rawproxy", "--version").strip()
    wanted = rf"rawproxy \S+ \({build}, heads read by {engine}, "
    wanted += rf"Python {re.escape(platform.python_version())}, OpenSSL \S+, uvloop \S+\)"
    check("--version", told, re.fullmatch(wanted, told) is not None)


def native(empty: Empty, modules: list[str]) -> dict[str, bool]:
    """Of each module whether it is machine code where it was installed."""
    lines = empty.run("python", "-c", FILES, *modules).splitlines()
    inside = all(str(empty.folder) in line for line in lines)
    check("imported from the environment", f"{len(lines)} modules", inside)
    return {name: path.endswith(".so") for name, path in map(str.split, lines)}


def compiled(dist: pathlib.Path, folder: pathlib.Path) -> None:
    wheel = found(dist, f"rawproxy-*-{TAG}-{TAG}-*.whl")
    check("tag", wheel.name, "manylinux" in wheel.name or "musllinux" in wheel.name)
    empty = Empty(folder)
    empty.install(wheel)
    version(empty, "compiled", r"PCRE2 10\.\d+")
    modules = native(empty, hot_of(dist))
    slow = [name for name, is_native in modules.items() if not is_native]
    check("native modules", slow or f"all {len(modules)}", not slow)
    main_job(empty, bundled=True)


def plain(dist: pathlib.Path, folder: pathlib.Path) -> None:
    empty = Empty(folder)
    empty.install(found(dist, "rawproxy-*-py3-none-any.whl"))
    version(empty, "plain", "re")
    modules = native(empty, hot_of(dist))
    check("native modules", "none", not any(modules.values()))
    main_job(empty, bundled=False)


def sources(dist: pathlib.Path, folder: pathlib.Path) -> None:
    sdist = found(dist, "rawproxy-*.tar.gz")
    empty = Empty(folder)
    empty.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder / "w"), str(sdist))
    made = [path.name for path in (folder / "w").iterdir()]
    check("a wheel of the sources", made, [name[-17:] for name in made] == ["-py3-none-any.whl"])


def main() -> None:
    """Each of the three; exit code 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dist", type=pathlib.Path, default=ROOT / "dist")
    options = parser.parse_args()
    try:
        for trial in (compiled, plain, sources):
            print(f"── {trial.__name__}", flush=True)
            with tempfile.TemporaryDirectory(prefix="rawproxy-wheel-") as folder:
                trial(options.dist.absolute(), pathlib.Path(folder).resolve() / "venv")
    except WheelError as error:
        sys.exit(f"BAD  {error}")


if __name__ == "__main__":
    main()
