"""Authentication that is valid for a connection, not for a request: NTLM and Negotiate.

If a server has let one client in by them, it takes every later request on the same connection for a
request of that client (RFC 4559 6; RFC 9110 11.2 forbids it, but everybody does it). So an upstream
connection on which they are used belongs to one client connection, until either closes.

This module never sees a token. Invariant: a 401 that offers either of them is found, however its
offers are spread over fields.
"""

from __future__ import annotations

import re
from typing import Final

from rawproxy.protocol.http.head import ResponseHead

_OFFERED: Final = re.compile(
    rb"^www-authenticate:(?:[^\r\n]*[ ,])?(?:ntlm|negotiate)(?![^\s,])",
    re.IGNORECASE | re.MULTILINE,
).search


def binds(head: ResponseHead) -> bool:
    """Whether this 401 asks for a proof that will be valid for its connection."""
    return _OFFERED(head.block) is not None
