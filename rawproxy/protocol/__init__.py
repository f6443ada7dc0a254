"""Bytes and what they mean: HTTP/1.1, HTTP/2, WebSocket, PROXY headers, the ClientHello.

It never does I/O and reads no clock. Invariant: everything here is a function of its arguments.

May import: errors.
"""
