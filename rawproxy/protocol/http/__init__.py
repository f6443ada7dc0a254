"""What both HTTP versions share: heads, their policy and rewriting, and our own answers.

This room never reads from a connection. Invariant: heads of both HTTP versions are rewritten by the
same code.

May import: config, errors, protocol.
"""
