"""The pauses that the bench tells of: written by the watched process, added up, put in a sentence."""

import json
import os
import pathlib
import subprocess
import sys

from bench import pauses, rows

WATCH = pathlib.Path(pauses.__file__).parent / "watch"
WATCHED = """
import asyncio, gc, uvloop

async def main():
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def _tick():
        gc.collect()
        loop.call_later(0, other)

    def other():
        done.set_result(None)

    loop.call_later(0, _tick)
    await done

uvloop.run(main())
"""


def test_a_watched_process_writes_down_its_collections_and_sweeps(tmp_path):
    file = pauses.file_for(tmp_path, 80)
    environ = {**os.environ, "PYTHONPATH": str(WATCH), "BENCH_PAUSES": str(file)}
    subprocess.run([sys.executable, "-c", WATCHED], env=environ, check=True, timeout=60)
    (written,) = tmp_path.iterdir()
    (line,) = map(json.loads, written.read_text().splitlines())
    assert len(line["sweep"]) == 1  # not the other timer
    assert len(line["collector"]) >= 1
    assert 0 < min(line["collector"]) < line["sweep"][0]
    found = pauses.between(file, line["at"] - 1, line["at"])
    assert found["sweep_pauses"] == 1
    assert found["sweep_longest_ms"] == found["sweep_ms"] > 0


def test_without_the_variable_nothing_is_watched(tmp_path):
    environ = {**os.environ, "PYTHONPATH": str(WATCH)}
    environ.pop("BENCH_PAUSES", None)
    subprocess.run([sys.executable, "-c", WATCHED], env=environ, check=True, timeout=60)
    assert pauses.between(pauses.file_for(tmp_path, 80), 0, 1e12) == {}


def test_only_the_time_of_the_measurement_counts(tmp_path):
    lines = [
        {"at": at, "collector": [at / 1000], "sweep": [0.001, 0.002]} for at in (1.0, 2.0, 3.0, 4.0)
    ]
    for number in (7, 8):  # a master and its worker
        some = lines[:2] if number == 7 else lines[2:]
        text = "".join(json.dumps(line) + "\n" for line in some)
        (tmp_path / f"pauses-80.{number}").write_text(text)
    assert pauses.between(pauses.file_for(tmp_path, 80), 2.0, 3.0) == {
        "watched_s": 1.0,
        "collector_pauses": 2,
        "collector_ms": 5.0,
        "collector_longest_ms": 3.0,
        "sweep_pauses": 4,
        "sweep_ms": 6.0,
        "sweep_longest_ms": 2.0,
    }


def test_the_sentence_adds_rounds_up_and_is_silent_where_nothing_was_watched():
    one = {
        "watched_s": 5.0,
        "collector_pauses": 1,
        "collector_ms": 2.0,
        "collector_longest_ms": 2.0,
    }
    one |= {"sweep_pauses": 5, "sweep_ms": 1.0, "sweep_longest_ms": 0.4}
    samples = [{"more": one}, {"more": {**one, "sweep_longest_ms": 0.6}}]
    assert pauses.sentence(samples, 70) == (
        "Pauses at 70 % of nginx's peak, in 10 s: the garbage collector ran 2 times, 0.04% of the "
        "time, 2.00 ms at most; the sweep 10 times, 0.02% of the time, 0.60 ms at most."
    )
    assert pauses.sentence([{"rate": 1.0}], 70) == ""


def test_latency_has_ten_rounds_in_a_full_run_only():
    latency = rows.ROWS["latency-90"]
    assert (latency.turns(rows.ROUNDS), latency.turns(1)) == (rows.LATENCY_ROUNDS, 1)
    assert rows.ROWS["latency-20"].turns(rows.ROUNDS) == 3
    assert rows.ROWS["mix-plain"].turns(7) == 7
