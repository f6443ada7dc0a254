"""Compiles the hot path with mypyc where RAWPROXY_COMPILE=1 asks for it: the same source, faster.

Without it, as on any `pip install .`, rawproxy is plain Python and no compiler is needed.
`make fast` calls it so; everything else about the package stands in pyproject.toml.
"""

import os

from setuptools import setup

# Every module that a connection or a request passes; what runs less often stays as it is.
HOT = (
    "engine recognise bounds target head body rewrite pool record meter notes frames hpack fields"
    " reader_h2 outbox wsframes flow poller transport tunnel exchange responder front_h1 writer_h2"
    " stream_transport stream_h2 front_h2 upstream endpoint"
    " admission health balancer routing group service shake arrival listener"
).split()


def extensions() -> list[object]:
    """What to compile."""
    if os.environ.get("RAWPROXY_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    return mypycify([f"rawproxy/{module}.py" for module in HOT], opt_level="3")


setup(ext_modules=extensions())
