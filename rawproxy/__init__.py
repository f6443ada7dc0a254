"""rawproxy: a reverse proxy that its users can read.

The files in the order in which a request meets them: `listener`, `front_h1`, `exchange`, `head`,
`rewrite`, `balancer`, `pool`, `upstream`, `record`, and, after a 101, `tunnel`.
"""

__version__ = "0.1.0"
