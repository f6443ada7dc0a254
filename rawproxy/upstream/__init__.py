"""Our connections to servers: names and addresses, dialling, reading responses, probes, groups.

This room never sees a client. Invariant: a connection is in use, idle in its pool, or closed.

May import: config, errors, protocol, balancing, telemetry, net, tls.
"""
