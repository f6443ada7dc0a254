"""Which site and which route a request belongs to, and what that route leads to.

`match` finds the route, `route_targets` is what was prepared for it at the start. This room never
looks at an upstream's state. Invariant: which route it is depends on Host and path alone.

May import: config, errors, protocol.http.
"""
