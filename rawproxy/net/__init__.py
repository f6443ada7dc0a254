"""Bytes on sockets: listening, readiness, backpressure, TLS records.

This room never reads HTTP. Invariant: whatever uses a private part of Python's `ssl` stands here.

May import: config, errors.
"""
