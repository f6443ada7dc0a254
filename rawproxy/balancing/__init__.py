"""Who gets a connection: the pool's decisions, the health of endpoints, the policies of groups.

This room never dials, closes or waits. It says what is to be done, and others do it. Invariant: the
busy and the idle connections of a pool together never exceed its limit.

May import: config.
"""
