"""The responses that rawproxy makes itself: short pages in HTML, JSON or plain text.

They say what happened and give a request id; the log line with that id names the cause. They never
show where an upstream is. Invariants: whatever they show of a request is escaped for their format.
What a page costs does not depend on the request.
"""

from __future__ import annotations

import functools
import html
import json
import re
from http import HTTPStatus
from typing import Final

# RFC 9110 15 renamed some of them. The names in the standard library depend on its version.
REASONS: dict[int, bytes] = {
    **{status.value: status.phrase.encode() for status in HTTPStatus},
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    421: b"Misdirected Request",
    422: b"Unprocessable Content",
}
_SENTENCES = {
    400: "The request could not be understood.",
    404: "There is nothing here.",
    408: "The request did not come to its end in time.",
    413: "The request is too large.",
    414: "The address is too long.",
    417: "The request expects something that is not offered here.",
    421: "No site of this name is served here.",
    426: "The client must use another protocol.",
    431: "The request's header fields are too large.",
    500: "Something went wrong here.",
    501: "This is not implemented here.",
    502: "The site behind this server could not be reached or gave an invalid answer.",
    503: "The site is too busy right now. Please try again in a moment.",
    504: "The site behind this server did not answer in time.",
    505: "This version of HTTP is not spoken here.",
}
_HTML = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {reason}</title>
<style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;\
margin:15vh auto;padding:0 1rem}}h1{{font-size:1.5rem}}p{{margin:.5rem 0}}\
small{{opacity:.7}}code{{font-size:.9em}}</style>
<h1>{status} {reason}</h1>
<p>{sentence}</p>{hint}
<p><small>Request id <code>"""
_HTML_END = b"</code></small></p>\n</html>\n"
# Only so much of an Accept field is looked at. No client needs more to say that it wants HTML, and
# an error must not cost more than the request. Browsers send 140 bytes with eight ranges.
ACCEPT: Final = 1024  # bytes
RANGES: Final = 32
# Pages without their request's id, and fields of Accept, that are remembered: few are usual. With
# these bounds they are some 700 KB at most. A refusal must not cost more than what it saves.
KEPT: Final = 256
_RANGE: Final = re.compile(r"([0-9A-Za-z_*.+-]+)/([0-9A-Za-z_*.+-]+)").fullmatch
_WEIGHT: Final = re.compile(r"[01](?:\.[0-9]{0,3})?").fullmatch  # RFC 9110 12.4.2
HTML, JSON, TEXT = "text/html", "application/json", "text/plain"
_OFFERS = (TEXT, HTML, JSON)  # in the order of our preference, for curl and `Accept: */*`


def render(status: int, accept: bytes, request_id: str, hint: str = "") -> tuple[bytes, bytes]:
    """The Content-Type and the body of an error page, in the format that `accept` prefers."""
    kind = negotiate(accept)
    content_type, before, behind = _parts(status, kind, hint)
    if kind == JSON:
        request_id = json.dumps(request_id)
    elif kind == HTML and not request_id.isalnum():
        request_id = html.escape(request_id)
    return content_type, b"%b%b%b" % (before, request_id.encode("utf-8", "replace"), behind)


@functools.lru_cache(KEPT)
def _parts(status: int, kind: str, hint: str) -> tuple[bytes, bytes, bytes]:
    """The Content-Type, and the page in two parts: the request's id goes between them."""
    reason = REASONS[status].decode()
    sentence = _SENTENCES.get(status, reason + ".")
    if kind == JSON:
        facts = {"status": status, "error": reason, "message": sentence}
        before = json.dumps(facts).removesuffix("}") + ', "request_id": '
        behind = f', "hint": {json.dumps(hint)}}}\n' if hint else "}\n"
        return b"application/json", before.encode(), behind.encode()
    if kind == HTML:
        page = _HTML.format(
            status=status,
            reason=html.escape(reason),
            sentence=html.escape(sentence),
            hint=f"<p>{html.escape(hint)}</p>" if hint else "",
        )
        return b"text/html; charset=utf-8", page.encode("utf-8", "replace"), _HTML_END
    lines = [f"{status} {reason}", sentence, *([hint] if hint else []), "Request id "]
    return b"text/plain; charset=utf-8", "\n".join(lines).encode("utf-8", "replace"), b"\n"


def length_line(status: int, page: bytes) -> bytes:
    """The Content-Length line of our own response; a 204 has none (RFC 9110 8.6)."""
    return b"" if status == 204 else b"Content-Length: %d\r\n" % len(page)


def negotiate(accept: bytes) -> str:
    """The media type of the response (RFC 9110 12.5.1); plain text if nothing fits."""
    return _negotiated(accept[:ACCEPT])


@functools.lru_cache(KEPT)
def _negotiated(accept: bytes) -> str:
    parts = accept.decode("latin-1").lower().split(",", RANGES)[:RANGES]
    ranges = [found for part in parts if (found := _range(part)) is not None]
    best, best_quality = TEXT, 0.0
    for offer in _OFFERS:
        quality = _quality(offer, ranges)
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def _range(text: str) -> tuple[str, str, float] | None:
    """Type, subtype and weight of one element of Accept; None if it is malformed."""
    kind, *parameters = text.split(";")
    match = _RANGE(kind.strip())
    if match is None:
        return None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q" and _WEIGHT(value.strip()):
            return match[1], match[2], float(value)
    return match[1], match[2], 1.0


def _quality(offer: str, ranges: list[tuple[str, str, float]]) -> float:
    """The weight that Accept gives to `offer`: that of the most specific range."""
    specific, quality = -1, 0.0
    kind, _, sub = offer.partition("/")
    for range_kind, range_sub, weight in ranges:
        if range_kind not in (kind, "*") or range_sub not in (sub, "*"):
            continue
        rank = (range_kind != "*") + (range_sub != "*")
        if rank > specific:
            specific, quality = rank, weight
    return quality


def redirect(location: bytes) -> tuple[bytes, bytes]:
    """Lines and page of a redirect. The page is for people whose client does not follow it."""
    where = html.escape(location.decode("latin-1"))
    lines = b"Location: %b\r\nContent-Type: text/html; charset=utf-8\r\n" % location
    return lines, f'<!doctype html><title>Moved</title><a href="{where}">{where}</a>\n'.encode()
