"""Who may pass: address lists, rates, passwords, and guards that are asked by a request of ours.

The core knows this room through one seam: a route target has a `guard`, or None. This room never
decides where a request goes, and never changes what a client sees of a request that may pass, but
for the cookies that a guard sets. Invariant: whoever cannot be judged does not pass.

May import: config, errors, protocol, telemetry, net, routing, upstream, proxy.
"""
