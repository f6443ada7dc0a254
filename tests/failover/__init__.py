"""How many requests are lost when one of three upstreams fails: `make failover`."""
