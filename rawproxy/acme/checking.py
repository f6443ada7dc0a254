"""What `rawproxy check` says of certificates that keep themselves: a dry run, which orders nothing.

It never writes to the state folder but to see that this works. Invariant: an authority that does
not answer is an error, and so is a folder that cannot be written; a certificate that is missing is
none, as the start is what gets it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from rawproxy.acme.archive import Archive
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.sharing import shared
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config
from rawproxy.errors import ConfigError

SHOWN = 20  # names of which a line is shown


def look(config: Config) -> Iterator[str]:
    """Lines for standard output. Raises `ConfigError`, which names the option."""
    told = dict(config.keepers).get("acme")
    if told is None:
        return
    settings = from_json(AcmeSettings, told)
    archive = Archive(settings.folder(), settings.authorities)
    shared(settings)  # whether its secret can be read
    wrong = archive.unsafe()
    if wrong is not None:
        raise ConfigError(f"--state {settings.state}: {wrong}")
    for authority in settings.authorities:
        yield _authority(settings, authority, archive)
    for name in settings.names[:SHOWN]:
        yield f"certificate of {name}: {state_of(archive, name)}"
    if len(settings.names) > SHOWN:
        yield f"and {len(settings.names) - SHOWN} more: type rawproxy certificates list"


def _authority(settings: AcmeSettings, authority: Authority, archive: Archive) -> str:
    from rawproxy.acme.advice import IssueError
    from rawproxy.acme.client import Conversation

    talk = Conversation(settings, authority, archive, dry=True)
    try:
        offers = talk.offers()
        talk.look_at_clock()
    except IssueError as error:
        raise ConfigError(f"--acme-ca {error.words}") from None
    if offers.bound and authority.key_id is None:
        raise ConfigError(
            f"--acme-ca {authority.url}: it wants its own key: type eab-key-id and eab-key under"
            " [certificates] in the file"
        )
    window = "says when to renew" if offers.windows else "leaves it to us when to renew"
    return f"authority {authority.url}: answers, and {window}; its terms: {offers.terms or 'none'}"


def state_of(archive: Archive, name: str) -> str:
    """How it stands with a name, in words."""
    standings = archive.standings(name)
    now = time.time()
    said = next((one.record.said for one in standings if one.record.failures), "")
    why = f"; the last try: {said}" if said else ""
    held = [one.certificate for one in standings if one.certificate is not None]
    if not held:
        return f"none yet{why}"
    best = max(held, key=lambda one: one.end)
    until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(best.end))
    return f"until {until} UTC{why}" if best.end > now else f"ended on {until} UTC{why}"
