"""HTTP/2 on the wire: frames, HPACK, fields, and what a client may cost (RFC 9113, RFC 7541).

This room never holds a connection. Invariant: a field block gives the same head that HTTP/1.1 would
give.

May import: config, errors, protocol.http.
"""
