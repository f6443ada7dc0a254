"""Attacks that one client mounts against everybody else, beside nginx, HAProxy and Caddy.

`python -m tests.attacks` mounts each of them against each proxy, with a bystander in a process of
its own that goes on asking, and writes tests/ATTACKS.md. To add one: a function that takes a
`Target` and the second at which to end, in a module here, under `@attack(...)`; name the module in
`mounts`. It blocks, runs in a thread, and may leave its connections to be closed with the folder
of things that `Target.keep` holds.
"""
