"""What both HTTP versions share: heads, the policy for them, rewriting, and our own responses.

This room never reads from a connection. Invariant: the same code rewrites the heads of both HTTP
versions.

May import: config, errors, protocol.
"""
