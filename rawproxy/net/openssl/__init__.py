"""What Python's `ssl` does not promise: every private part that rawproxy uses, and no other.

Each use is tried at the start (`found_out` of `at_start`). If it does not work, there is a way to
go on without it, and a line in the log that says so. This room never decides what TLS should do.
Invariant: if a Python changes any of this, that costs speed or a feature, never a connection.

May import: nothing.
"""
