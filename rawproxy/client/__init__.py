"""The clients' connections: accepting them, HTTP/1.1 and HTTP/2 as a server speaks them.

This room never chooses an upstream. Invariant: every wait for a client has a deadline.

May import: config, errors, protocol, routing, balancing, net, tls, upstream, proxy.
"""
