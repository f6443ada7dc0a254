r"""The recognisers of the fast lane: in one pass over a head they find, check and note.

    of a request                     of a response
    ───────────────────────────────  ──────────────────────────────────
    where the head ends              the same
    method                           status, as a number
    target                           where the reason ends
    Host                             Content-Length, as a number
    where a line begins:             where a line begins:
      Connection: keep-alive, close    Connection: keep-alive, close
    Content-Length, as a number        Transfer-Encoding: chunked
    where a line begins:               Date
      Transfer-Encoding: chunked
    whether any other field means    the same
      something to a proxy

What begins nowhere, and a number that there is none of, is -1. `LOGGED_REQUEST` also finds what an
access log shows of a request, which takes a sixth of its time more: before the last come the values
of User-Agent, Referer and Authorization there; None is none.

They accept a strict subset: HTTP/1.1, no folded line, plain tokens, one space after the colon; but
values may have a DEL, for which `parser` looks. They do not judge what they do not accept. They
never see a limit. Invariant: there is at most one way to match a line. So a head that fails at its
end fails in a time proportional to its length. With two ways, the time would be 2 to the number of
lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from rawproxy.protocol import regex
from rawproxy.protocol.http import log_fields

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# One space, and a value that neither begins nor ends with a blank. It has visible signs and blanks;
# tabs, which nobody sends, are left to the reference lane. DEL is no such sign, but to tell that
# here takes a fifth of the time of a long value: `parser` looks for it in the lines, which it keeps
# anyway. A class that says what it is not takes PCRE2 a sixth less for a head, and `re` a fifth
# more.
_TEXT = rb"[ -\xff]" if regex.pcre2 is None else rb"[^\0-\x1f]"
DELETE: Final = 0x7F
_REST = _TEXT + rb"*+(?<! )"
_VALUE = rb": (?:[!-~\x80-\xff]" + _REST + rb"|)"
_LINE = TOKEN + rb"++" + _VALUE
_REQUEST_LINE = rb"(?!CONNECT )([A-Z]{1,20}+) (/[!-\"$-~]*+) HTTP/1\.1"
_STATUS_LINE = rb"HTTP/1\.1 ([1-9][0-9][0-9]) ([!-~\x80-\xff]*+(?: [!-~\x80-\xff]++)*)"
# A name with an underscore always matters: for CGI it is another name (RFC 3875 4.1.18).
_PLAIN = rb"[!#$%&'*+.^`|~0-9A-Za-z-]"
# First letters of names that mean nothing here. They decide for most of a browser's names. Many
# begin with S and A (Sec-…, Accept-…). Of these only SSL-Client-… and Authorization count, which
# the second letter shows.
_SECOND = rb"[!#$%&'*+.^`|~0-9A-RTV-Za-rtv-z-]"
_OTHER_REQUEST_INITIALS = rb"[!#$%&'*+.^`|~0-9ABDGIJL-OQ-SVWYZabdgijl-oq-svwyz-]" + _SECOND
_UNDERSCORED = _PLAIN + rb"*+_" + TOKEN + rb"*+"
# `field_names.IDENTITY` is here again, so that each name is tried only after its first letter.
_NOTED_REQUEST_NAMES = (
    rb"[cC](?i:onnection|ontent-length|lient-cert)|[cC](?i:lient-cert-)[^:\r\n]*+|[hH](?i:ost)"
    rb"|[tT](?i:ransfer-encoding|e)|[tT](?i:ls-client-)[^:\r\n]*+|[uU](?i:pgrade)"
    rb"|[eE](?i:xpect)|[kK](?i:eep-alive)|[pP](?i:roxy)(?:-[^:\r\n]*+)?|[fF](?i:orwarded)"
    rb"|[sS](?i:sl-client-)[^:\r\n]*+|[aA](?i:uthorization)(?=: [nN])"
    rb"|[xX]-(?i:real-ip|arr-clientcert)"
    rb"|[xX]-(?i:forwarded-|ssl-|tls-client-|client-cert|amzn-mtls-)[^:\r\n]*+"
)
# The same, if there is an access log.
_UNLOGGED_REQUEST_INITIALS = rb"[!#$%&'*+.^`|~0-9ABDGIJL-OQSVWYZabdgijl-oqsvwyz-]" + _SECOND
_OTHER_RESPONSE_INITIALS = rb"[!#$%&'*+.^_`|~0-9ABE-JL-OQRV-Zabe-jl-oqrv-z-]"
_NOTED_RESPONSE_NAMES = (
    rb"[cC](?i:onnection|ontent-length)|[tT](?i:ransfer-encoding|e)|[uU](?i:pgrade)|[dD](?i:ate)"
    rb"|[kK](?i:eep-alive)|[pP](?i:roxy-)[^:\r\n]*+|[sS](?i:trict-transport-security)"
)
# The usual forms of the usual fields, once each: the group that must not be set yet, and the line.
_Usual = tuple[tuple[int, bytes], ...]
_Match = Callable[[bytes, int], re.Match[bytes] | None]
_USUAL_IN_REQUEST: _Usual = (
    # Only ports that need no further look.
    (3, rb"[Hh]ost: ([0-9A-Za-z._~-]{1,255}+(?::(?:[1-5][0-9]{0,4}+|[6-9][0-9]{0,3}+))?)"),
    (4, rb"([Cc]onnection: (?:[Kk]eep-[Aa]live|[Cc]lose))"),
    (5, rb"[Cc]ontent-[Ll]ength: ([0-9]{1,18}+)"),
    (6, rb"([Tt]ransfer-[Ee]ncoding: chunked)"),
)
_USUAL_IN_LOG: _Usual = tuple(
    (group, name + rb"([!-~\x80-\xff]" + _REST + rb"|)")
    for group, name in enumerate(
        (rb"[Uu]ser-[Aa]gent: ", rb"[Rr]eferer: ", rb"[Aa]uthorization: (?![nN])"), 7
    )
)
_USUAL_IN_RESPONSE: _Usual = (
    (3, rb"[Cc]ontent-[Ll]ength: ([0-9]{1,18}+)"),
    (4, rb"([Cc]onnection: (?:[Kk]eep-[Aa]live|[Cc]lose))"),
    (5, rb"([Tt]ransfer-[Ee]ncoding: chunked)"),
    (6, rb"([Dd]ate: )[!-~]" + _REST),
)


def _recogniser(
    line: bytes,
    initials: bytes,
    noted: bytes,
    usual: _Usual,
    kinds: bytes,
    by_re: regex.ByRe,
    odd: bytes = b"",
) -> regex.Reader:
    """A recogniser of whole heads that need no second look.

     `odd`: names that are noted too, and that no name of plain signs can be.

     A line begins with the CRLF of the line before it. That is a quarter faster than a line that
    ends with its own. What most lines are is tried first: fields that mean nothing here, most of
    which differ by their first letter; then the usual fields. The last group notes the rest.
    """
    end = rb"(?=\r\n)"
    token = _PLAIN if odd else TOKEN
    quick = initials + token + rb"*+" + _VALUE
    once = rb"|".join(rb"(?(%d)(?!))%b%b" % (group, form, end) for group, form in usual)
    forms = rb"|".join(form.replace(b"(", b"(?:").replace(b"(?:?", b"(?") for _, form in usual)
    seldom = noted + b"|" + odd if odd else noted
    other = rb"(?=(?:%b):)(?!(?:%b)%b)()%b" % (seldom, forms, end, _LINE)
    unnoted = token + rb"++" + _VALUE
    one = rb"%b|(?!%b|(?:%b):)%b|%b|%b" % (quick, initials, noted, unnoted, once, other)
    whole = rb"%b(?:\r\n(?:%b))%b\r\n\r\n" % (line, one, regex.MANY)
    return regex.reader(whole, kinds, by_re)


def _request_by_re(match: _Match) -> regex.Reader:
    def read(data: bytes, at: int) -> tuple[Any, ...] | None:
        found = match(data, at)
        if found is None:
            return None
        method, target, host, connection, length, chunked, other = found.groups()
        return (
            found.end(),
            method,
            target,
            host,
            -1 if connection is None else found.start(4),
            -1 if length is None else int(length),
            -1 if chunked is None else found.start(6),
            -1 if other is None else found.start(7),
        )

    return read


def _logged_by_re(match: _Match) -> regex.Reader:
    def read(data: bytes, at: int) -> tuple[Any, ...] | None:
        found = match(data, at)
        if found is None:
            return None
        method, target, host, _, length, _, agent, referer, authorization, _ = found.groups()
        start = found.start
        digits = -1 if length is None else int(length)
        usual = found.end(), method, target, host, start(4), digits, start(6)
        return *usual, agent, referer, authorization, start(10)

    return read


def _response_by_re(match: _Match) -> regex.Reader:
    def read(data: bytes, at: int) -> tuple[Any, ...] | None:
        found = match(data, at)
        if found is None:
            return None
        # To ask for a place takes a call, and most groups are not set.
        status, _, length, connection, chunked, date, other = found.groups()
        return (
            found.end(),
            int(status),
            found.end(2),
            -1 if length is None else int(length),
            -1 if connection is None else found.start(4),
            -1 if chunked is None else found.start(5),
            -1 if date is None else found.start(6),
            -1 if other is None else found.start(7),
        )

    return read


REQUEST = _recogniser(
    _REQUEST_LINE,
    _OTHER_REQUEST_INITIALS,
    _NOTED_REQUEST_NAMES,
    _USUAL_IN_REQUEST,
    b"bbbsnss",
    _request_by_re,
    _UNDERSCORED,
)
LOGGED_REQUEST = _recogniser(
    _REQUEST_LINE,
    _UNLOGGED_REQUEST_INITIALS,
    _NOTED_REQUEST_NAMES + b"|" + log_fields.NAMES,
    _USUAL_IN_REQUEST + _USUAL_IN_LOG,
    b"bbbsnsbbbs",
    _logged_by_re,
    _UNDERSCORED,
)
RESPONSE = _recogniser(
    _STATUS_LINE,
    _OTHER_RESPONSE_INITIALS,
    _NOTED_RESPONSE_NAMES,
    _USUAL_IN_RESPONSE,
    b"nenssss",
    _response_by_re,
)
