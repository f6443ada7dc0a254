"""The command line: it makes a `Config` of the options, and has the sub-commands.

It never serves. Invariant: bad input ends with exit code 2 and a line that names the option. What
prevents a start ends with exit code 1 and a line. Nobody sees a traceback.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import click

from rawproxy.config.addresses import parse_address, parse_upstream
from rawproxy.config.build import build_config
from rawproxy.config.capabilities import modules
from rawproxy.config.collector import lasting
from rawproxy.config.json_schema import schema
from rawproxy.config.model import Address, Config, single
from rawproxy.config.option_values import parse_file
from rawproxy.config.options import CAPABILITIES, OPTIONS, flat
from rawproxy.config.problems import check
from rawproxy.config.reading import Reading
from rawproxy.config.sources import Rank, Settings, read
from rawproxy.config.toml_file import Document
from rawproxy.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


class GroupedCommand(click.Command):
    """A command with the options of the proxy, which its help lists under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {p.opts[0]: r for p in self.get_params(ctx) if (r := p.get_help_record(ctx))}
        for title, options in OPTIONS.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(names[0]) for names, _ in options])
        with formatter.section("Other"):
            formatter.write_dl(list(records.values()))


class GroupedGroup(GroupedCommand, click.Group):
    """The same with sub-commands."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if ":" in args[0]:  # no command has one: it is the upstream, typed as to curl
            ctx.fail(f"no such command; type --upstream {args[0]}")
        return super().resolve_command(ctx, args)


def envvar(name: str) -> str:
    """The environment variable of an option, for `rawproxy` and its sub-commands alike."""
    return "RAWPROXY_" + name.removeprefix("--").replace("-", "_").upper()


def proxy_options(function: F) -> F:
    """Add all options of the table to a command."""
    for options in reversed(OPTIONS.values()):
        for names, attributes in reversed(options):
            shown = attributes.get("default") is not None and "is_flag" not in attributes
            function = click.option(
                *names, show_default=shown, envvar=envvar(names[0]), **attributes
            )(function)
    return function


def show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print which build this is, and what it runs with."""
    if asked:
        from rawproxy.process.build import described

        click.echo(described())
        ctx.exit()


@click.group(
    cls=GroupedGroup,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@proxy_options
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=show_version,
    help="Show the version, which build it is, and what it runs with.",
)
@click.pass_context
def rawproxy(ctx: click.Context, /, **options: Any) -> None:
    """Proxy HTTP and WebSocket to an upstream: rawproxy --upstream host:9443 .

    Every option is also an environment variable: RAWPROXY_UPSTREAM, RAWPROXY_CERT, and so on;
    repeatable ones are separated by spaces.
    """
    if ctx.invoked_subcommand is None:
        from rawproxy.process.master import run

        sys.exit(run(configure(ctx)))
    given = [name for name in options if source(ctx, name) == "COMMANDLINE"]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise click.UsageError(f"type {option} behind the sub-command {ctx.invoked_subcommand}")


@rawproxy.command(
    name="check",
    cls=GroupedCommand,
    short_help="Validate everything and reach each upstream once.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--against",
    metavar="ADMIN",
    help="What would a reload change there? Nothing is done.",
    envvar=envvar("--against"),
)
@proxy_options
@click.pass_context
def check_command(ctx: click.Context, /, against: str | None, **_: Any) -> None:
    """Validate the configuration and certificates, and reach each upstream once.

    Exit code 0: all is well; 1: everything that is wrong is said.
    """
    from rawproxy.config.caution import cautions
    from rawproxy.process.against import against as compare
    from rawproxy.process.checking import looked_at

    try:
        chosen = settings(ctx)
        config = build_config(chosen)
    except ConfigError as error:
        fail(error, 1)
    wrong = looked_at(chosen, config, click.echo)
    if wrong:
        fail(ConfigError(*dict.fromkeys(text for _, text in sorted(wrong))), 1)
    for caution in cautions(config):
        click.echo(f"warning: {caution}")
    click.echo("rawproxy: the configuration is good")
    if against is not None:
        with asked("--against", against) as address:
            click.echo("\n".join(compare(address, config)))


@rawproxy.command(
    name="explain",
    cls=GroupedCommand,
    short_help="Say what would happen to a request.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("words", nargs=-1, metavar="[METHOD] URL")
@click.option("-H", "lines", multiple=True, metavar="'NAME: VALUE'", help="A field of it.")
@click.option("--from", "sender", default="192.0.2.1", metavar="ADDR", help="Who sends it.")
@proxy_options
@click.pass_context
def explain_command(
    ctx: click.Context, /, words: tuple[str, ...], lines: tuple[str, ...], sender: str, **_: Any
) -> None:
    """Say what would happen to a request, and which line of the file says so. Nothing is sent."""
    from rawproxy.admin import explain
    from rawproxy.telemetry import error_log

    error_log.set_up(serving=False)
    told = explain.visit(words, lines, sender)
    chosen = settings(ctx)
    for line in explain.render(explain.explained(chosen, build_config(chosen), told)):
        click.echo(line)


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
    from rawproxy.admin.top import run

    with asked("--admin", admin) as address:
        run(address, once)


@contextlib.contextmanager
def asked(option: str, admin: str) -> Iterator[Address]:
    """Ends with a line that says why if the admin server cannot be asked."""
    try:
        yield parse_address(option, admin)
    except OSError as error:
        reason = f"{option} {admin}: {error.strerror or error}"
        fail(ConfigError(f"{reason}; is rawproxy running with --admin {admin}?"), 1)


def demo_option(name: str, default: str | list[str], metavar: str, text: str) -> Callable[[F], F]:
    """An option of the demo, with a default of its own.

    If that is a list, it may be given again.
    """
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
    from rawproxy.demo import server as upstream
    from rawproxy.process.worker import run

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


@rawproxy.command(name="import-nginx", short_help="Write the TOML file that does the same.")
@click.argument("file")
@click.option("-o", "--output", metavar="OUT", help="Where to; else to standard output.")
def import_nginx(file: str, output: str | None) -> None:
    """Write the TOML file that does what an nginx configuration does.

    What is not exact is said on standard error, with FILE:LINE; exit 1 where something is refused.
    """
    from rawproxy.nginx.translation import translated

    made = translated(file)
    for remark in made.remarks:
        if remark.word != "exact":
            click.echo(remark.line(), err=True)
    if made.refused:
        fail(ConfigError(f"{file}: {len(made.refused)} directives are refused, see above"), 1)
    if output is None:
        click.echo(made.text, nl=False)
        return
    with open(output, "w", encoding="utf-8") as written:
        written.write(made.text)


@rawproxy.command(name="schema", short_help="Print the JSON Schema of the TOML file.")
def schema_command() -> None:
    """Print the JSON Schema of the TOML file, for editors."""
    click.echo(schema(), nl=False)


def proxy_command(
    group: click.Group, name: str, text: str
) -> Callable[[Callable[..., Any]], click.Command]:
    """Adds a command with the options of a run to `group`."""

    def add(function: Callable[..., Any]) -> click.Command:
        made: click.Command = group.command(
            name=name, cls=GroupedCommand, short_help=text, help=text,
            context_settings={"help_option_names": ["-h", "--help"]},
        )(proxy_options(click.pass_context(function)))  # fmt: skip
        return made

    return add


def reread(arguments: list[str]) -> Config:
    """The configuration that the command would run with now. Raises `ConfigError`."""
    return read_again(arguments).config()


def read_again(arguments: list[str]) -> Reading:
    """What the command would be told now. Raises `ConfigError`."""
    try:
        with rawproxy.make_context("rawproxy", list(arguments)) as ctx:
            return reading(ctx)
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from None


def source(ctx: click.Context, name: str) -> str:
    """Where an option's value comes from: COMMANDLINE, ENVIRONMENT or DEFAULT, as in `Rank`."""
    found = ctx.get_parameter_source(name)
    return found.name if found is not None else ""


def configure(ctx: click.Context) -> Config:
    """The `Config` to run with, of options, file and sources. Raises `ConfigError`."""
    with lasting():
        told = reading(ctx)
        for room in modules(CAPABILITIES, "joining"):
            config: Config | None = room.first(told)
            if config is not None:
                return config
        return told.config()


def settings(ctx: click.Context) -> Settings:
    """The same before it is a `Config`, every mistake of a source among them.

    Raises `ConfigError`.
    """
    told = reading(ctx)
    found = told.document
    for room in modules(CAPABILITIES, "joining") if found is not None else ():
        found = room.whole(found)
    return told.settings(found)


def reading(ctx: click.Context) -> Reading:
    """The values of the options with their ranks, and the file. Raises `ConfigError`."""
    values = {name: ctx.params[name.replace("-", "_")] for name, _ in flat()}
    ranks = {name: Rank[source(ctx, name.replace("-", "_"))] for name in values}
    return Reading(values, ranks, document(ctx, ranks))


def document(ctx: click.Context, ranks: Mapping[str, Rank]) -> Document | None:
    """The file that --config or --nginx names. Raises `ConfigError`."""
    path, other = ctx.params["config"], ctx.params["nginx"]
    if other is None:
        return None if path is None else read(path)
    if path is not None:
        raise ConfigError(
            "--nginx and --config exclude each other; rawproxy import-nginx FILE -o OUT.toml writes"
            " a file to go on with"
        )
    from rawproxy.nginx.translation import served

    made = served(other)
    found = Document(f"{other} as TOML", made.write, made.tables)
    for name, rank in ranks.items():
        if rank > Rank.DEFAULT and name in found.data:
            raise ConfigError(
                f"--{name} stands in {other} already: leave it out, or change it there"
            )
    return found


def fail(error: Exception, code: int) -> NoReturn:
    """Print a line for each mistake and exit.

    Control characters of a peer or a variable are escaped.
    """
    for reason in error.messages if isinstance(error, ConfigError) else (str(error),):
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in reason)
        click.echo(f"rawproxy: error: {line}", err=True)
    sys.exit(code)


for _room in modules(CAPABILITIES, "commands"):
    rawproxy.add_command(_room.group(proxy_command, configure))


def main() -> None:
    """Run the command.

    A `ConfigError` means exit code 2, an `OSError` exit code 1; each prints lines.
    """
    try:
        rawproxy()
    except ConfigError as error:
        fail(error, 2)
    except OSError as error:
        fail(OSError(f"cannot start: {error}"), 1)
