"""The proxies, each set up for the same work, and in the open.

Twice each: `passive`, by what a proxy can learn from the requests themselves, and `active`, with
a probe a second besides. HAProxy learns from requests only where it probes as well, so its passive
row probes the port alone. Everybody may try another upstream where a connection cannot be made,
gives a connection one second and a response two.
"""

import pathlib
import sys
from collections.abc import Sequence

VARIANTS = ("passive", "active")


def rawproxy(folder: pathlib.Path, port: int, upstreams: Sequence[int], variant: str) -> list[str]:
    active = ""
    if variant == "active":
        active = 'active = { path = "/health", interval = 1, timeout = 1, rise = 2, fall = 2 }\n'
    urls = ", ".join(f'"http://127.0.0.1:{one}"' for one in upstreams)
    path = folder / "rawproxy.toml"
    path.write_text(
        f'http = ["127.0.0.1:{port}"]\naccess-log = "off"\n'
        "[timeouts]\nconnect = 1\nresponse-head = 2\n"
        f"[group.default]\nupstream = [{urls}]\n{active}"
    )
    return [sys.executable, "-m", "rawproxy", "--config", str(path)]


def haproxy(folder: pathlib.Path, port: int, upstreams: Sequence[int], variant: str) -> list[str]:
    probe = "  option httpchk GET /health\n" if variant == "active" else ""
    servers = "".join(
        f"  server s{n} 127.0.0.1:{one} check inter 1s rise 2 fall 2"
        " observe layer7 error-limit 3 on-error mark-down\n"
        for n, one in enumerate(upstreams)
    )
    path = folder / "haproxy.cfg"
    path.write_text(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n"
        "  timeout server 2s\n  retries 3\n  option redispatch 1\n  retry-on conn-failure\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n"
        f"backend b\n  balance roundrobin\n{probe}{servers}"
    )
    return ["haproxy", "-db", "-f", str(path)]


def caddy(folder: pathlib.Path, port: int, upstreams: Sequence[int], variant: str) -> list[str]:
    probe = ""
    if variant == "active":
        probe = "    health_uri /health\n    health_interval 1s\n    health_timeout 1s\n"
    urls = " ".join(f"127.0.0.1:{one}" for one in upstreams)
    path = folder / "Caddyfile"
    path.write_text(
        "{\n  admin off\n  auto_https off\n}\n"
        f"http://:{port} {{\n  bind 127.0.0.1\n  reverse_proxy {urls} {{\n"
        "    lb_policy round_robin\n    lb_try_duration 2s\n    fail_duration 5s\n"
        f"    max_fails 3\n    unhealthy_status 502 503 504\n{probe}"
        "    transport http {\n      dial_timeout 1s\n      response_header_timeout 2s\n    }\n"
        "  }\n}\n"
    )
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


PROXIES = {"rawproxy": rawproxy, "HAProxy": haproxy, "Caddy": caddy}
