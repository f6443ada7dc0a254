"""What came of a case, in a few words. Pure: from what was seen to what is written in the table.

refused 400           the upstream never had a whole request; the client was told so
refused, closed       the same without an answer
forwarded             one request, every line of the client's among its lines
forwarded, changed    the same, but a line or the body is another or missing
forwarded as 2        the upstream had more requests than were meant
forwarded, broken     the upstream was given what h11 does not take for a request
answered 200          by the proxy itself
waits                 for more; nothing came in time
"""

from typing import NamedTuple

from .cases import H2, Answer, Case
from .client import PROBE, Outcome, Said

GATEWAY = ("500", "502", "503", "504")


class Facts(NamedTuple):
    """What client and upstream saw of a case."""

    outcome: Outcome
    requests: list[bytes]  # whole ones, probes included
    partial: list[bytes]
    broken: list[bytes]

    @property
    def meant(self) -> list[bytes]:
        """The requests that are not probes."""
        return [raw for raw in self.requests if target(raw) != PROBE]


def target(raw: bytes) -> bytes:
    """The target in a request line."""
    return raw.split(b" ", 2)[1]


def of_case(case: Case, facts: Facts) -> str:
    """The verdict of a request."""
    requests, own = facts.meant, [said for said in facts.outcome.said if not said.seen]
    if not requests:
        return "forwarded, broken" if facts.broken else _unforwarded(facts.outcome, own)
    if len(requests) > max(1, len(case.seen)):
        words = f"forwarded as {len(requests)}"
    elif len(requests) == max(1, len(case.seen)) and _same(case, requests[0]):
        words = "forwarded"
    else:
        words = "forwarded, changed"
    if facts.broken:
        words += ", then broken"
    elif own:
        words += f", then {own[-1].status}"
    elif not facts.outcome.probed and not facts.outcome.ended:
        words += ", then waits"
    return words


def _unforwarded(outcome: Outcome, own: list[Said]) -> str:
    if own:
        word = "answered" if own[0].status < "400" else "refused"
        return f"{word} {own[0].status}"
    return "refused, closed" if outcome.ended else "waits"


def _same(case: Case, request: bytes) -> bool:
    """Whether the upstream was given what the client said, line by line."""
    start, lines, body = parts(request)
    said_start, said_lines, said_body = parts_h2(case.raw) if case.front == H2 else parts(case.raw)
    whole = len(case.seen) > 1 or body == said_body
    return start == said_start and said_lines <= lines and whole


def parts(raw: bytes) -> tuple[bytes, set[bytes], bytes]:
    """Start line, field lines in one spelling, and the rest; whatever they are worth."""
    head, _, body = raw.lstrip(b"\r\n").partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    return start, {_spelling(*line.partition(b":")[::2]) for line in lines}, body


def parts_h2(raw: bytes) -> tuple[bytes, set[bytes], bytes]:
    """The same of the frames of a stream, as `cases.stream` writes them."""
    fields: list[tuple[bytes, bytes]] = []
    body = b""
    at = 0
    while at < len(raw):
        size, kind = int.from_bytes(raw[at : at + 3], "big"), raw[at + 3]
        payload = raw[at + 9 : at + 9 + size]
        at += 9 + size
        if kind == 0:
            body += payload
        elif not fields:
            fields = _literals(payload)
    values = dict(fields)
    start = b"%b %b HTTP/1.1" % (values.get(b":method", b""), values.get(b":path", b""))
    return start, {_spelling(n, v) for n, v in fields if n[:1] != b":"}, body


def _literals(block: bytes) -> list[tuple[bytes, bytes]]:
    texts = []
    at = 0
    while at < len(block):
        at += len(texts) % 2 == 0  # the byte that says: literal
        size, shift = block[at], 0
        at += 1
        while size >= 127 and shift is not None:
            size += (block[at] & 127) << shift
            shift, at = (shift + 7, at + 1) if block[at] & 128 else (None, at + 1)
        texts.append(block[at : at + size])
        at += size
    return list(zip(texts[::2], texts[1::2], strict=True))


def _spelling(name: bytes, value: bytes) -> bytes:
    return name.strip().lower() + b":" + value.strip()


def of_answer(case: Answer, outcome: Outcome) -> str:
    """The verdict of a response."""
    whole = [said for said in outcome.said if said.seen != PROBE]
    data = outcome.data
    if not whole:
        if not data:
            return "refused, closed" if outcome.ended else "waits"
        return "passed, cut" if outcome.ended else "passed, then waits"
    if whole[0].status in GATEWAY and f" {whole[0].status}".encode() not in case.raw[:20]:
        return f"refused {whole[0].status}"
    if len(whole) > 1:
        return "poisoned"
    start, lines, body = parts(case.raw)
    client_start, client_lines, client_body = parts(data)
    rest = client_body.partition(b"HTTP/1.1 200 OK\r\n")[0] if outcome.probed else client_body
    same = start == client_start and lines <= client_lines and rest == body
    return "passed" if same else "passed, changed"
