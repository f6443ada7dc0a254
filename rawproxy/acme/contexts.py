"""The last word about the TLS context of the https listeners.

    TLS-ALPN-01    while an authority looks for it
    on demand      names that nobody has listed, if a URL says who may

It never changes what a visitor of a name that is listed is shown.
Invariant: with nothing to answer, the context stays as it
was made.
"""

from __future__ import annotations

from collections.abc import Callable

from rawproxy.acme import answers, tls_answers
from rawproxy.acme.on_demand import OnDemand
from rawproxy.acme.settings import AcmeSettings
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config
from rawproxy.tls.server import ServerContext

_demands: dict[AcmeSettings, OnDemand] = {}  # one, as a process has one configuration


def amend(config: Config, context: ServerContext, fresh: Callable[[], ServerContext]) -> None:
    """Have `context` answer what the state folder says now."""
    told = dict(config.keepers).get("acme")
    if told is None:
        return
    settings = from_json(AcmeSettings, told)
    if settings.ask is not None:
        if settings not in _demands:
            _demands[settings] = OnDemand(settings)
        _demands[settings].amend(context, fresh)
    tls_answers.amend(answers.folder_of(settings.state), context)
