"""Certificates by themselves: an authority gives them by ACME (RFC 8555), and they are renewed.

    keys, reading    options and keys, and what they make of the configuration
    settings         what the keeper has to know, as it travels to it
    timing, plan     when a certificate is renewed, when a try is repeated, what to do next
    advice           an authority's refusal in words that somebody can act upon
    archive, leases  the state folder: certificates, orders under way, who works on which name
    shared_values    what of the folder stands in the store of `--store`, and its seal
    shared_archive   a folder of which other machines have the same, by the store
    sharing          whether the store is there, and who of all machines works on which name
    answers          what answers challenges, put down by the keeper and read by every worker
    client, order    the conversation with an authority; one order, step by step
    dns_records      the records of DNS-01: by RFC 2136, or by a program of the admin's
    keeper           the process that does all this, a child of the master's beside the workers
    permission       whether a name that nobody has listed may have one, by a URL of the admin's
    on_demand        what a worker does with such names
    wiring           what a worker has of it: answers to HTTP-01
    tls_answers      and to TLS-ALPN-01

Workers hear of nothing: they look at the state folder. Several machines may share that folder, or
have the same in it by a store. So what one machine orders, all of them serve, and whichever of them
is asked answers the challenge.

The core knows this room by name alone, and a proxy without `--acme` never loads the client. It
never serves a request but for challenges. Invariant: whatever is killed at whatever moment, the
folder has whole files only, and the next start goes on where the last one ended.

May import: config, errors, protocol, telemetry, tls, proxy.
"""
