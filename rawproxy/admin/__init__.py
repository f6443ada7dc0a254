"""What people look at: metrics, health, the status page, `rawproxy top`, `rawproxy explain`.

This room never changes what the proxy does. Invariant: its pages are served on a listener of their
own, which clients do not reach.

May import: config, errors, protocol, routing, telemetry, net, proxy.
"""
