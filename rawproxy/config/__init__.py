"""What the admin asked for: options, environment and the TOML file become one model.

It never opens a socket and never reads a certificate. Invariant: a `Config` that leaves this room
has been checked.

May import: errors.
"""
