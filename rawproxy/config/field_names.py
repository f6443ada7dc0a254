"""Names of fields and what they mean to a proxy, however an application spells them.

CGI, WSGI and PHP make HTTP_X_REAL_IP of `X_Real_IP` and of `X-Real-IP`: to them both are the same
field. So a name is compared in its `plain` form, which has `-` for `_`. That holds for names that a
client sends and for those that a route sets or removes.

This module never sees a value. Invariant: spellings of a name that differ only in `-` and `_` get
the same answer.
"""

from __future__ import annotations

import re
from typing import Final

# The fields in which proxies tell an application who a client is, by its certificate: nginx and its
# ingress (and authentik behind them), HAProxy, RFC 9440, IIS, AWS. The names of Envoy and Traefik
# begin with X-Forwarded. In lower case, with what may stand behind each.
IDENTITY: Final = (
    rb"ssl-client-[^:_\r\n]*|tls-client-[^:_\r\n]*|client-cert(?:-[^:_\r\n]*)?"
    rb"|x-(?:ssl-[^:_\r\n]*|tls-client-[^:_\r\n]*|client-cert(?:-[^:_\r\n]*)?|arr-clientcert"
    rb"|amzn-mtls-[^:_\r\n]*|forwarded-(?:tls-)?client-cert(?:-[^:_\r\n]*)?)"
)
_IDENTIFIES: Final = re.compile(IDENTITY).fullmatch

# Fields that frame a message, belong to one connection, or say who sent it from where.
_SPEAKING: Final = frozenset(
    b"host connection content-length transfer-encoding upgrade expect keep-alive te trailer proxy "
    b"forwarded x-real-ip x-request-id".split()
)

# Fields that must not come as trailers (RFC 9110 6.5.1). A recipient that merges trailers into the
# headers would let them frame, route, authenticate or control a message that was checked before.
_NO_TRAILER: Final = frozenset(
    b"content-encoding content-type content-range via authorization authentication-info "
    b"www-authenticate cookie set-cookie cache-control expires date age vary pragma range "
    b"max-forwards if-match if-none-match if-modified-since if-unmodified-since if-range location "
    b"retry-after warning strict-transport-security".split()
)


def plain(name: bytes) -> bytes:
    """The one form of a name (lower case) that stands for all its spellings."""
    return name.replace(b"_", b"-")


def identifies(name: bytes) -> bool:
    """Whether the field `name` (plain) tells who a client is, by its certificate."""
    return _IDENTIFIES(name) is not None


def speaks(name: bytes) -> bool:
    """Whether `name` (plain) frames a message, forwards or identifies a client.

    No spelling of such a name passes.
    """
    return name in _SPEAKING or name.startswith((b"proxy-", b"x-forwarded-")) or identifies(name)


def may_trail(name: bytes) -> bool:
    """Whether the field `name` (lower case) is passed on as a trailer."""
    name = plain(name)
    return name not in _NO_TRAILER and not speaks(name)
