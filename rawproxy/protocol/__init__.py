"""Bytes and their meaning: HTTP/1.1, HTTP/2, WebSocket, PROXY headers, the ClientHello.

Each HTTP version and WebSocket have a room within this one; `http` is what both versions share.
This room never does I/O and never reads a clock. Invariant: the same bytes always give the same
answer.

May import: errors.
"""
