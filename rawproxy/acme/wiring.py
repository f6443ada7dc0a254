"""What a worker has of this room: plain listeners answer HTTP-01 before anything else is asked.

It never writes to the state folder. Invariant: a request for a token that nobody has put down goes
on as if this room were not there, to a site's own client perhaps.
"""

from __future__ import annotations

from collections.abc import Callable

from rawproxy.acme import answers
from rawproxy.acme.settings import AcmeSettings
from rawproxy.config.json_codec import from_json
from rawproxy.errors import ignore
from rawproxy.protocol.http.head import RequestHead
from rawproxy.proxy.service import Service


def install(service: Service, memory: int | None) -> Callable[[], object]:
    """Have the plain listeners answer; what is returned ends that."""
    told = dict(service.config.keepers).get("acme")
    if told is None:
        return ignore
    folder = answers.folder_of(from_json(AcmeSettings, told).state)

    def answer(head: RequestHead) -> bytes | None:
        if head.method not in (b"GET", b"HEAD"):
            return None
        return answers.answer_to(folder, head.target)

    service.plain_answer = answer
    return ignore
