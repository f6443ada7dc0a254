"""Bytes on sockets: listening, readiness, backpressure, TLS records.

This room never reads HTTP. Invariant: a descriptor that is closed is watched by nobody.

May import: config, errors, net.openssl.
"""
