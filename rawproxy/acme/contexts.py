"""The last word about the TLS context of the https listeners: TLS-ALPN-01, while it is looked for.

It never changes what a visitor is shown. Invariant: with nothing to answer, the context stays as it
was made.
"""

from __future__ import annotations

from rawproxy.acme import answers, tls_answers
from rawproxy.acme.settings import AcmeSettings
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config
from rawproxy.tls.server import ServerContext


def amend(config: Config, context: ServerContext) -> None:
    """Have `context` answer what the state folder says now."""
    told = dict(config.keepers).get("acme")
    if told is not None:
        tls_answers.amend(answers.folder_of(from_json(AcmeSettings, told).state), context)
