"""Other people's configuration: what an nginx configuration means, as a TOML file of ours.

    lexing       what nginx takes for a word
    reading      the file, its includes and fragments, into directives with file and line
    words        every directive that is known, and the word that each one ends in
    values       variables, and `set` and `map` as far as they say the same for all requests
    rewrites     `rewrite` where it sends every request elsewhere
    upstreams    `upstream` and `proxy_pass` into groups
    locations    `location` into routes
    servers      `server` into sites and listeners
    translation  all of it, and the report

It never serves anything: what it writes is read by `config` like any other file. Invariant: no
directive is dropped without a word, and what cannot mean the same is refused before anything is
served.

May import: errors.
"""
