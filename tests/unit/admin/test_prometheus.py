"""The metrics, as Prometheus' own parsers read them."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from rawproxy.access.counts import RATE, AccessCounts
from rawproxy.admin.prometheus import render
from rawproxy.telemetry.counters import BUCKETS, Tally

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def worker(requests: int, up: int = 1) -> dict:
    tally = Tally()
    tally.classes[2] = requests
    for _ in range(requests):
        tally.time(0.004, 0.0002)
    state = {"busy": 1, "idle": 2, "waiting": 0, "limit": 9, "views": 1, "up": up}
    counters = {"upstreams": {'http://"u"': tally.counters()}, "protocols": [0, requests, 0]}
    counters |= {"begun": requests + 3, "requests": requests, "handshakes": 5, "resumed": 2}
    gauges = {"workers": 1, "tunnels": 1, "upstreams": {'http://"u"': state}}
    shape = {"memory": 1000, "lag": requests / 100}
    return {"counters": counters, "gauges": gauges, "worker": shape}


@pytest.mark.parametrize(("accept", "parse"), [("text/plain", text), (OPEN, openmetrics)])
def test_both_formats(accept, parse):
    workers = [worker(2), worker(3, up=0)]
    page, kind = render({"workers": workers, "retired": workers[0]["counters"]}, accept)
    assert kind.startswith(accept.partition(";")[0])
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(page.decode())
        for sample in family.samples
    }
    u = ("upstream", 'http://"u"')
    assert found["rawproxy_requests_total", (("status", "2xx"), u)] == 7
    assert found["rawproxy_requests_by_protocol_total", (("protocol", "HTTP/1.1"),)] == 7
    assert found["rawproxy_request_duration_seconds_count", (u,)] == 7
    assert found["rawproxy_request_duration_seconds_sum", (u,)] == pytest.approx(0.028)
    below = [
        found["rawproxy_request_duration_seconds_bucket", (("le", str(end)), u)] for end in BUCKETS
    ]
    assert below == [0, 0, 0] + [7] * (len(BUCKETS) - 3)
    assert found["rawproxy_first_byte_seconds_bucket", (("le", "0.0005"), u)] == 7
    assert found["rawproxy_upstream_up", (u,)] == 0.5
    assert found["rawproxy_upstream_connections", (("state", "idle"), u)] == 4
    assert found["rawproxy_tls_handshakes_total", (("result", "full"),)] == 9
    assert found["rawproxy_requests_in_flight", ()] == 7  # 9 begun and not ended, 2 are tunnels
    assert found["rawproxy_loop_lag_seconds", ()] == pytest.approx(0.03)
    assert found["rawproxy_resident_memory_bytes", ()] == 2000
    assert found["rawproxy_workers", ()] == 2
    assert found["rawproxy_build_info", (("version", "0.1.0"),)] == 1


def test_before_there_is_a_worker():
    page, _ = render({"workers": [], "retired": {}}, "")
    assert "rawproxy_workers 0.0" in page.decode()


def test_who_may_pass_is_counted_where_somebody_asks():
    one, other = AccessCounts(), AccessCounts()
    one.results[RATE] = 3
    one.asked, other.asked, other.hashed = 2, 5, 1
    both = [worker(1), worker(1)]
    for each, counts in zip(both, (one, other), strict=True):
        each["counters"]["access"] = counts.tree()
    page, _ = render({"workers": both, "retired": {}}, "text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text(page.decode())
        for sample in family.samples
    }
    assert found["rawproxy_access_requests_total", "rate"] == 3
    assert found["rawproxy_access_requests_total", "passed"] == 0
    assert found["rawproxy_access_questions_total",] == 7
    assert found["rawproxy_access_passwords_computed_total",] == 1
    assert found["rawproxy_access_answers_remembered_total",] == 0
    assert (
        "rawproxy_access_requests"
        not in render({"workers": [worker(1)], "retired": {}}, "")[0].decode()
    )


def test_certificates_that_end_and_those_that_are_missing():
    workers = [worker(1), worker(1)]
    workers[0]["worker"]["certificates"] = {"ends": 2000.0, "name": "a", "missing": 1}
    workers[1]["worker"]["certificates"] = {"ends": 1000.0, "name": "b", "missing": 0}
    page = render({"workers": workers, "retired": {}}, "")[0].decode()
    assert "rawproxy_certificate_expiry_timestamp_seconds 1000.0" in page
    assert "rawproxy_certificates_missing 1.0" in page
    workers = [worker(1)]
    workers[0]["worker"]["certificates"] = {"missing": 2}
    page = render({"workers": workers, "retired": {}}, "")[0].decode()
    assert "expiry" not in page and "rawproxy_certificates_missing 2.0" in page
