"""Numbers and log lines: counters, their history, the access log, the error log.

This room never holds up a request. Invariant: if whoever reads a log is slow, lines are lost, and
the lost ones are counted.

May import: config, protocol.
"""
