"""Numbers and log lines: counters, their history, the access log, the error log.

It never holds up a request. Invariant: a reader that is slow loses lines, which are counted.

May import: config, protocol.
"""
