"""Contexts and trust: our certificates, those of clients, those of upstreams.

It never holds a connection. Invariant: nobody is trusted by a default of a library.

May import: config, errors, routing, telemetry.
"""
