"""The command line, in process: options, messages, exit codes."""

import logging
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys

import pytest
from click.testing import CliRunner

from rawproxy import __main__ as entry
from rawproxy import cli
from rawproxy.config.model import Address
from rawproxy.errors import ConfigError
from rawproxy.telemetry import error_log
from tests.process import PATIENCE


@pytest.fixture(autouse=True)
def _the_log_is_nobodys(monkeypatch):
    """Some commands take over the log of their process, which here is that of all tests."""
    log = logging.getLogger("rawproxy")
    before = log.handlers[:], log.level, log.propagate
    monkeypatch.setattr(error_log, "_journal", None)
    yield
    log.handlers[:], log.level, log.propagate = before


def invoke(*arguments: str, **environment: str):
    return CliRunner().invoke(cli.rawproxy, arguments, env=environment)


def options(*arguments: str, **environment: str):
    """The `Config` that `check` would work with."""
    with CliRunner(env=environment).isolation():
        return cli.configure(cli.check_command.make_context("check", list(arguments)))


def group(*arguments: str, **environment: str):
    """The only group of it."""
    (one,) = options(*arguments, **environment).groups
    return one


def site(*arguments: str, **environment: str):
    """The only site of it."""
    (one,) = options(*arguments, **environment).sites
    return one


@pytest.mark.parametrize("command", [["--help"], ["check", "-h"]])
@pytest.mark.parametrize("columns", ["80", "100"])
def test_help_is_grouped_and_fits_two_screens(command, columns):
    text = invoke(*command, COLUMNS=columns).output
    assert len(text.splitlines()) <= 96
    assert max(map(len, text.splitlines())) <= 100
    for title in (
        "Upstream:",
        "Listeners:",
        "TLS:",
        "Forwarding:",
        "Logs, metrics, parsing:",
        "--help",
    ):
        assert title in text
    assert ("Commands:" in text) == (command == ["--help"])
    assert "...\n" not in text.partition("\n")[2], "nothing is cut short"


def test_defaults():
    config = options("--upstream", "h:9443")
    assert (config.http, config.https) == ((Address(None, 8080),), ())
    assert config.redirect
    (one,), (all_of_it,) = config.groups, config.sites
    assert all_of_it.hsts == "max-age=63072000"
    assert (one.keepalive, one.max_upstream, one.keepalive_idle) == (64, 1024, 60)
    assert (config.forwarded, one.verify, config.access_log) == ("replace", "auto", "-")


def test_everything():
    config = options(
        *"--upstream a:1 --upstream b:2 --cert c --key k --cert d --key l --http :80 --https [::]:443".split(),
        *"--server-name A.test --no-hsts --no-redirect --trusted-proxy 10.0.0.0/8 --parser h11".split(),
        *"--no-http2 --http2-streams 7 --http2-budget 2000".split(),
        *["--upstream-pin", "ab" * 32, "--access-log", "off", "--upstream-name", "n"],
        *"--log-format json --admin [::1]:9900 --send-request-id --send-traceparent".split(),
    )
    assert (config.log_format, config.admin) == ("json", Address("::1", 9900))
    assert config.send_request_id and config.send_traceparent
    assert [upstream.host for upstream in config.groups[0].upstreams] == ["a", "b"]
    assert [pair.cert for pair in config.certificates()] == ["c", "d"]
    assert config.https == (Address("::", 443),)
    assert config.server_names() == ("a.test",)
    assert (config.http2, config.limits.h2_streams, config.limits.h2_budget) == (False, 7, 2000)
    assert config.sites[0].hsts is None
    assert not config.redirect


def test_workers_and_their_drain():
    assert options(*"--upstream a:1".split()).workers == 1
    assert options(*"--upstream a:1 --workers 3".split()).workers == 3
    assert options(*"--upstream a:1 --workers auto".split()).workers == 0
    config = options(*"--upstream a:1 --drain-timeout 7 --timeout drain=9".split())
    assert config.deadlines.drain == 7
    assert options(*"--upstream a:1 --timeout drain=9".split()).deadlines.drain == 9


def test_what_a_reload_reads():
    assert cli.reread(["--upstream", "a:1", "--workers", "2"]).workers == 2
    with pytest.raises(ConfigError, match="--keepalive"):
        cli.reread(["--upstream", "a:1", "--keepalive", "-1"])


def test_a_certificate_opens_8443():
    assert options(*"--upstream a:1 --self-signed".split()).https == (Address(None, 8443),)


def test_every_option_is_one_environment_variable_everywhere():
    for command in cli.rawproxy, cli.check_command, cli.demo:
        for option in command.params:
            if option.name != "version":
                assert option.envvar == f"RAWPROXY_{option.name.upper()}"


def test_environment_variables():
    config = options(RAWPROXY_UPSTREAM="a:1 b:2", RAWPROXY_KEEPALIVE="7", RAWPROXY_NO_HSTS="1")
    assert [upstream.port for upstream in config.groups[0].upstreams] == [1, 2]
    assert config.groups[0].keepalive == 7
    assert config.sites[0].hsts is None


def test_repeatable_variables_are_split_at_spaces():
    config = options(
        RAWPROXY_UPSTREAM="a:1",
        RAWPROXY_CERT="c d",
        RAWPROXY_KEY="k l",
        RAWPROXY_SERVER_NAME="A.test *.b.test",
        RAWPROXY_TRUSTED_PROXY="10.0.0.0/8 ::1",
        RAWPROXY_HTTP="",
    )
    assert [(pair.cert, pair.key) for pair in config.certificates()] == [("c", "k"), ("d", "l")]
    assert config.server_names() == ("a.test", "*.b.test")
    assert len(config.trusted_proxies) == 2
    assert config.http == (Address(None, 8080),), "an empty variable is none"


def test_the_command_line_wins_over_the_environment():
    environment = {"RAWPROXY_UPSTREAM": "a:1", "RAWPROXY_KEEPALIVE": "7"}
    assert group("--keepalive", "8", **environment).keepalive == 8
    on = site("--hsts", "max-age=5", RAWPROXY_NO_HSTS="1", **environment)
    assert on.hsts == "max-age=5"
    off = site("--no-hsts", RAWPROXY_HSTS="max-age=5", **environment)
    assert off.hsts is None
    with pytest.raises(ConfigError, match="exclude each other"):
        options("--no-hsts", "--hsts", "max-age=5", **environment)


def test_the_default_keepalive_follows_max_upstream():
    assert group(*"--upstream a:1 --max-upstream 10".split()).keepalive == 10
    with pytest.raises(ConfigError, match="--keepalive 64"):
        options(*"--upstream a:1 --max-upstream 10 --keepalive 64".split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "0"], "--workers"),
        (["--workers", "many"], "--workers"),
        (["export-nginx", "f"], "No such command"),
        (["import-nginx"], "Missing argument"),
        (["--tls", "old"], "modern"),
        (["--log-format", "xml"], "combined"),
        (["--keepalive", "-1"], "--keepalive"),
        (["--keepalive-idle", "0"], "--keepalive-idle"),
        (["--forwarded", "drop"], "replace"),
        (["--upstream", "a:1", "check"], "type --upstream behind the sub-command check"),
        (["host:9443"], "type --upstream host:9443"),
    ],
)
def test_wrong_usage_is_exit_2(arguments, words):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    "empty",
    "--http --https --upstream --cert --key --server-name --hsts --upstream-verify --upstream-pin"
    " --upstream-name --trusted-proxy --access-log --admin".split(),
)
def test_an_empty_value_is_refused(empty):
    full = {"--upstream": "a:1", "--cert": "c", "--key": "k"} | {empty: ""}
    with pytest.raises(ConfigError, match=f"^{empty}"):
        options(*[word for pair in full.items() for word in pair])


def test_config_errors_come_out_as_such():
    assert isinstance(invoke("--upstream", "nonsense").exception, ConfigError)
    assert isinstance(invoke().exception, ConfigError), "no upstream"
    for missing, given in (("--key", "--cert"), ("--cert", "--key")):
        with pytest.raises(ConfigError, match=f"{missing} is missing"):
            options("--upstream", "a:1", given, "file")
    for address in ("unix:/x", "127.0.0.1:0"):
        assert "--demo-upstream" in str(invoke("demo", "--demo-upstream", address).exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--upstream is missing"),
        (["--upstream", "a:1", "--cert", "/no", "--key", "/no"], "--cert /no: "),
        (["--upstream", "a:1", "--upstream-verify", "/no"], "--upstream-verify /no: "),
    ],
)
def test_check_says_what_is_wrong_and_exits_1(arguments, words):
    result = invoke("check", *arguments)
    assert result.exit_code == 1
    assert result.output.startswith(f"rawproxy: error: {words}")
    assert all(line.startswith("rawproxy: error: --") for line in result.output.splitlines())


def test_check_says_everything_that_is_wrong_with_file_line_and_key(tmp_path):
    (tmp_path / "bad.pem").write_text("x")
    path = tmp_path / "rawproxy.toml"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    path.write_text(
        f"upstream = 'http://127.0.0.1:{port}'\n"
        "[[site]]\n"
        "server-name = 'a.test'\n"
        "cert = ['bad.pem', '/no']\n"
        "key = ['bad.pem', '/no']\n"
        "[group.app]\n"
        "upstream = [\n"
        f"  'http://127.0.0.1:{port}',\n"
        f"  'https://127.0.0.1:{port}' ]\n"
        "upstream-cert = 'bad.pem'\n"
        "upstream-key = 'bad.pem'\n"
    )
    result = invoke("check", "--config", str(path))
    assert result.exit_code == 1
    said = [
        line.removeprefix(f"rawproxy: error: {path}:")
        .replace(str(tmp_path), "")
        .partition("t: C")[0]
        for line in result.output.splitlines()
    ]
    assert said == [
        f"1: upstream http://127.0.0.1:{port}: cannot connec",
        "4: [[site]] cert /no: No such file or directory",
        "4: [[site]] cert /bad.pem: no PEM certificate in it (BEGIN CERTIFICATE)",
        f"8: [group.app] upstream http://127.0.0.1:{port}: cannot connec",
        "10: [group.app] upstream-cert /bad.pem: no PEM certificate in it (BEGIN CERTIFICATE)",
    ]


def test_check_names_the_upstream_that_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    result = invoke("check", "--upstream", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert f"http://127.0.0.1:{port}: " in result.output


def test_check_reports_what_it_found():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        result = invoke("check", "--self-signed", "--upstream", f"http://127.0.0.1:{port}")
    assert result.exit_code == 0
    for words in ("certificates: self-signed", f"127.0.0.1:{port}: reached", "is good"):
        assert words in result.output


def python_m_rawproxy(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "rawproxy", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stderr


def test_a_config_error_is_one_line_and_exit_2():
    assert python_m_rawproxy("--upstream", "example.com") == (
        2,
        "rawproxy: error: --upstream example.com: no port; type example.com:9443"
        " or https://example.com\n",
    )
    code, text = python_m_rawproxy("--upstream", "a\nb\udcff:1")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith(r"rawproxy: error: --upstream a\nb\udcff:1: ")


def test_what_prevents_a_start_is_exit_1_and_one_line():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        taken = f"127.0.0.1:{sock.getsockname()[1]}"
        code, text = python_m_rawproxy("--upstream", "h:1", "--http", taken)
    assert (code, text.count("\n")) == (1, 1)
    assert taken in text


def test_an_oserror_from_anywhere_is_exit_1_and_one_line(monkeypatch, capsys):
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(cli, "rawproxy", refuse)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "rawproxy: error: cannot start: [Errno 24] Too many open files\n"
    )


def test_sigint_while_it_starts_ends_it_without_a_traceback(tmp_path):
    fifo = tmp_path / "cert.pem"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "rawproxy", "--upstream", "h:1", "--http", "127.0.0.1:0"]
    command += ["--https", "127.0.0.1:0", "--cert", str(fifo), "--key", str(fifo)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            with fifo.open("wb"):  # opens once rawproxy has begun to read, which now hangs
                process.send_signal(signal.SIGINT)
                _, text = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, text) == (-signal.SIGINT, "")


def test_ssl_is_loaded_after_openssl_was_told_its_groups():
    program = (
        "import os, sys, rawproxy.__main__ as m; assert '_ssl' not in sys.modules;"
        "sys.argv[1:] = ['--version'];"
        "import atexit; atexit.register(lambda: print(os.environ['OPENSSL_CONF'])); m.main()"
    )
    command = [sys.executable, "-c", program]
    # Where something has loaded OpenSSL already (coverage does), it starts itself once again.
    bare = {name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=bare
    )
    assert done.returncode == 0, done.stderr
    version, conf = done.stdout.splitlines()
    assert version.startswith("rawproxy 0.")
    name = "openssl-3.5.cnf" if ssl.OPENSSL_VERSION_INFO >= (3, 5) else "openssl.cnf"
    assert conf == str(pathlib.Path(cli.__file__).with_name(name))


OURS = str(pathlib.Path(entry.__file__).with_name("openssl.cnf"))
HYBRID = str(pathlib.Path(entry.__file__).with_name("openssl-3.5.cnf"))


@pytest.mark.parametrize(
    ("version", "given", "told"),
    [
        ((3, 0, 0, 22, 0), None, OURS),
        ((3, 4, 9, 0, 0), None, OURS),
        ((3, 5, 0, 0, 0), None, HYBRID),
        ((4, 0, 0, 0, 0), None, HYBRID),
        ((3, 5, 0, 0, 0), "/etc/own.cnf", "/etc/own.cnf"),
        ((3, 0, 0, 0, 0), "", ""),
        # A child's, whose master began before OpenSSL was another one.
        ((3, 5, 0, 0, 0), OURS, HYBRID),
        ((3, 0, 0, 0, 0), HYBRID, OURS),
        ((3, 0, 0, 0, 0), OURS, OURS),
    ],
)
def test_each_openssl_is_told_groups_that_it_knows(monkeypatch, version, given, told):
    import _ssl

    begun_again = []
    monkeypatch.setattr(_ssl, "OPENSSL_VERSION_INFO", version)
    monkeypatch.setattr(os, "execv", lambda *command: begun_again.append(command))
    with monkeypatch.context() as changed:
        # First set in any case: of a name that is not there, `delenv` would put nothing back.
        changed.setenv("OPENSSL_CONF", given or "")
        if given is None:
            changed.delenv("OPENSSL_CONF")
        entry.tell_openssl()
        assert os.environ["OPENSSL_CONF"] == told
    # As `ssl` is in use in this process.
    assert begun_again == ([] if given == told else [(sys.executable, sys.orig_argv)])


@pytest.mark.parametrize("name", [OURS, HYBRID])
def test_the_files_for_openssl_are_part_of_the_package(name):
    assert "\nGroups = " in pathlib.Path(name).read_text()


def test_version():
    assert invoke("--version").output.startswith("rawproxy 0.")
