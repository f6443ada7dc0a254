"""HTTP/1.1 on the wire: where a head stops, the two lanes that read it, the framing of bodies.

This room never rewrites a head. Invariant: what h11 accepts is the law; the fast lane accepts a
subset of it.

May import: config, errors, protocol, protocol.http.
"""
