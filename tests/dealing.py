"""In which order tests run side by side: what takes longest begins first.

xdist cuts the list of tests into as many pieces as it has processes; whoever has done a piece takes
the back half of the longest one that is left. So a long module at the end of the list is what all
wait for in the end, and one in the middle is cut in two, each half with a daemon or an authority of
its own. Here the long modules are dealt to the fronts of the pieces.

It never leaves a test out. Invariant: every index comes back once.
"""

import itertools

# Seconds that a module takes beside others, waiting for other programs included; what is not named
# takes less. `python -m pytest --durations=60` tells. Only the order depends on it.
LONG = {
    "nginx/test_differential.py": 150,
    "production/test_certificates.py": 95,
    "production/test_changes.py": 95,
    "production/test_master.py": 75,
    "production/test_docker.py": 60,
    "production/test_machines.py": 60,
    "production/test_certificate_faults.py": 50,
    "nginx/test_pairs.py": 40,
    "peers/test_access_browser.py": 40,
    "peers/test_memory.py": 40,
    "peers/test_eyes.py": 40,
    "peers/test_nginx.py": 40,
    "failover/test_failover.py": 40,
    "production/test_resumption.py": 20,
    "production/test_reloads.py": 20,
}


def dealt(names: list[str], processes: int) -> list[int]:
    """The order of tests, of which each one's module is given."""
    fronts: list[list[int]] = [[] for _ in range(processes)]
    taken = [0.0] * processes
    for name in sorted(LONG, key=LONG.__getitem__, reverse=True):
        least = taken.index(min(taken))
        found = [at for at, one in enumerate(names) if one == name]
        if found:
            fronts[least] += found
            taken[least] += LONG[name]
    rest = iter([at for at, name in enumerate(names) if name not in LONG])
    order: list[int] = []
    for number, front in enumerate(fronts):
        size = (len(names) - len(order)) // (processes - number)  # as xdist cuts it
        order += front
        order += itertools.islice(rest, max(size - len(front), 0))
    return order + list(rest)
