"""Which site and which route a request belongs to, and what that route leads to.

It never looks at an upstream's state. Invariant: the answer depends on Host and path alone.

May import: config, errors, protocol.http.
"""
