"""Who gets a connection: the decisions of pools, the health of endpoints, the policies of groups.

This room never dials, closes or waits. It says what to do, and others do it. Invariant: the busy
and the idle connections of a pool together never exceed its limit.

May import: config.
"""
