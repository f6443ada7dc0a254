"""Processes: the master, its workers, their signals, systemd.

It never reads a request. Invariant: a socket that is wanted is never closed while processes come
and go.

May import: config, errors, telemetry, net, tls, upstream, proxy, client, admin.
"""
