"""Names of fields: what they mean to a proxy, in whatever spelling an application takes them.

To CGI, WSGI and PHP `X_Real_IP` is `X-Real-IP`: both become HTTP_X_REAL_IP. A name with an
underscore is therefore judged by its `plain` form, and so is what a route sets or removes.

It never sees a value. Invariant: every function gives the same answer for all spellings of a name
that differ in `-` and `_` alone.
"""

from __future__ import annotations

import re
from typing import Final

# Who a client is, by its certificate, as the others who speak TLS in front of applications say it:
# nginx and its ingress (and authentik behind them), HAProxy, RFC 9440, IIS, AWS; Envoy's and
# Traefik's names begin with X-Forwarded. Lower case, and what may stand behind it.
IDENTITY: Final = (
    rb"ssl-client-[^:_\r\n]*|tls-client-[^:_\r\n]*|client-cert(?:-[^:_\r\n]*)?"
    rb"|x-(?:ssl-[^:_\r\n]*|tls-client-[^:_\r\n]*|client-cert(?:-[^:_\r\n]*)?|arr-clientcert"
    rb"|amzn-mtls-[^:_\r\n]*|forwarded-(?:tls-)?client-cert(?:-[^:_\r\n]*)?)"
)
_IDENTIFIES: Final = re.compile(IDENTITY).fullmatch

# What frames a message, belongs to one connection, or says who sent it from where.
_SPEAKING: Final = frozenset(
    b"host connection content-length transfer-encoding upgrade expect keep-alive te trailer proxy "
    b"forwarded x-real-ip x-request-id".split()
)

# Fields a trailer must not bring (RFC 9110 6.5.1): a recipient that merges trailers into headers
# would let them frame, route, authenticate or control a message that was already judged.
_NO_TRAILER: Final = frozenset(
    b"content-encoding content-type content-range via authorization authentication-info "
    b"www-authenticate cookie set-cookie cache-control expires date age vary pragma range "
    b"max-forwards if-match if-none-match if-modified-since if-unmodified-since if-range location "
    b"retry-after warning strict-transport-security".split()
)


def plain(name: bytes) -> bytes:
    """A name (lower case) as all its twins are spelled."""
    return name.replace(b"_", b"-")


def identifies(name: bytes) -> bool:
    """Whether a field called `name` (plain) tells who a client is, by its certificate."""
    return _IDENTIFIES(name) is not None


def speaks(name: bytes) -> bool:
    """Whether `name` (plain) frames, forwards or identifies: then no twin of it passes."""
    return name in _SPEAKING or name.startswith((b"proxy-", b"x-forwarded-")) or identifies(name)


def may_trail(name: bytes) -> bool:
    """Whether the field `name` (lower case) is passed on as a trailer."""
    name = plain(name)
    return name not in _NO_TRAILER and not speaks(name)
