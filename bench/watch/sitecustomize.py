"""Notes a process's own pauses. Python runs it at its start where its folder is in PYTHONPATH.

A pause is a time in which the event loop serves nobody: a run of the garbage collector, or a
callback of a timer, of which the sweep is one. Whenever the sweep ends, one line goes to the file
that BENCH_PAUSES names, with the process's number behind it: `{"at": seconds of the monotonic
clock, "collector": [seconds, …], "sweep": [seconds]}`. It never changes what the process does, but
for the clocks that it reads. Invariant: a pause stands in one line only.
"""

import gc
import json
import os
import time

SWEEP = "_tick"  # of proxy/service


def watch(target):
    """Note pauses from here on, in the file `target`."""
    import uvloop

    pauses = {"collector": [], "sweep": []}
    began = 0.0

    def collected(phase, _info):
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            pauses["collector"].append(time.perf_counter() - began)

    def timed(callback):
        def call(*args):
            start = time.perf_counter()
            callback(*args)
            pauses["sweep"].append(time.perf_counter() - start)
            write()

        return call

    def write():
        line = json.dumps({"at": time.monotonic(), **pauses})
        for one in pauses.values():
            one.clear()
        with open(f"{target}.{os.getpid()}", "a", encoding="ascii") as file:
            file.write(line + "\n")

    plain = uvloop.Loop.call_later

    def call_later(self, delay, callback, *args, **more):
        if getattr(callback, "__name__", "") == SWEEP:
            callback = timed(callback)
        return plain(self, delay, callback, *args, **more)

    uvloop.Loop.call_later = call_later
    gc.callbacks.append(collected)


if os.environ.get("BENCH_PAUSES"):
    watch(os.environ["BENCH_PAUSES"])
