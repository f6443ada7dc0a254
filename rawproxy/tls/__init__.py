"""TLS contexts, and whom we trust: our certificates, those of clients, those of upstreams.

This room never holds a connection. Invariant: this room decides whom we trust; no default of a
library does.

May import: config, errors, net.openssl, routing, telemetry.
"""
