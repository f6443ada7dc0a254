"""Thousands of servers: what each costs does not depend on how many there are.

Work is counted in lines that Python executes, not in seconds: a machine that is busy counts the
same. How long it takes stands in `bench micro` and in docs/performance.md.
"""

import sys

import pytest
import re2

from rawproxy.cli import reread
from rawproxy.config import path_regex as module
from rawproxy.nginx.translation import served
from rawproxy.routing.site_routes import RouteTargets
from tests.builds import plain_only

SERVER = """server {{
    listen 8080;
    server_name s{0}.test www.s{0}.test;
    add_header X-Server {0};
    location / {{ proxy_pass http://10.0.{1}.{2}:80; proxy_set_header Host $host; }}
    location /api/ {{ proxy_pass http://up{0}/v1/; }}
    location ~ \\.php$ {{ return 403; }}
}}
upstream up{0} {{ server 10.1.{1}.{2}:80; }}
"""


def lines_of(work) -> int:
    """How many lines Python executes; the rounds of a loop within one line count too."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.fixture
def site(tmp_path):
    def write(servers):
        path = tmp_path / f"{servers}.conf"
        path.write_text("".join(SERVER.format(n, n // 200, n % 200 + 1) for n in range(servers)))
        return str(path)

    return write


def test_a_start_costs_each_server_the_same(site, tmp_path):
    """No more than some thousands of lines."""

    def start(path, option):
        config = reread([option, path])
        assert len(RouteTargets(config).all) >= 4 * (len(config.sites) - 1)

    spent: dict[str, list[int]] = {"--nginx": [], "--config": []}
    start(site(1), "--nginx")  # what is done once is done
    for servers in (10, 40, 80):
        conf = site(servers)
        toml = tmp_path / f"{servers}.toml"
        toml.write_text(served(conf).text)
        spent["--nginx"].append(lines_of(lambda conf=conf: start(conf, "--nginx")))
        spent["--config"].append(lines_of(lambda toml=toml: start(str(toml), "--config")))
    for few, some, many in spent.values():
        assert many - some < 1.1 * (some - few) * 40 / 30, (few, some, many)
        assert (many - some) / 40 < 20_000


def test_a_pattern_that_many_servers_have_is_compiled_once(site, monkeypatch):
    made = []

    class Counting:
        """RE2, and how often it compiles."""

        def __getattr__(self, name):
            return getattr(re2, name)

        def compile(self, *args):
            made.append(args[0])
            return re2.compile(*args)

    module._compiled.cache_clear()
    monkeypatch.setattr(module, "re2", Counting())
    RouteTargets(reread(["--nginx", site(30)]))
    assert made == [rb"\.php$"]


@plain_only("compiled code executes no lines that can be counted")
def test_a_lookup_costs_the_same_among_any_number(site):
    def looked_up(servers, host, target):
        config = reread(["--nginx", site(servers)])
        sites = RouteTargets(config).for_listener(config.http[0])
        return lines_of(lambda: sites.find(host, target))

    for target in (b"/", b"/api/x", b"/x.php"):
        assert looked_up(3, b"s1.test", target) == looked_up(60, b"s1.test", target) <= 50
