"""Doubles of guards, written from how the real ones behave: an authentik outpost, Authelia, oauth2-proxy.

Each is a server in threads of its own, on one port of loopback, that tells its hosts apart by the Host
that it is asked by. What it was asked is kept. None of them is fit for anything but tests.
"""
