"""Upstreams and sites that come and go: sources of configuration beside the file.

The core knows this room through one seam, `joining`: the configuration of the file, with what the
sources have found. A source never changes what is served by itself: it reports fragments, and each
new state goes the way of a reload. Invariant: what serves is always a state without a mistake.

May import: errors, config, telemetry, tls.
"""
