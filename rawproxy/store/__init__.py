"""Several machines: what they have in common, in a store that none of them needs in order to serve.

`verbs` says what a store can do: get, put, watch, lock and count. There are two: Redis or Valkey,
and a folder that the machines share. `keeper` is a process beside the workers that brings the
keys of TLS tickets, the pins of upstreams and the secret of cookies into agreement, and tells what
clients spend of their rates. Other rooms that need a store, as that of
certificates, open it by `opening`.

This room never stands in the way of a request: whatever it finds is pushed to the workers. While
the store is away, everything goes on with what is known, and limits are local. Invariant: what a
store says is checked before it is used; whoever can write to it is trusted with sessions all the
same.

May import: errors, config, telemetry, tls, process.
"""
