"""rawproxy: a reverse proxy whose code its users can read.

The rooms, in the order in which a request meets them: `client`, `protocol`, `routing`, `proxy`,
`balancing`, `upstream`, `telemetry`. The walk in docs/architecture.md goes through them file by
file.
"""

__version__ = "0.1.0"
