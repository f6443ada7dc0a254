"""The servers behind the proxies: nginx for small answers and files, `bench.sink` for the rest.

It also makes what both sides need before anything starts: payloads, the OpenSSL configuration and a
certificate. It never starts a proxy; `peers` does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bench import client, payloads
from bench.peers import CIPHERS, GROUP, Lab, fill, nginx_path
from bench.procs import Proc, free_ports, spawn, wait_for_port


@dataclass
class Origins:
    """The origins of a run and their ports."""

    procs: list[Proc]
    nginx: int
    nginx_tls: int
    echo: int
    echo_tls: int
    client: int  # where the load client answers itself, while it runs

    def port(self, kind: str, tls: bool) -> int:
        """The port of origin `kind`: `nginx`, `client`, `echo` or `sink` (the one after echo's)."""
        if kind == "client":
            return self.client
        if kind == "nginx":
            return self.nginx_tls if tls else self.nginx
        return (self.echo_tls if tls else self.echo) + (kind == "sink")

    def close(self) -> None:
        for proc in self.procs:
            proc.close()


def prepare(work: Path) -> tuple[Path, Path]:
    """Write the payloads, the OpenSSL configuration and a P-256 certificate for both sides."""
    payloads.write_all(work)
    client.build(work)
    openssl_config(work)
    cert, key = _certificate()
    (work / "cert.pem").write_bytes(cert)
    (work / "key.pem").write_bytes(key)
    (work / "both.pem").write_bytes(cert + key)
    return work / "cert.pem", work / "key.pem"


def openssl_config(work: Path) -> Path:
    """Write the OpenSSL configuration of load generators and origins."""
    return fill("openssl.cnf", {"ciphers": CIPHERS, "group": GROUP}, {}, work / "openssl.cnf")


def _certificate() -> tuple[bytes, bytes]:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, payloads.HOST)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(payloads.HOST), x509.DNSName("localhost")])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    return cert.public_bytes(pem), secret


def start_origins(lab: Lab) -> Origins:
    """Start nginx for small answers and files, `bench.sink` for uploads, chunks and WebSockets."""
    plain, tls, echo, _sink, echo_tls, sink_tls, own = free_ports(7)
    values = {
        "work": str(lab.work),
        "cert": str(lab.cert),
        "key": str(lab.key),
        "plain": str(plain),
        "tls": str(tls),
        "ciphers": CIPHERS,
        "group": GROUP,
        "token": payloads.TOKEN,
    }
    config = fill("origin.nginx.conf", values, {}, lab.work / "origin.conf")
    argv = [nginx_path(), "-c", str(config), "-p", str(lab.work), "-e", "stderr"]
    nginx = spawn("origin", argv, lab.load_cores, lab.work / "origin.log")
    argv = [sys.executable, "-m", "bench.sink", str(echo), str(echo_tls)]
    argv += [str(lab.cert), str(lab.key)]
    log = lab.work / "sink.log"
    python = spawn("sink", argv, lab.load_cores, log, lab.load_env)
    origins = Origins([nginx, python], plain, tls, echo, echo_tls, own)
    wait_for_port(nginx, tls)
    wait_for_port(python, sink_tls)
    return origins
