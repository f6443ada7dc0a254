"""The command line, in process: options, messages, exit codes."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from rawproxy import cli
from rawproxy.config import Address
from rawproxy.errors import ConfigError


def invoke(*arguments: str, **environment: str):
    return CliRunner().invoke(cli.rawproxy, arguments, env=environment)


def options(*arguments: str, **environment: str):
    """The `Config` that `check` would work with."""
    context = cli.check_command.make_context("check", list(arguments)) if not environment else None
    if context is None:
        runner = CliRunner(env=environment)
        with runner.isolation():
            context = cli.check_command.make_context("check", list(arguments))
    return cli.configure(context.params)


def test_help_is_grouped_and_fits_two_screens():
    text = invoke("--help").output
    assert len(text.splitlines()) <= 96
    for title in ("Upstream:", "Listeners:", "TLS:", "Forwarding:", "Commands:"):
        assert title in text
    assert "--workers" not in text


def test_defaults():
    config = options("--upstream", "h:9443")
    assert (config.http, config.https) == ((Address(None, 8080),), ())
    assert config.redirect
    assert config.hsts == "max-age=63072000"
    assert (config.keepalive, config.max_upstream, config.keepalive_idle) == (64, 1024, 60)
    assert (config.forwarded, config.upstream_verify, config.access_log) == ("replace", "auto", "-")


def test_everything():
    config = options(
        *"--upstream a:1 --upstream b:2 --cert c --key k --cert d --key l --http :80 --https [::]:443".split(),
        *"--server-name A.test --no-hsts --no-redirect --trusted-proxy 10.0.0.0/8 --parser h11".split(),
        *["--upstream-pin", "ab" * 32, "--access-log", "off", "--upstream-name", "n"],
    )
    assert [upstream.host for upstream in config.upstreams] == ["a", "b"]
    assert [pair.cert for pair in config.certificates] == ["c", "d"]
    assert config.https == (Address("::", 443),)
    assert config.server_names == ("a.test",)
    assert config.hsts is None
    assert not config.redirect


def test_a_certificate_opens_8443():
    assert options(*"--upstream a:1 --self-signed".split()).https == (Address(None, 8443),)


def test_environment_variables():
    config = options(RAWPROXY_UPSTREAM="a:1 b:2", RAWPROXY_KEEPALIVE="7", RAWPROXY_NO_HSTS="1")
    assert [upstream.port for upstream in config.upstreams] == [1, 2]
    assert config.keepalive == 7
    assert config.hsts is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "2"], "No such option"),
        (["--tls", "intermediate"], "modern"),
        (["--log-format", "json"], "combined"),
        (["--keepalive", "-1"], "--keepalive"),
        (["--upstream", "a:1", "check"], "--upstream goes behind the sub-command: check"),
    ],
)
def test_wrong_usage_is_exit_2(arguments, words):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_config_errors_come_out_as_such():
    assert isinstance(invoke("--upstream", "nonsense").exception, ConfigError)
    for missing, given in (("--key", "--cert"), ("--cert", "--key")):
        with pytest.raises(ConfigError, match=f"{missing} is missing"):
            options("--upstream", "a:1", given, "file")
    for address in ("unix:/x", "127.0.0.1:0"):
        assert "--demo-upstream" in str(invoke("demo", "--demo-upstream", address).exception)


def test_a_config_error_is_one_line_and_exit_2():
    command = [sys.executable, "-m", "rawproxy", "--upstream", "example.com"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "rawproxy: error: --upstream example.com: no port; type example.com:9443"
        " or https://example.com\n"
    )


def test_version():
    assert invoke("--version").output.startswith("rawproxy 0.")
