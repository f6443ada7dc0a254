"""Numbers and log lines: counters, their history, the access log, the error log.

This room never lets a request wait. Invariant: if a reader of a log is too slow, lines are lost,
and the lost ones are counted.

May import: config, protocol.
"""
