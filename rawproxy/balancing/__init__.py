"""Who gets a connection: the pool's decisions, the health of endpoints, the policies of groups.

It never dials, closes or waits: it says what is to be done. Invariant: busy and idle together never
exceed the limit.

May import: config.
"""
