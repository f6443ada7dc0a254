"""Our connections to the upstreams: names, dialling, reading of responses, probes, groups.

This room never sees a client. Invariant: each connection is in use, idle in its pool, or closed.

May import: config, errors, protocol, balancing, telemetry, net, tls.
"""
