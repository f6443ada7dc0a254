"""Names: what they mean, whatever their spelling."""

import itertools

import pytest

from rawproxy.config import field_names

SPEAKING = (
    b"host content-length transfer-encoding connection proxy proxy-foo x-forwarded-for x-forwarded-x"
    b" forwarded x-real-ip x-request-id ssl-client-verify x-ssl-client-cert x-ssl-cert client-cert"
    b" client-cert-chain x-client-cert tls-client-dn x-tls-client-dn x-arr-clientcert"
    b" x-amzn-mtls-clientcert x-forwarded-client-cert x-forwarded-tls-client-cert-info"
).split()
SILENT = (
    b"cookie ssl-clients client-certs x-client content-type sec-fetch-mode proxies x- -".split()
)


def spellings(name: bytes):
    """Every mixture of `-` and `_`."""
    for marks in itertools.product(b"-_", repeat=name.count(b"-")):
        parts = name.split(b"-")
        yield (
            b"".join(part + bytes((m,)) for part, m in zip(parts, marks, strict=False)) + parts[-1]
        )


@pytest.mark.parametrize("name", SPEAKING)
def test_rule_41_every_spelling_speaks(name):
    for twin in spellings(name):
        assert field_names.speaks(field_names.plain(twin))
        assert not field_names.may_trail(twin)


@pytest.mark.parametrize("name", SILENT)
def test_what_only_looks_alike(name):
    assert not field_names.speaks(name)
    assert not field_names.identifies(name)


@pytest.mark.parametrize("name", [b"grpc-status", b"x-sum", b"server-timing", b"x_sum"])
def test_what_may_trail(name):
    assert field_names.may_trail(name)


@pytest.mark.parametrize("name", [b"set-cookie", b"Set_Cookie".lower(), b"cache_control", b"te"])
def test_what_may_not(name):
    assert not field_names.may_trail(name)
