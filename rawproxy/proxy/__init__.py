"""One exchange, whichever HTTP version the client speaks: request, response, or tunnel.

This room never parses a message and never touches a client's socket. Invariant: every exchange ends
exactly once.

May import: config, errors, protocol, routing, balancing, telemetry, net, tls, upstream.
"""
