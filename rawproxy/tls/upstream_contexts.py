"""The TLS contexts towards the upstreams of a group: made once, shared by all of its addresses.

    strict     verifies chain and name: by the system's store, or by the bundle of --upstream-verify
    lenient    verifies nothing; what comes of it is judged by `upstream_trust`

To load the system's store takes 30 to 40 ms, in which a worker serves nobody; so an address that
appears while it runs must cost no context of its own. Sessions are kept elsewhere
(`upstream_trust`): a context that many addresses share must not offer the session of one to
another.

It never dials and never judges. Raises `ConfigError` for files that cannot be used.
"""

from __future__ import annotations

import functools
import ssl
from typing import Final

from rawproxy.config.model import Certificate, Group
from rawproxy.errors import ConfigError
from rawproxy.net.openssl.context_door import door
from rawproxy.tls.server import load, not_authorities, tell_ends_apart

ALPN: Final = ("http/1.1",)
# Devices of 2005 to 2015: whatever this OpenSSL still has, but nothing anonymous or unencrypted.
LEGACY: Final = "ALL:!aNULL:!eNULL:@SECLEVEL=0"
# ssl.OP_LEGACY_SERVER_CONNECT, which Python has a name for since 3.12: RFC 5746 is not insisted on.
UNSAFE_RENEGOTIATION: Final = 0x4
OLD_GROUPS: Final = b"X25519:P-256:P-384:P-521"
WORDS: Final = ("auto", "pin", "system", "off")  # of --upstream-verify; any other is a file's path


class Contexts:
    """Of one group: how its upstreams are verified (`verify`, `tls`) and what they are shown."""

    def __init__(
        self,
        verify: str = "auto",
        certificate: Certificate | None = None,
        tls: str = "intermediate",
    ) -> None:
        self.verify = verify
        self.certificate = certificate  # our own
        self.tls = tls

    @classmethod
    def of(cls, group: Group) -> Contexts:
        """As the group is configured."""
        return cls(group.verify, group.client_cert, group.tls)

    @functools.cached_property
    def strict(self) -> ssl.SSLContext:
        """Verifies chain and name."""
        context = self._client()
        if self.verify in WORDS:
            context.load_default_certs()
            return context
        try:
            context.load_verify_locations(self.verify)
        except OSError as error:  # SSLError is one
            why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(
                f"--upstream-verify {self.verify}: not a usable PEM bundle: {why}"
            ) from None
        # Whatever the admin put there is trusted as it stands, be it the leaf itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    @functools.cached_property
    def lenient(self) -> ssl.SSLContext:
        """Takes any certificate."""
        context = self._client()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def flaw(self) -> str:
        """What is wrong with the bundle, where certificates of it can sign nothing."""
        found = () if self.verify in WORDS else not_authorities(self.verify)
        return f"in {self.verify}, {found[0]}" if found else ""

    def _client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tell_ends_apart(context)
        if self.tls == "legacy":
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.set_ciphers(LEGACY)
            context.options |= UNSAFE_RENEGOTIATION
            # With a key of the hybrid group (OpenSSL 3.5) a ClientHello takes two packets, and some
            # devices of that time never answer one that does.
            door.set_groups(context, OLD_GROUPS)
        elif self.tls == "modern":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(ALPN)
        if self.certificate is not None:
            load(context, self.certificate, "--upstream-")
        return context
