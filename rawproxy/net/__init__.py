"""Bytes on sockets: listening, readiness, backpressure, TLS records.

It never reads HTTP. Invariant: whatever reaches under Python's `ssl` stands here.

May import: config, errors.
"""
