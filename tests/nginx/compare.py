"""What must be the same of two answers, and what differs on purpose. Pure."""

import re

from tests.nginx.stand import CLAIMED, OF_REQUESTS, OF_RESPONSES, Seen

OWN_PAGE = b"<center>nginx"  # an answer that the proxy makes itself: its page is its own
ADDED = {200, 201, 204, 206, 301, 302, 303, 304, 307, 308}  # where add_header adds without `always`


def difference(theirs: Seen, ours: Seen, ports: tuple[dict[str, int], dict[str, int]]) -> str:
    """What differs, in a line; empty where it is the same."""
    theirs = _same_ports(theirs, *ports)
    line = theirs.line.replace(" HTTP/1.0", " HTTP/1.1")
    if line != ours.line:
        return f"upstream was asked {line!r} and {ours.line!r}"
    if theirs.status != ours.status:
        return f"status {theirs.status} and {ours.status}"
    for name in sorted(theirs.fields.keys() | ours.fields.keys()):
        expected, got = theirs.fields.get(name), ours.fields.get(name)
        if name == "connection" or expected == got:
            continue
        if name not in OF_REQUESTS or expected not in (None, CLAIMED):
            return f"request {name}: {expected!r} and {got!r}"
    return _of_answers(theirs, ours)


def _of_answers(theirs: Seen, ours: Seen) -> str:
    own = not theirs.line and (not theirs.body or OWN_PAGE in theirs.body)
    skipped = OF_RESPONSES | (
        {"content-type", "content-length", "x-content-type-options"} if own else set()
    )
    for name in sorted(theirs.answer.keys() | ours.answer.keys()):
        expected, got = theirs.answer.get(name), ours.answer.get(name)
        if name in skipped or expected == got:
            continue
        relative = own or (got or "").startswith("/")
        if name == "location" and relative and _path(expected) == _path(got):
            continue  # no host, or the one that was asked for with its port, on purpose
        if expected is None and theirs.status not in ADDED:
            continue  # added whatever the status, on purpose
        return f"response {name}: {expected!r} and {got!r}"
    return "" if own or theirs.body == ours.body else f"body {theirs.body!r} and {ours.body!r}"


def _path(location: str | None) -> str:
    return re.sub(r"^https?://[^/]+", "", location or "")


def _same_ports(seen: Seen, theirs: dict[str, int], ours: dict[str, int]) -> Seen:
    """nginx's listeners have other ports than ours; what names one names ours."""

    def moved(text: str) -> str:
        for name, port in theirs.items():
            text = re.sub(rf"\b{port}\b", str(ours[name]), text)
        return text

    return seen._replace(
        line=moved(seen.line),
        fields={name: moved(value) for name, value in seen.fields.items()},
        answer={name: moved(value) for name, value in seen.answer.items()},
        body=moved(seen.body.decode("latin-1")).encode("latin-1"),
    )
