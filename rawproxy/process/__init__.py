"""Processes: the master, its workers, their signals, systemd.

This room never reads a request. Invariant: a listening socket that is wanted stays open while
processes come and go.

May import: config, errors, protocol, telemetry, net, tls, upstream, proxy, client, admin.
"""
