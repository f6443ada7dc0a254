"""The command line: options into a `Config`, and the sub-commands.

It never serves. Invariant: bad input ends in exit 2 with one line that names the option; what
prevents a start ends in exit 1 with one line; neither shows a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import __version__
from .config import (
    Address,
    Certificate,
    Config,
    check,
    check_hsts,
    parse_address,
    parse_network,
    parse_pin,
    parse_server_name,
    parse_upstream,
)
from .errors import ConfigError, ProxyError

F = TypeVar("F", bound=Callable[..., Any])

# Group, then each option's declaration and attributes: the order of --help.
_OPTIONS: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {
    "Upstream": [
        (("--upstream",), {
            "multiple": True, "metavar": "URL",
            "help": "host:port or https://host[:port] (TLS), http://host[:port], unix:/path."
            " Several take turns.",
        }),
        (("--upstream-verify",), {
            "metavar": "MODE", "default": "auto",
            "help": "auto, system, off or a PEM file. auto: the system's store, else the first"
            " certificate seen is pinned.",
        }),
        (("--upstream-pin",), {
            "multiple": True, "metavar": "SHA256", "help": "Accept exactly this certificate.",
        }),
        (("--upstream-name",), {
            "metavar": "NAME", "help": "SNI and certificate name.  [default: the URL's host]",
        }),
        (("--keepalive",), {
            "type": click.IntRange(min=0), "default": 64, "metavar": "N",
            "help": "Idle connections kept at rest; under load, as many as it needs.",
        }),
        (("--max-upstream",), {
            "type": click.IntRange(min=1), "default": 1024, "metavar": "N",
            "help": "Connections to one upstream, in use and idle; further requests wait.",
        }),
        (("--keepalive-idle",), {
            "type": click.FloatRange(min=0, min_open=True), "default": 60, "metavar": "SECONDS",
            "help": "How long an idle connection is kept.",
        }),
    ],
    "Listeners": [
        (("--http",), {
            "multiple": True, "metavar": "ADDR", "default": [":8080"],
            "help": "Plain listener: host:port, [v6]:port, :port (IPv4 and IPv6) or unix:/path."
            " Answers 301 where an https listener stands.",
        }),
        (("--no-redirect",), {"is_flag": True, "help": "Proxy on --http too, beside https."}),
        (("--https",), {
            "multiple": True, "metavar": "ADDR",
            "help": "TLS listener.  [default: :8443 where a certificate is given]",
        }),
        (("--server-name",), {
            "multiple": True, "metavar": "NAME",
            "help": "Host served (*.name allowed); any other gets 421.  [default: any]",
        }),
    ],
    "TLS": [
        (("--cert",), {"multiple": True, "metavar": "FILE", "help": "PEM chain; SNI chooses."}),
        (("--key",), {"multiple": True, "metavar": "FILE", "help": "PEM key, one a --cert."}),
        (("--self-signed",), {"is_flag": True, "help": "A throw-away certificate, for trials."}),
        (("--tls",), {
            "type": click.Choice(["modern"]), "default": "modern",
            "help": "Mozilla's profile: TLS 1.3 only.",
        }),
        (("--hsts",), {
            "metavar": "VALUE", "default": "max-age=63072000",
            "help": "Strict-Transport-Security on every https response.",
        }),
        (("--no-hsts",), {"is_flag": True, "help": "Leave that header to the upstream."}),
    ],
    "Forwarding": [
        (("--forwarded",), {
            "type": click.Choice(["append", "replace"]), "default": "replace",
            "help": "What X-Forwarded-For of an untrusted client is worth.",
        }),
        (("--trusted-proxy",), {
            "multiple": True, "metavar": "CIDR", "help": "Peers whose forwarding headers count.",
        }),
    ],
    "Logs and parsing": [
        (("--access-log",), {
            "metavar": "FILE", "default": "-", "help": "A file, - for standard output, or off.",
        }),
        (("--log-format",), {"type": click.Choice(["combined"]), "default": "combined",
                             "help": "Of the access log."}),
        (("--parser",), {
            "type": click.Choice(["auto", "h11"]), "default": "auto",
            "help": "h11: without the fast lane.",
        }),
    ],
}  # fmt: skip


class GroupedHelp(click.Group):
    """A click group whose options are listed under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {p.opts[0]: r for p in self.params if (r := p.get_help_record(ctx))}
        for title, options in _OPTIONS.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(names[0]) for names, _ in options])
        with formatter.section("Other"):
            formatter.write_dl(list(records.values()))
        self.format_commands(ctx, formatter)


def proxy_options(function: F) -> F:
    """Add every option of CLI's table to a command."""
    for options in reversed(_OPTIONS.values()):
        for names, attributes in reversed(options):
            shown = attributes.get("default") is not None and "is_flag" not in attributes
            # The same variable for `rawproxy` and `rawproxy check`.
            envvar = "RAWPROXY_" + names[0].removeprefix("--").replace("-", "_").upper()
            function = click.option(*names, show_default=shown, envvar=envvar, **attributes)(
                function
            )
    return function


@click.group(
    cls=GroupedHelp,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@proxy_options
@click.version_option(__version__, message="rawproxy %(version)s")
@click.pass_context
def rawproxy(ctx: click.Context, /, **options: Any) -> None:
    """Proxy HTTP/1.1 and WebSocket to an upstream: rawproxy --upstream host:9443 .

    Every option is also an environment variable: RAWPROXY_UPSTREAM, RAWPROXY_CERT, and so on;
    repeatable ones are separated by spaces.
    """
    if ctx.invoked_subcommand is None:
        from .worker import run

        sys.exit(run(configure(options)))
    given = [name for name in options if ctx.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise click.UsageError(f"{option} goes behind the sub-command: {ctx.invoked_subcommand}")


@rawproxy.command(name="check")
@proxy_options
@click.pass_context
def check_command(ctx: click.Context, /, **options: Any) -> None:
    """Validate the configuration and certificates, and reach each upstream once."""
    from .tls import certificate_warnings, server_context
    from .worker import probe

    try:
        config = configure(options)
        if config.https:
            server_context(config)
            click.echo(f"certificates: {len(config.certificates) or 'self-signed'}, usable")
        for warning in certificate_warnings(config):
            click.echo(f"warning: {warning}")
        for line in probe(config):
            click.echo(line)
    except (ConfigError, ProxyError) as error:
        click.echo(f"rawproxy: error: {error}", err=True)
        ctx.exit(1)
    click.echo("rawproxy: the configuration is good")


@rawproxy.command()
@click.option("--http", multiple=True, metavar="ADDR", default=[":8080"], show_default=True)
@click.option("--https", multiple=True, metavar="ADDR", default=[":8443"], show_default=True)
@click.option(
    "--demo-upstream", metavar="ADDR", default="127.0.0.1:9443", show_default=True,
    help="Where the embedded upstream listens.",
)  # fmt: skip
@click.option("--access-log", metavar="FILE", default="-", show_default=True)
def demo(
    http: tuple[str, ...], https: tuple[str, ...], demo_upstream: str, access_log: str
) -> None:
    """Start rawproxy with an embedded https upstream behind it."""
    from . import demo as upstream
    from .worker import run

    address = parse_address("--demo-upstream", demo_upstream)
    if address.path is not None or not address.port:
        raise ConfigError("--demo-upstream: type host:port")
    host = address.host or "127.0.0.1"
    config = check(
        Config(
            upstreams=(
                parse_upstream(
                    f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
                ),
            ),
            http=tuple(parse_address("--http", text) for text in http),
            https=tuple(parse_address("--https", text) for text in https),
            self_signed=True,
            access_log=access_log,
        )
    )
    sys.exit(run(config, companion=lambda: upstream.start(Address(host, address.port))))


def configure(options: dict[str, Any]) -> Config:
    """The options as a `Config`. Raises `ConfigError`."""
    certs, keys = options["cert"], options["key"]
    if len(certs) != len(keys):
        missing, other = ("--key", "--cert") if len(certs) > len(keys) else ("--cert", "--key")
        raise ConfigError(f"{missing} is missing: each {other} FILE goes with a {missing} FILE")
    https = options["https"] or ([":8443"] if certs or options["self_signed"] else [])
    return check(
        Config(
            upstreams=tuple(parse_upstream(text) for text in options["upstream"]),
            http=tuple(parse_address("--http", text) for text in options["http"]),
            https=tuple(parse_address("--https", text) for text in https),
            redirect=not options["no_redirect"],
            certificates=tuple(Certificate(*pair) for pair in zip(certs, keys, strict=True)),
            self_signed=options["self_signed"],
            server_names=tuple(parse_server_name(text) for text in options["server_name"]),
            hsts=None if options["no_hsts"] else check_hsts(options["hsts"]),
            upstream_verify=options["upstream_verify"],
            upstream_pins=frozenset(parse_pin(text) for text in options["upstream_pin"]),
            upstream_name=options["upstream_name"],
            keepalive=options["keepalive"],
            max_upstream=options["max_upstream"],
            keepalive_idle=options["keepalive_idle"],
            forwarded=options["forwarded"],
            trusted_proxies=tuple(parse_network(text) for text in options["trusted_proxy"]),
            access_log=options["access_log"],
            parser=options["parser"],
        )
    )


def main() -> None:
    """Run the command; a `ConfigError` from anywhere is exit 2 and one line."""
    try:
        rawproxy()
    except ConfigError as error:
        click.echo(f"rawproxy: error: {error}", err=True)
        sys.exit(2)
