"""`python -m bench run|report|check|counts|soak|routes|micro`: see bench/README.md."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.procs import BenchError
from bench.rows import ROWS, choose


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure rawproxy beside its peers."""


def _split(value: str) -> tuple[str, ...]:
    return tuple(part for part in value.replace(",", " ").split() if part)


@main.command("run")
@click.option("--quick", is_flag=True, help="The main rows, nginx and rawproxy: two minutes.")
@click.option("--rows", default="", help="Row ids or prefixes, separated by commas.")
@click.option("--peers", default="", help="Peers, separated by commas; nginx is always added.")
@click.option("--rounds", default=5, show_default=True, help="Interleaved rounds of each row.")
@click.option("--seconds", type=float, help="Length of one measurement, for every row.")
@click.option("--output", type=click.Path(path_type=Path), help="The results file.")
def run_command(
    quick: bool, rows: str, peers: str, rounds: int, seconds: float | None, output: Path | None
) -> None:
    """Measure. A full run goes to bench/results/latest.json, any other to bench/out/."""
    from bench import report, run

    try:
        chosen = choose(_split(rows), quick)
        names = run.validate_peers(_split(peers))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    full = not (quick or rows or peers or seconds) and rounds >= 5
    name = "quick.json" if quick else "partial.json"
    target = output or (run.RESULTS / "latest.json" if full else run.OUT / name)
    results = run.execute(run.Plan(chosen, names, max(1, rounds), quick, target, seconds))
    if full:
        for line in report.write_all(target):
            click.echo(line)
    click.echo("\n" + report.table(results) + f"\n{results['minutes']} minutes; in {target.name}")
    if full:
        click.echo("To make this run what `make bench-check` compares with: make bench-accept")


@main.command("eyes", context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1)
def eyes_command(options: tuple[str, ...]) -> None:
    """The pictures of the status page and of `rawproxy top`, after five minutes of load."""
    from bench import eyes

    eyes.take(options)


@main.command("rows")
def rows_command() -> None:
    """List the rows."""
    for row in ROWS.values():
        click.echo(f"{row.id:<18}{row.title}")


@main.command("report")
@click.option("--results", type=click.Path(path_type=Path, exists=True), help="Default: latest.")
@click.option("--top", type=click.Path(path_type=Path, exists=True), help="Whose pages to rewrite.")
def report_command(results: Path | None, top: Path | None) -> None:
    """Table, pictures and the blocks of README.md and docs/performance.md from a results file."""
    from bench import report, run

    source = results or run.RESULTS / "latest.json"
    if not source.exists():
        raise click.UsageError("there is no results file yet: run the bench first")
    for line in report.write_all(source, top):
        click.echo(line)


@main.command("check")
@click.option("--results", type=click.Path(path_type=Path, exists=True), help="Judge this file.")
@click.option("--baseline", type=click.Path(path_type=Path), help="Default: the committed one.")
@click.option("--accept", is_flag=True, help="Make the results the new baseline.")
def check_command(results: Path | None, baseline: Path | None, accept: bool) -> None:
    """Fail if a ratio fell by more than 15 % against the baseline. Without --results: run quick."""
    from bench import check, run

    if results is None:
        results = run.OUT / "check.json"
        run.execute(run.Plan(choose((), quick=True), (), 5, True, results))
    sys.exit(check.judge(results, baseline or run.RESULTS / "baseline.json", accept))


@main.command("counts")
@click.option("--rows", default="", help="Row ids, separated by commas.")
@click.option("--peers", default="", help="Peers, separated by commas; else nginx and rawproxy.")
@click.option("--output", type=click.Path(path_type=Path), help="The results file.")
def counts_command(rows: str, peers: str, output: Path | None) -> None:
    """Instructions and system calls for each request: they repeat where seconds do not."""
    from bench import counts, run

    done = counts.elsewhere()
    if done is not None:
        sys.exit(done)
    target = output or (run.OUT if rows or peers else run.RESULTS) / "counts.json"
    click.echo(counts.execute(_split(rows), _split(peers), target))


@main.command("soak")
@click.option("--minutes", default=15.0, show_default=True, help="Half of them are chaos.")
@click.option("--clients", default="", help="Only these kinds, by prefix: to find a culprit.")
@click.option("--output", type=click.Path(path_type=Path), help="The results file.")
def soak_command(minutes: float, clients: str, output: Path | None) -> None:
    """Full load for a quarter of an hour, half of it with connections cut at random."""
    from bench import soak

    sys.exit(soak.execute(minutes, output, _split(clients)))


@main.command("routes")
@click.option("--quick", is_flag=True, help="Fewer values, to see that it runs.")
@click.option("--output", type=click.Path(path_type=Path), help="The results file.")
def routes_command(quick: bool, output: Path | None) -> None:
    """Look-ups of routes by pyperf, and the start of 3,000 servers, plain and compiled."""
    from bench import routes, run

    target = output or (run.OUT if quick else run.RESULTS) / "routes.json"
    click.echo(routes.execute(quick, target))


@main.command("micro", context_settings={"ignore_unknown_options": True})
@click.argument("pyperf_options", nargs=-1, type=click.UNPROCESSED)
def micro_command(pyperf_options: tuple[str, ...]) -> None:
    """The hot functions with pyperf, e.g. `micro --fast -o micro.json`."""
    from bench import micro

    sys.argv = ["bench.micro", *pyperf_options]
    micro.main()


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
