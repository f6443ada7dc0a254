"""Which site and which route a request belongs to, and what that route leads to.

`match` finds the route. `route_targets` has what was prepared for each route at the start. This
room never looks at the state of an upstream. Invariant: only Host and path decide which route it
is.

May import: config, errors, protocol.
"""
