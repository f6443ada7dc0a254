"""The bench suite: rawproxy beside nginx, HAProxy, Caddy, Envoy and Python proxies.

`python -m bench --help` says how; `bench/README.md` says what is the same for all and what is not.
"""
