"""The TLS contexts for the upstreams of a group. All addresses of the group share them.

    strict     verifies chain and name: by the system's store, or by the bundle of --upstream-verify
    lenient    verifies nothing: `upstream_trust` judges the certificate afterwards

To load the system's store takes 30 to 40 ms, and the worker serves nobody meanwhile. So an address
that appears while the worker runs must not need a context of its own. `upstream_trust` keeps the
sessions: a context that many addresses share must not offer the session of one to another.

This module never dials and never judges. Raises `ConfigError` for files that cannot be used.
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
# For devices of 2005 to 2015: all suites of this OpenSSL but anonymous and unencrypted ones.
LEGACY: Final = "ALL:!aNULL:!eNULL:@SECLEVEL=0"
# ssl.OP_LEGACY_SERVER_CONNECT, a name that Python has since 3.12: RFC 5746 is not required.
UNSAFE_RENEGOTIATION: Final = 0x4
OLD_GROUPS: Final = b"X25519:P-256:P-384:P-521"
WORDS: Final = ("auto", "pin", "system", "off")  # of --upstream-verify; all else is a path


class Contexts:
    """The contexts of one group. `certificate` is ours, which its upstreams see."""

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
        """The contexts for the configuration of `group`."""
        return cls(group.verify, group.client_cert, group.tls)

    @functools.cached_property
    def strict(self) -> ssl.SSLContext:
        """The context that verifies chain and name."""
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
        # What the admin put there is trusted as it is, even if it is the leaf itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    @functools.cached_property
    def lenient(self) -> ssl.SSLContext:
        """The context that takes any certificate."""
        context = self._client()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def flaw(self) -> str:
        """What is wrong with the bundle, if certificates in it cannot sign others; else empty."""
        found = () if self.verify in WORDS else not_authorities(self.verify)
        return f"in {self.verify}, {found[0]}" if found else ""

    def _client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tell_ends_apart(context)
        if self.tls == "legacy":
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.set_ciphers(LEGACY)
            context.options |= UNSAFE_RENEGOTIATION
            # With a key of the hybrid group (OpenSSL 3.5) a ClientHello takes two packets. Some
            # devices of that time never answer such a one.
            door.set_groups(context, OLD_GROUPS)
        elif self.tls == "modern":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(ALPN)
        if self.certificate is not None:
            load(context, self.certificate, "--upstream-")
        return context
