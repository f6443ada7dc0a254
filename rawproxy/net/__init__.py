"""Bytes on sockets: listening, readiness, backpressure, TLS records.

This room never reads HTTP. Invariant: nobody watches a descriptor that is closed.

May import: config, errors, net.openssl.
"""
