"""WebSocket: what an upgrade must look like, where a frame ends (RFC 6455).

This room never reads what a message says. Invariant: bytes are counted, never changed.

May import: errors, protocol.http.
"""
