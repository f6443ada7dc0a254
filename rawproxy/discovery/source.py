"""What every source of configuration gives: fragments, and news of them.

    Fragment          one piece of configuration in TOML: some [[site]], [group.NAME], [auth.NAME]
    FragmentSource    whoever knows fragments: a folder, the containers of a machine

**The contract.** A fragment has the keys of the file that `--config` names, those tables alone, and
means the same there: it is joined to the file, and the whole is checked as one file would be. A
source that knows its facts in another form (labels of containers, say) writes TOML of them; so
every key that the file has, or will have, can be said by every source.

A source tells its *whole present state* each time, by name, and not what has changed: a piece of
news that was lost does no harm. Whoever runs it (`joining`, `watching`) sees to the rest:

    debounce     a source may report as often as it likes; a burst becomes one change
    mistakes     a fragment that is wrong is left as it was in its last good state, or out where it
                 never had one; log and metrics name it, and all other fragments go on
    removal      a fragment that is no longer reported is gone, unless others need what it brings
    in force     the new configuration takes the way of a reload: in place, in all workers

A source runs in a process of its own beside the workers, never in one that serves. This module
opens nothing. Invariant: a `Fragment` is never changed once it is made, and two that are equal mean
the same configuration.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LARGEST = 1 << 20  # bytes of one fragment: thousands of sites
MOST = 10_000  # fragments of one source


@dataclass(frozen=True, slots=True)
class Fragment:
    """One piece of configuration."""

    where: str  # what messages call it, as a path: /etc/rawproxy/sites.d/app.toml, docker:web
    text: str  # TOML
    folder: str | None = None  # where relative paths in it begin; None: where the file's do
    wrong: str = ""  # why there is no text to be had: ": cannot be read: Permission denied"


Fragments = Mapping[str, Fragment]  # by a name that means the same fragment the next time
FragmentReport = Callable[[Fragments], None]


class SourceError(Exception):
    """A source cannot be asked now; the text says why, and what to do."""


class FragmentSource(metaclass=ABCMeta):
    """Whoever knows fragments."""

    name: str  # as log, metrics and page have it: "folder /etc/rawproxy/sites.d"

    @abstractmethod
    def now(self) -> Fragments:
        """All fragments as they are now.

        Asked before the first worker starts, and by `rawproxy check`. It may block for some
        seconds, and no longer. Raises `SourceError`.
        """

    @abstractmethod
    async def run(self, report: FragmentReport) -> None:
        """Call `report` with all fragments at the beginning and whenever they are others.

        It ends only by being cancelled, and then leaves nothing open. While what it asks is away,
        it says so in the log once, tries again with a growing pause, and reports nothing: what is
        known stays in force. Any exception that leaves it is logged, and it is run again after a
        pause.
        """
