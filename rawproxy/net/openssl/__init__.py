"""What Python's `ssl` does not promise: every private part that rawproxy uses, and no other.

Each use is tried at the start (`found_out` of `at_start`), and each has a way to go on without it,
with a line in the log that says so. This room never decides what TLS is to do. Invariant: a Python
that changes any of this costs speed or a feature, never a connection.

May import: nothing.
"""
