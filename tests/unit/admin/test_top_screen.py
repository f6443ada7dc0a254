"""Frames of `rawproxy top`, and numbers as people read them."""

import re

import pytest

from rawproxy.admin import top_screen
from rawproxy.admin.top_screen import frame

UPSTREAM = {
    "name": "http://127.0.0.1:18081", "up": 2, "views": 2, "requests": 148.0, "errors4": 0.0,
    "errors5": 1.5, "p50": 0.0181, "p95": 0.09, "p99": 0.1, "busy": 28, "idle": 8, "waiting": 0,
    "limit": 1024, "retries": 0, "dials": 3, "dial_failures": 0,
}  # fmt: skip
WORKER = {
    "pid": 4711, "draining": False, "requests": 2790, "connections": 45, "memory": 44_000_000,
    "cpu": 61.0, "lag": 0.001,
}  # fmt: skip
NAMES = "requests errors4 errors5 p50 p95 p99 in out cpu busy idle waiting tunnels connections"
STATUS = {
    "version": "0.1.0", "began": 1000.0, "now": 4720.0, "unready": "",
    "gauges": {"workers": 2, "draining": 0}, "upstreams": [UPSTREAM], "workers": [WORKER],
    "series": {name: [float(i) for i in range(150)] for name in NAMES.split()},
}  # fmt: skip
EMPTY = STATUS | {"series": {}, "upstreams": [], "workers": []}


def bare(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60), (80, 1)])
@pytest.mark.parametrize("upstreams", [0, 1, 40])
def test_a_frame_fits(size, colour, upstreams):
    many = STATUS | {"upstreams": [UPSTREAM] * upstreams, "workers": [WORKER] * 8}
    lines = frame(many, *size, colour)
    assert 0 < len(lines) <= size[1]
    assert max(len(bare(line)) for line in lines) <= size[0]
    assert colour == any("\x1b" in line for line in lines)
    assert [bare(line) for line in lines] == frame(many, *size, False)


def test_who_was_let_pass_is_told_where_somebody_asks():
    results = {"passed": 12_345, "rate": 3, "guard": 0, "closed": 1}
    text = frame(STATUS | {"counters": {"access": {"results": results}}}, 80, 24, False)
    assert "Let pass         12.3k, refused: rate 3, closed 1" in text
    results = {"passed": 1, "rate": 0}
    text = frame(STATUS | {"counters": {"access": {"results": results}}}, 80, 24, False)
    assert "Let pass         1, nobody refused" in text
    assert not [line for line in frame(STATUS, 80, 24, False) if "Let pass" in line]


def test_what_it_says():
    text = "\n".join(frame(STATUS, 80, 24, False))
    assert "rawproxy 0.1.0  ready  2 workers, up 1h2m" in text
    assert re.search(r"Requests/s +▇+█+ +149  5xx 149/s", text)
    assert re.search(r"http://127\.0\.0\.1:18081 +ok +148 +1\.0% +18ms +90ms +28 +8 +0\n", text)
    assert re.search(r"4711 +serves +2,790 +45 +42MiB +1m1s +1\.0ms$", text)


def test_trouble_is_said():
    ill = [
        UPSTREAM | {"up": 1},
        UPSTREAM | {"up": 0, "requests": 0.0, "name": "x\x1b[2J" + "y" * 90},
    ]
    status = STATUS | {
        "unready": "draining\x07", "gauges": {"workers": 1, "draining": 1}, "upstreams": ill,
        "workers": [WORKER | {"draining": True}],
    }  # fmt: skip
    lines = frame(status, 80, 24, False)
    assert lines[0] == "rawproxy 0.1.0  draining?  1 worker, 1 draining, up 1h2m"
    assert any(re.search(r" 1/2 +148 ", line) for line in lines)
    assert any(re.search(r"^…y+ +down +0 +- ", line) for line in lines)
    assert any(re.search(r" drains ", line) for line in lines)
    painted = "".join(frame(status, 80, 24, True))
    assert "\x1b[2J" not in painted and "\x07" not in painted


def test_many_upstreams_are_counted():
    lines = frame(STATUS | {"upstreams": [UPSTREAM] * 40}, 80, 24, False)
    assert any(re.search(r"and \d+ more: make the window taller", line) for line in lines)
    assert any("4711" in line for line in lines)


def test_before_anything_was_counted():
    lines = frame(EMPTY, 80, 24, True)
    assert any(bare(line).startswith("Requests/s") and " 0 " in bare(line) for line in lines)


def test_sparklines():
    assert top_screen.sparkline([], 3) == "   "
    assert top_screen.sparkline([0, 0], 3) == "   "
    assert top_screen.sparkline([9, 1, 2, 0, 4], 4) == "▃▅ █"


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (top_screen.count(0), "0"), (top_screen.count(0.25), "0.2"), (top_screen.count(99.5), "99.5"),
        (top_screen.count(1234.5), "1,234"), (top_screen.count(12345), "12.3k"),
        (top_screen.count(2.5e6), "2.5M"), (top_screen.count(3e9), "3.0G"),
        (top_screen.seconds(0), "-"), (top_screen.seconds(0.0012), "1.2ms"), (top_screen.seconds(0.5), "500ms"),
        (top_screen.seconds(2), "2.0s"), (top_screen.size_of(512), "512B"), (top_screen.size_of(1536), "1.5KiB"),
        (top_screen.size_of(50 << 20), "50MiB"), (top_screen.size_of(3 << 30), "3.0GiB"),
        (top_screen.share(0), "0%"), (top_screen.share(0.021), "2.1%"), (top_screen.share(0.5), "50%"),
        (top_screen.span(59), "59s"), (top_screen.span(61), "1m1s"), (top_screen.span(3720), "1h2m"),
        (top_screen.span(90000), "1d1h"),
    ],
)  # fmt: skip
def test_numbers(shown, text):
    assert shown == text
