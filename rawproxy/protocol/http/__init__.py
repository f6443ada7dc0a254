"""What both HTTP versions share: heads, their policy and rewriting, and our own answers.

It never reads from a connection. Invariant: one rewriting serves both HTTP versions.

May import: config, errors, protocol.
"""
