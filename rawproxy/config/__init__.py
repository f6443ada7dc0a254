"""What the admin asked for: command line, environment and TOML file become one `Config`.

`options` has every key there is. `sources` says which value wins. `build` makes the `Config` of
`model`, and `problems` checks it.

This room never opens a socket and never reads a certificate. Invariant: a `Config` that `check` has
returned is valid.

May import: errors.
"""
