"""WebSocket: what an upgrade must look like, and where a frame ends (RFC 6455).

This room never reads the content of a message. Invariant: bytes are counted, never changed.

May import: errors, protocol.http.
"""
