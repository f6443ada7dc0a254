"""The embedded upstream of `rawproxy demo`, which the README's first command runs.

It is never part of a proxy that serves. Invariant: it listens on loopback alone.

May import: config, tls.
"""
