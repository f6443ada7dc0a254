"""The authority of the upstreams in `upstream_peers`, as a file."""

import pytest

from tests.unit.tls.upstream_peers import CA


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def store(bundle, monkeypatch):
    """The system's store, as OpenSSL finds it, is our CA."""
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
