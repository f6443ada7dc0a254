"""Contexts and trust: our certificates, those of clients, those of upstreams.

This room never holds a connection. Invariant: whom we trust is said here, never left to a library's
default.

May import: config, errors, net.openssl, routing, telemetry.
"""
