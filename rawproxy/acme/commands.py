"""`rawproxy certificates`: what there is, a new one now, one that is to hold no more.

    list      each name: whose certificate, until when, what failed
    renew     asks the keeper of whichever process has this state folder, and waits for what comes
    revoke    tells the authority, and asks for another one
    renew --account-key    gives the account a new key (RFC 8555 7.3.5)

It takes the options of a run, as it needs the same names, authority and folder. It never orders:
the keeper does, whose workers can answer challenges. Invariant: what a command could not do ends
with exit code 1 and a line that says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from rawproxy.acme.settings import AcmeSettings
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config
from rawproxy.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from rawproxy.acme.archive import Archive

PATIENCE: Final = 180.0  # seconds that `renew` waits for an outcome
TAKEN: Final = 15.0  # seconds for a keeper to begin
# RFC 5280 5.3.1, those that an authority takes from the owner.
REASONS: Final = {
    "unspecified": 0,
    "key-compromise": 1,
    "affiliation": 3,
    "superseded": 4,
    "end": 5,
}
Make = Callable[[click.Group, str, str], Callable[[Callable[..., Any]], Any]]


def group(command: Make, configured: Callable[[click.Context], Config]) -> click.Group:
    """The sub-command. `command(group, name, help)` adds one with the options of a run."""
    certificates = click.Group("certificates", short_help="List, renew or revoke certificates.")
    certificates.help = "List, renew or revoke the certificates of --acme."

    @command(certificates, "list", "Whose certificates there are, until when, what failed.")
    def _list(ctx: click.Context, /, **_: Any) -> None:
        settings, archive = opened(configured(ctx))
        click.echo("\n".join(listed(settings, archive)))

    @command(certificates, "renew", "Have a running rawproxy get new certificates now.")
    @click.argument("names", nargs=-1, metavar="[NAME]...")
    @click.option("--account-key", is_flag=True, help="Give the account a new key instead.")
    def _renew(ctx: click.Context, /, names: tuple[str, ...], account_key: bool, **_: Any) -> None:
        settings, archive = opened(configured(ctx), tells=account_key)
        if account_key:
            changed(settings, archive)
        else:
            renewed(archive, chosen(settings, names))

    @command(certificates, "revoke", "Tell the authority that a certificate holds no more.")
    @click.argument("names", nargs=-1, required=True, metavar="NAME...")
    @click.option("--reason", type=click.Choice(list(REASONS)), default="unspecified")
    def _revoke(ctx: click.Context, /, names: tuple[str, ...], reason: str, **_: Any) -> None:
        settings, archive = opened(configured(ctx), tells=True)
        revoked(settings, archive, chosen(settings, names), REASONS[reason])

    return certificates


def opened(config: Config, *, tells: bool = False) -> tuple[AcmeSettings, Archive]:
    """The settings and the folder, and if it `tells` something, what machines share as well.

    Raises `ConfigError` where no certificate keeps itself, and where the store is away.
    """
    from rawproxy.acme.archive import Archive
    from rawproxy.acme.sharing import shared

    told = dict(config.keepers).get("acme")
    if told is None:
        raise ConfigError(
            "--acme is missing: type it and the other options of the run, or --config"
        )
    settings = from_json(AcmeSettings, told)
    sharing = shared(settings) if tells else None
    if sharing is not None:
        try:
            sharing.reach().close()
        except (StoreError, OSError) as error:
            raise ConfigError(f"--store {sharing.store.shown}: {error}; is it running?") from None
        return settings, sharing.archive
    return settings, Archive(settings.folder(), settings.authorities)


def chosen(settings: AcmeSettings, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names that a command is about; all of them unless told. Raises `ConfigError`."""
    for name in names:
        if name not in settings.names:
            shown = ", ".join(settings.names[:20])
            raise ConfigError(f"{name}: not a name whose certificate keeps itself; type {shown}")
    return names or settings.names


def listed(settings: AcmeSettings, archive: Archive) -> list[str]:
    """A line for each name."""
    from rawproxy.acme.checking import state_of

    wide = max((len(name) for name in settings.names), default=0)
    lines = []
    for name in settings.names:
        at = archive.linked(name)
        whose = settings.authorities[at].url if at is not None else "nobody"
        lines.append(f"{name:{wide}}  {state_of(archive, name)}; by {whose}")
    return lines


def renewed(archive: Archive, names: tuple[str, ...]) -> None:
    """Ask for new certificates and wait for them. Raises `ConfigError` for what did not come."""
    from rawproxy.acme.archive import write

    before = {name: _serials(archive, name) for name in names}
    for name in names:
        write(archive.wanted(name), b"renew\n")
    left = set(names)
    begun = time.monotonic()
    wrong = []
    while left and time.monotonic() - begun < PATIENCE:
        for name in sorted(left):
            if _serials(archive, name) != before[name]:
                click.echo(f"{name}: renewed")
                left.discard(name)
            elif not os.path.exists(archive.wanted(name)):
                failed = [one.record.said for one in archive.standings(name) if one.record.failures]
                # The mark goes after the certificate is there, and after a failure is noted.
                if _serials(archive, name) == before[name]:
                    wrong.append(f"{name}: {failed[0] if failed else 'nothing came of it'}")
                    left.discard(name)
        time.sleep(0.2)
    if left:
        shown = ", ".join(sorted(left))
        wrong.append(
            f"{shown}: asked for, and nobody has ordered yet: is rawproxy running with this"
            " --state?"
        )
    if wrong:
        raise ConfigError(*wrong)


def _serials(archive: Archive, name: str) -> list[str]:
    return [one.certificate.serial if one.certificate else "" for one in archive.standings(name)]


def revoked(settings: AcmeSettings, archive: Archive, names: tuple[str, ...], reason: int) -> None:
    """Have certificates revoked; new ones are asked for. Raises `ConfigError`."""
    from rawproxy.acme.advice import IssueError
    from rawproxy.acme.archive import read, write
    from rawproxy.acme.client import Conversation

    wrong = []
    for name in names:
        at = archive.linked(name)
        authority = settings.authorities[at or 0]
        pem = read(archive.of(authority, name, "certificate.pem"))
        if at is None or pem is None:
            wrong.append(f"{name}: there is no certificate that could be revoked")
            continue
        try:
            Conversation(settings, authority, archive).revoke(pem, reason)
        except IssueError as error:
            wrong.append(error.words)
            continue
        write(archive.wanted(name), b"revoked\n")
        click.echo(f"{name}: revoked; a running rawproxy orders another one now")
    if wrong:
        raise ConfigError(*wrong)


def changed(settings: AcmeSettings, archive: Archive) -> None:
    """Give each account a new key. Raises `ConfigError`."""
    from rawproxy.acme.advice import IssueError
    from rawproxy.acme.client import Conversation

    for authority in settings.authorities:
        try:
            Conversation(settings, authority, archive).change_key()
        except IssueError as error:
            raise ConfigError(error.words) from None
        click.echo(f"{authority.url}: the account has a new key")
