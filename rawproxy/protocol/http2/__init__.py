"""HTTP/2 on the wire: frames, HPACK, fields and what a connection may cost (RFC 9113, RFC 7541).

This room never holds a connection. Invariant: a field block leads to the very head that HTTP/1.1
would give.

May import: config, errors, protocol.http.
"""
