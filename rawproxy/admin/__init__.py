"""What people look at: metrics, health, the status page, `rawproxy top`.

It never changes anything. Invariant: it is served on a listener of its own.

May import: config, protocol, telemetry, net, proxy.
"""
