"""A file into ours: what is refused is refused with file and line, and nothing is left unsaid."""

import tomllib

import pytest
from click.testing import CliRunner

from docs import write_from_nginx
from rawproxy.cli import rawproxy, reread
from rawproxy.errors import ConfigError
from rawproxy.nginx.translation import toml_of, translated
from rawproxy.nginx.words import WORDS
from tests.nginx.stand import CONFIGS

SERVER = "server {{ listen 8080; server_name a.test; {} }}\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "site.conf"
        path.write_text(text)
        return str(path)

    return write


def proxied(more: str) -> str:
    return SERVER.format(f"location / {{ proxy_pass http://127.0.0.1:1; {more} }}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SERVER.format("return 444;"), "a connection is not cut"),
        (SERVER.format("location ~ ^/(?!a) { return 200; }"), "looking ahead"),
        (SERVER.format("location / { try_files $uri @app; }"), "no files are served here"),
        (SERVER.format("nonsense on;"), "not known here"),
        (SERVER.format("location /a/ { proxy_pass http://u:1/b; }"), "without the slash between"),
        (SERVER.format("location / { if ($arg_x) { return 403; } }"), "if within a location"),
        (SERVER.format("if ($http_user_agent ~ bot) { return 403; }"), "$host = NAME"),
        (proxied("proxy_set_header X-Up $upstream_addr;"), "$upstream_addr is not known here"),
        (proxied("proxy_set_body x;"), "the body passes as it came"),
        (proxied("proxy_redirect ~^http://(.*)$ http://$1;"), "only plain beginnings"),
        (proxied("auth_request /auth;"), "docs/access.md"),
        ("map $uri $x { default 1; }\n" + proxied(""), "$x differs from request to request"),
        (SERVER.format("location / { proxy_pass http://$http_x; }"), "differs from request"),
        ("upstream u { server a:1; hash $uri; }\nserver { location / { proxy_pass http://u; } }", "of $remote_addr alone"),
        ("upstream u { server a:1 down; }\nserver { location / { proxy_pass http://u; } }", "is up"),
        ("server { server_name ~^x$; }", "type the names"),
        ("server { listen 1 default_server; }\nserver { listen 1 default_server; }", "a second default_server"),
        ("server { real_ip_header X-Real-IP; }", "only X-Forwarded-For"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_and_what_to_type(written, text, why):
    path = written(text)
    with pytest.raises(ConfigError) as caught:
        reread(["--nginx", path])
    said = str(caught.value)
    assert why in said and path in said
    assert said.startswith(f"{path}:") or " as TOML:" in said


def test_what_is_no_nginx_file(written, tmp_path):
    path = written("server { listen 80;\n proxy_pass x\n}\n}")
    with pytest.raises(ConfigError, match=rf"^{path}:4: unexpected"):
        translated(path)
    with pytest.raises(ConfigError, match="No such file"):
        translated(str(tmp_path / "nothing.conf"))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.conf")), ids=lambda path: path.stem)
def test_every_directive_has_its_word(path):
    made = translated(str(path))
    assert not made.refused
    lines = {one.place for one in made.remarks}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text.endswith(";") and "''" not in text and "default " not in text:
            assert f"{path}:{number}" in lines, line
    assert tomllib.loads(made.text)["site"]


def test_it_becomes_a_configuration(written):
    config = reread(
        ["--nginx", written(proxied("proxy_read_timeout 5s; client_max_body_size 2m;"))]
    )
    named, unnamed = config.sites
    assert (named.names, unnamed.names) == (("a.test",), ())
    route = named.routes[0]
    assert (route.limits.body, route.deadlines.response_head) == (2 << 20, 5)
    assert route.request_headers.set == (("Host", "127.0.0.1:1"),)
    assert not config.redirect and not config.https


def test_the_parameters_of_an_upstreams_servers(written):
    block = "upstream u {{ server a:1 {0}; server b:1 {1}; keepalive 9; }}\n"
    use = "server { listen 8080; location / { proxy_pass http://u; } }"
    same = "max_conns=5 slow_start=30s max_fails=2"
    group = reread(["--nginx", written(block.format(same, same + " weight=3 backup") + use)])
    (found,) = group.groups
    assert (found.max_upstream, found.keepalive, found.slow_start) == (5, 5, 30)
    assert [(one.weight, one.backup) for one in found.upstreams] == [(1, False), (3, True)]
    for name in ("max_conns=5", "slow_start=3s", "max_fails=2", "route=a"):
        with pytest.raises(ConfigError, match=name.partition("=")[0]):
            toml_of(written(block.format(name, "") + use))


def test_one_resolver_for_the_whole_file(written):
    path = written("resolver 127.0.0.11 valid=30s;\n" + proxied("resolver 127.0.0.11;"))
    assert reread(["--nginx", path]).resolver.host == "127.0.0.11"
    path = written(proxied("resolver 127.0.0.11;") + "resolver 127.0.0.53;")
    with pytest.raises(ConfigError, match=r":2: refused: resolver .*: one resolver"):
        toml_of(path)


def test_options_beside_it(written):
    path = written(proxied(""))
    assert reread(["--nginx", path, "--workers", "2"]).workers == 2
    with pytest.raises(ConfigError, match=f"--http stands in {path} already"):
        reread(["--nginx", path, "--http", ":8081"])
    with pytest.raises(ConfigError, match="--nginx and --config exclude each other"):
        reread(["--nginx", path, "--config", path])


def test_the_command_writes_the_file_and_says_the_rest(written, tmp_path):
    path, out = written(proxied("proxy_http_version 1.1;")), tmp_path / "out.toml"
    done = CliRunner().invoke(rawproxy, ["import-nginx", path, "-o", str(out)])
    assert done.exit_code == 0
    assert f"{path}:1: different on purpose: proxy_http_version 1.1: always 1.1" in done.stderr
    assert tomllib.loads(out.read_text()) == tomllib.loads(toml_of(path)[0])
    done = CliRunner().invoke(rawproxy, ["import-nginx", written(proxied("proxy_store on;"))])
    assert done.exit_code == 1 and "refused" in done.stderr


def test_the_page_is_current():
    assert write_from_nginx.PAGE.read_text() == write_from_nginx.page(), "type make docs"
    assert all(f"| `{name}` |" in write_from_nginx.page() for name in WORDS)
