"""HTTP/1.1 on the wire: where a head ends, the two lanes that read it, how bodies are framed.

This room never rewrites a head. Invariant: what h11 accepts is the law. The fast lane accepts a
subset of it.

May import: config, errors, protocol, protocol.http.
"""
