"""The embedded upstream of `rawproxy demo`, which `make run` starts.

This room is never part of a proxy that serves. Invariant: unless told otherwise, it listens on
loopback alone.

May import: config, net, tls, admin.
"""
