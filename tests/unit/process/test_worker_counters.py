"""What all workers have counted."""

from rawproxy.process.worker_counters import WorkerCounters


def test_counters_outlive_their_worker_and_gauges_do_not():
    counters = WorkerCounters()
    counters.update(1, {"counters": {"requests": 5}, "gauges": {"tunnels": 2}})
    counters.update(1, {"counters": {"requests": 7}, "gauges": {"tunnels": 1}})
    counters.update(2, {"counters": {"requests": 1}, "gauges": {"tunnels": 0}})
    counters.remove(1)
    counters.remove(3)  # it died before it said anything
    assert counters.sums() == {
        "workers": [{"counters": {"requests": 1}, "gauges": {"tunnels": 0}}],
        "retired": {"requests": 7},
    }
    counters.remove(2)
    assert counters.sums() == {"workers": [], "retired": {"requests": 8}}


def test_what_a_keeper_says_goes_with_it():
    counters = WorkerCounters()
    counters.told(7, {"store": {"up": 0}})
    counters.told(7, {"store": {"up": 1}})
    assert counters.sums()["keepers"] == {"store": {"up": 1}}
    counters.remove(7)
    assert "keepers" not in counters.sums()
