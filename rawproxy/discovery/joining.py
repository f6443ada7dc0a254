"""The seam: a configuration is the file's, and what the sources of `[discovery]` have found.

    joined     while it runs, and at the start: each fragment in its last good state (`LastGood`)
    first      the configuration of that
    whole      for `rawproxy check` and `explain`: a mistake anywhere is a mistake

This module never watches anything: `watching` does. Invariant: what `LastGood.config` was made of
has been checked as a whole.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rawproxy.config.model import Certificate, Config
from rawproxy.config.reading import Reading
from rawproxy.config.toml_file import Document
from rawproxy.discovery.joined_document import FragmentDocument, JoinedDocument
from rawproxy.discovery.source import Fragment, SourceError
from rawproxy.discovery.sources import sources_of
from rawproxy.errors import ConfigError
from rawproxy.telemetry.error_log import log

Name = tuple[str, str]  # of the source and of the fragment
TRIES = 32  # fragments that are tried one by one, where several are wrong together


def first(reading: Reading) -> Config | None:
    """The configuration at the start; None if the file names no source. Raises `ConfigError`."""
    good = joined(reading, [])
    return None if good is None else good.config


def joined(reading: Reading, kept: list[list[str | None]]) -> LastGood | None:
    """The state of all sources; None if the file names none. Raises `ConfigError`.

    `kept` is what another process gave by `LastGood.kept`: the last good state of what is wrong.
    """
    document = reading.document
    if document is None or not document.data.get("discovery"):
        return None
    good = LastGood(reading)
    if kept:
        good.take({(source or "", name or ""): _fragment(*rest) for source, name, *rest in kept})
    found, away = _found(document)
    for text in away:
        log.warning("%s; it is left out until it can be asked", text)
    good.take(found)
    return good


def _fragment(where: str | None, text: str | None, folder: str | None) -> Fragment:
    return Fragment(where or "", text or "", folder)


def whole(document: Document) -> Document:
    """The file and all fragments, with all of their mistakes. Raises `ConfigError`."""
    if not document.data.get("discovery"):
        return document
    found, away = _found(document)
    others, wrong = [], list(away)
    for fragment in found.values():
        try:
            others.append(FragmentDocument(fragment))
        except ConfigError as error:
            wrong += error.messages
    if wrong:
        raise ConfigError(*wrong)
    return JoinedDocument(document, others)


def _found(document: Document) -> tuple[dict[Name, Fragment], list[str]]:
    """What all sources know now, and why some could not be asked."""
    found: dict[Name, Fragment] = {}
    away: list[str] = []
    for one in sources_of(document):
        try:
            found |= {(one.name, name): fragment for name, fragment in one.now().items()}
        except SourceError as error:
            away.append(str(error))
    return found, away


@dataclass(frozen=True, slots=True)
class Broken:
    """A fragment that is not in force as it is now, and why."""

    fragment: Fragment | None  # None: it has gone, and others need what it brought
    reasons: tuple[str, ...]


class LastGood:
    """Each fragment in its last good state. Raises `ConfigError` for a file that is wrong."""

    def __init__(self, reading: Reading) -> None:
        if reading.document is None:
            raise ConfigError("--config is missing: a source is named in its file")
        self._reading = reading
        self._file = reading.document
        self._parsed: dict[Fragment, FragmentDocument] = {}
        self._usable: set[Certificate] = set()  # certificates that were loaded once
        self.sources = sources_of(self._file)
        self.good: dict[Name, Fragment] = {}  # what is in force
        self.broken: dict[Name, Broken] = {}
        self.config = self._built({})

    def take(self, wanted: Mapping[Name, Fragment]) -> bool:
        """All fragments as they are now; whether `config` is another one for it.

        What is wrong is then in `broken`, and said in the log once.
        """
        before, known = self.config, self.broken
        changed = [name for name in _names(wanted, self.good) if differs(wanted, self.good, name)]
        self.broken = {}
        self._settle(wanted, changed)
        for name, one in self.broken.items():
            if known.get(name) != one:
                self._say(name, one)
        for name in known.keys() - self.broken.keys():
            log.info("fragment %s is good again, or gone", name[1])
        used = {*self.good.values(), *wanted.values()}
        self._parsed = {one: made for one, made in self._parsed.items() if one in used}
        return self.config is not before

    def kept(self) -> list[list[str | None]]:
        """The last good state of fragments that are wrong now, for a process that comes after."""
        pairs = [(name, self.good[name]) for name in self.broken if name in self.good]
        return [[*name, one.where, one.text, one.folder] for name, one in pairs]

    def report(self) -> dict[str, Any]:
        """For metrics: by source, how many fragments are in force, and which are not, and why."""
        found: dict[str, Any] = {one.name: {"fragments": 0, "broken": {}} for one in self.sources}
        for source, _ in self.good:
            found.setdefault(source, {"fragments": 0, "broken": {}})["fragments"] += 1
        for (source, name), one in self.broken.items():
            broken = found.setdefault(source, {"fragments": 0, "broken": {}})["broken"]
            broken[name] = one.reasons[0]
        return found

    def _settle(self, wanted: Mapping[Name, Fragment], changed: list[Name]) -> None:
        """All changes at once if they fit, else as many as fit."""
        pending = list(changed)
        # Those that are named in the mistakes are put off, and the others tried again together.
        put_off: list[Name] = []
        while pending:
            reasons = self._try(wanted, pending)
            if reasons is None:
                break
            guilty = [name for name in pending if _named(wanted.get(name), reasons)]
            if not guilty:
                put_off += pending
                pending = []
            put_off += guilty
            pending = [name for name in pending if name not in guilty]
        # One may need what another brings, so it goes round as long as that helps.
        helped = True
        while helped and put_off:
            helped = False
            for name in put_off[:TRIES]:
                reasons = self._try(wanted, [name])
                if reasons is None:
                    put_off.remove(name)
                    helped = True
                else:
                    self.broken[name] = Broken(wanted.get(name), reasons)
        self.broken = {name: one for name, one in self.broken.items() if name in put_off}
        for name in put_off[TRIES:]:
            self.broken[name] = Broken(wanted.get(name), ("not tried: too many others are wrong",))

    def _try(
        self, wanted: Mapping[Name, Fragment], names: Iterable[Name]
    ) -> tuple[str, ...] | None:
        """Let the fragments called `names` be as `wanted`; else why that cannot be."""
        trial = dict(self.good)
        for name in names:
            trial.pop(name, None)
            if name in wanted:
                trial[name] = wanted[name]
        try:
            config = self._built(trial)
        except ConfigError as error:
            return error.messages
        self.good, self.config = trial, config
        return None

    def _built(self, fragments: Mapping[Name, Fragment]) -> Config:
        """Raises `ConfigError` with all mistakes."""
        others: list[FragmentDocument] = []
        wrong: list[str] = []
        for _, one in sorted(fragments.items()):
            try:
                if one not in self._parsed:
                    self._parsed[one] = FragmentDocument(one)
                others.append(self._parsed[one])
            except ConfigError as error:
                wrong += error.messages
        if wrong:
            raise ConfigError(*wrong)
        config = self._reading.config(JoinedDocument(self._file, others))
        fresh = [pair for pair in config.certificates() if pair not in self._usable]
        if fresh:
            from rawproxy.tls.server import ServerContext, load  # heavy, and not always needed

            for pair in fresh:
                load(ServerContext(ssl.PROTOCOL_TLS_SERVER), pair)
                self._usable.add(pair)
        return config

    def _say(self, name: Name, one: Broken) -> None:
        then = "its last good state stays" if name in self.good else "it is left out"
        if one.fragment is None:
            then = "it stays, as others need it"
        for reason in one.reasons:
            log.error("fragment %s: %s; %s", name[1], reason, then)


def _names(wanted: Mapping[Name, Fragment], good: Mapping[Name, Fragment]) -> list[Name]:
    return sorted(wanted.keys() | good.keys())


def differs(wanted: Mapping[Name, Fragment], good: Mapping[Name, Fragment], name: Name) -> bool:
    """Whether a fragment is another one now, or came, or went."""
    return wanted.get(name) != good.get(name)


def _named(fragment: Fragment | None, reasons: Iterable[str]) -> bool:
    """Whether a mistake is said to stand in this fragment."""
    return fragment is not None and any(one.startswith(f"{fragment.where}:") for one in reasons)
