"""The reload test of `make reloads`, smaller."""

from .reloads import Run, Size


def test_reloads_lose_nothing_and_a_killed_worker_only_its_own():
    run = Run(Size(requests=4000, sockets=20, reloads=3, kills=1, renewals=1, clients=6, drain=4))
    run.run()
    print(run.report())
    assert not run.tally.failed
    assert run.tally.h1 + run.tally.h2 >= 4000
    assert run.tally.h2 > 100
    assert run.tally.closes["1012"] >= 20
    assert run.upstream_closes["1012"] >= 20
    assert len(run.replaced) == 3
