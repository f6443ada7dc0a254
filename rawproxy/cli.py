"""The command line: options into a `Config`, and the sub-commands.

It never serves. Invariant: bad input ends in exit 2 with one line that names the option; what
prevents a start ends in exit 1 with one line; neither shows a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from . import __version__
from .config import Address, Certificate, Config, check, single
from .errors import ConfigError, ProxyError
from .options import (
    check_hsts,
    limit_names,
    parse_address,
    parse_file,
    parse_limits,
    parse_network,
    parse_pin,
    parse_server_name,
    parse_timeouts,
    parse_upstream,
    parse_upstream_name,
    timeout_names,
)

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
    "HTTP/2": [
        (("--no-http2",), {"is_flag": True, "help": "Offer clients HTTP/1.1 only."}),
        (("--http2-streams",), {
            "type": click.IntRange(min=1, max=100_000), "default": 128, "metavar": "N",
            "help": "Requests at once on one connection; further ones are refused (retryable).",
        }),
        (("--http2-budget",), {
            "type": click.IntRange(min=1000), "default": 10_000, "metavar": "N",
            "help": "Frames in a burst that serve no request (a reset counts as 50) before a"
            " connection is closed; a twentieth of it comes back each second.",
        }),
    ],
    "Forwarding": [
        (("--forwarded",), {
            "type": click.Choice(["append", "replace"]), "default": "replace",
            "help": "X-Forwarded-For of an untrusted client: drop it, or append to it.",
        }),
        (("--trusted-proxy",), {
            "multiple": True, "metavar": "CIDR", "help": "Peers whose forwarding headers count.",
        }),
        (("--send-forwarded",), {"is_flag": True, "help": "Add Forwarded (RFC 7239) too."}),
        (("--send-real-ip",), {"is_flag": True, "help": "Add X-Real-IP too."}),
        (("--send-request-id",), {"is_flag": True, "help": "Add X-Request-ID too, as logged."}),
        (("--send-traceparent",), {
            "is_flag": True, "help": "Begin a W3C trace where the client has none.",
        }),
        (("--accept-proxy",), {
            "is_flag": True,
            "help": "Trusted peers begin each connection by a PROXY protocol header.",
        }),
        (("--send-proxy",), {
            "type": click.Choice(["v1", "v2"]),
            "help": "Begin upstream connections by one; each then serves one request.",
        }),
    ],
    "Limits": [
        (("--limit",), {
            "multiple": True, "metavar": "NAME=N",
            "help": f"0 is no limit: {', '.join(limit_names())}.",
        }),
        (("--timeout",), {
            "multiple": True, "metavar": "NAME=SECONDS",
            "help": f"{', '.join(timeout_names())}.",
        }),
    ],
    "Logs, metrics, parsing": [
        (("--access-log",), {
            "metavar": "FILE", "default": "-", "help": "A file, - for standard output, or off.",
        }),
        (("--log-format",), {
            "type": click.Choice(["combined", "extended", "json"]), "default": "combined",
            "help": "extended: combined, then id, upstream and timings.",
        }),
        (("--admin",), {
            "metavar": "ADDR",
            "help": "Metrics, health and the status page here, for `rawproxy top` too.",
        }),
        (("--parser",), {
            "type": click.Choice(["auto", "h11"]), "default": "auto",
            "help": "h11: without the fast lane.",
        }),
    ],
}  # fmt: skip


class GroupedCommand(click.Command):
    """A command that proxies, its options listed under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {p.opts[0]: r for p in self.get_params(ctx) if (r := p.get_help_record(ctx))}
        for title, options in _OPTIONS.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(names[0]) for names, _ in options])
        with formatter.section("Other"):
            formatter.write_dl(list(records.values()))


class GroupedGroup(GroupedCommand, click.Group):
    """The same, with sub-commands."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if ":" in args[0]:  # no command has one: it is the upstream, typed as to curl
            ctx.fail(f"no such command; type --upstream {args[0]}")
        return super().resolve_command(ctx, args)


def envvar(name: str) -> str:
    """The variable of an option: one for `rawproxy` and its sub-commands alike."""
    return "RAWPROXY_" + name.removeprefix("--").replace("-", "_").upper()


def proxy_options(function: F) -> F:
    """Add every option of the table to a command."""
    for options in reversed(_OPTIONS.values()):
        for names, attributes in reversed(options):
            shown = attributes.get("default") is not None and "is_flag" not in attributes
            function = click.option(
                *names, show_default=shown, envvar=envvar(names[0]), **attributes
            )(function)
    return function


@click.group(
    cls=GroupedGroup,
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

        sys.exit(run(configure(ctx)))
    given = [name for name in options if source(ctx, name) == "COMMANDLINE"]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise click.UsageError(f"{option} goes behind the sub-command: {ctx.invoked_subcommand}")


@rawproxy.command(
    name="check", cls=GroupedCommand, short_help="Validate everything and reach each upstream once."
)
@proxy_options
@click.pass_context
def check_command(ctx: click.Context, /, **_: Any) -> None:
    """Validate the configuration and certificates, and reach each upstream once.

    Exit code 0: all is well; 1: what is wrong is said.
    """
    from .tls import certificate_warnings, server_context
    from .worker import probe

    try:
        config = configure(ctx)
        if config.https:
            server_context(config)
            click.echo(f"certificates: {len(config.certificates()) or 'self-signed'}, usable")
        for warning in certificate_warnings(config):
            click.echo(f"warning: {warning}")
        for line in probe(config):
            click.echo(line)
    except (ConfigError, ProxyError) as error:
        fail(error, 1)
    click.echo("rawproxy: the configuration is good")


@rawproxy.command(name="top", short_help="The status page in this terminal.")
@click.option(
    "--admin",
    metavar="ADDR",
    default="127.0.0.1:9900",
    show_default=True,
    envvar=envvar("--admin"),
    help="Where the proxy's --admin is.",
)
@click.option("--once", is_flag=True, envvar=envvar("--once"), help="One frame, and no more.")
def top_command(admin: str, once: bool) -> None:
    """Show what a running rawproxy does, each second; q ends it."""
    from .top import run

    try:
        run(parse_address("--admin", admin), once)
    except OSError as error:
        reason = f"--admin {admin}: {error.strerror or error}"
        fail(ConfigError(f"{reason}; is rawproxy running with --admin {admin}?"), 1)


def demo_option(name: str, default: str | list[str], metavar: str, text: str) -> Callable[[F], F]:
    """An option of the demo, which has defaults of its own; a list makes it repeatable."""
    return click.option(
        name, default=default, multiple=isinstance(default, list), show_default=True,
        metavar=metavar, envvar=envvar(name), help=text,
    )  # fmt: skip


@rawproxy.command()
@demo_option("--http", [":8080"], "ADDR", "Plain listener: 301 to https.")
@demo_option("--https", [":8443"], "ADDR", "TLS listener.")
@demo_option("--demo-upstream", "127.0.0.1:9443", "ADDR", "Where the embedded upstream listens.")
@demo_option("--access-log", "-", "FILE", "A file, - for standard output, or off.")
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
        single(
            upstreams=(
                parse_upstream(
                    f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
                ),
            ),
            http=tuple(parse_address("--http", text) for text in http),
            https=tuple(parse_address("--https", text) for text in https),
            self_signed=True,
            access_log=parse_file("--access-log", access_log, "-, off or "),
        )
    )
    sys.exit(run(config, companion=lambda: upstream.start(Address(host, address.port))))


def source(ctx: click.Context, name: str) -> str:
    """Whence an option's value: COMMANDLINE, ENVIRONMENT, DEFAULT or another of click's words."""
    found = ctx.get_parameter_source(name)
    return found.name if found is not None else ""


def configure(ctx: click.Context) -> Config:
    """The options as a `Config`. Raises `ConfigError`."""
    options = ctx.params
    certificates = pairs(options["cert"], options["key"])
    https = options["https"] or ([":8443"] if certificates or options["self_signed"] else [])
    name, admin = options["upstream_name"], options["admin"]
    return check(
        single(
            upstreams=tuple(parse_upstream(text) for text in options["upstream"]),
            http=tuple(parse_address("--http", text) for text in options["http"]),
            https=tuple(parse_address("--https", text) for text in https),
            redirect=not options["no_redirect"],
            certificates=certificates,
            self_signed=options["self_signed"],
            server_names=tuple(parse_server_name(text) for text in options["server_name"]),
            hsts=hsts(ctx),
            upstream_verify=parse_file(
                "--upstream-verify", options["upstream_verify"], "auto, system, off or "
            ),
            upstream_pins=frozenset(parse_pin(text) for text in options["upstream_pin"]),
            upstream_name=None if name is None else parse_upstream_name(name),
            keepalive=keepalive(ctx),
            max_upstream=options["max_upstream"],
            keepalive_idle=options["keepalive_idle"],
            forwarded=options["forwarded"],
            trusted_proxies=tuple(parse_network(text) for text in options["trusted_proxy"]),
            access_log=parse_file("--access-log", options["access_log"], "-, off or "),
            log_format=options["log_format"],
            admin=None if admin is None else parse_address("--admin", admin),
            send_request_id=options["send_request_id"],
            send_traceparent=options["send_traceparent"],
            parser=options["parser"],
            http2=not options["no_http2"],
            send_forwarded=options["send_forwarded"],
            send_real_ip=options["send_real_ip"],
            accept_proxy=options["accept_proxy"],
            send_proxy=int((options["send_proxy"] or "v0")[1:]),
            limits=parse_limits(
                options["limit"],
                h2_streams=options["http2_streams"],
                h2_budget=options["http2_budget"],
            ),
            deadlines=parse_timeouts(options["timeout"]),
        )
    )


def pairs(certs: Sequence[str], keys: Sequence[str]) -> tuple[Certificate, ...]:
    """Each `--cert` with the `--key` of its rank. Raises `ConfigError`."""
    if len(certs) != len(keys):
        missing, other = ("--key", "--cert") if len(certs) > len(keys) else ("--cert", "--key")
        raise ConfigError(f"{missing} is missing: each {other} FILE goes with a {missing} FILE")
    return tuple(
        Certificate(parse_file("--cert", cert), parse_file("--key", key))
        for cert, key in zip(certs, keys, strict=True)
    )


def hsts(ctx: click.Context) -> str | None:
    """The header's value, or None. The command line wins over the environment."""
    value, off = ctx.params["hsts"], ctx.params["no_hsts"]
    if off:
        ours, theirs = source(ctx, "no_hsts"), source(ctx, "hsts")
        if ours == theirs:
            raise ConfigError("--hsts and --no-hsts exclude each other: leave one of them out")
        if theirs != "COMMANDLINE":
            return None
    return check_hsts(value)


def keepalive(ctx: click.Context) -> int:
    """The default follows a smaller `--max-upstream`; what was asked for does not."""
    wanted: int = ctx.params["keepalive"]
    most: int = ctx.params["max_upstream"]
    return min(wanted, most) if source(ctx, "keepalive") == "DEFAULT" else wanted


def fail(error: Exception, code: int) -> NoReturn:
    """Say it in a line for each mistake, whatever a peer or a variable put into it, and exit."""
    for reason in error.messages if isinstance(error, ConfigError) else (str(error),):
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in reason)
        click.echo(f"rawproxy: error: {line}", err=True)
    sys.exit(code)


def main() -> None:
    """Run the command; a `ConfigError` from anywhere is exit 2, an `OSError` exit 1; one line."""
    try:
        rawproxy()
    except ConfigError as error:
        fail(error, 2)
    except OSError as error:
        fail(OSError(f"cannot start: {error}"), 1)
