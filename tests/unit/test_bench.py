"""The pure parts of the bench: ratios, verdicts, the guard against losses, what a run will take."""

import json
import os
import struct
import subprocess
import sys
import threading
import time
import types

import pytest

from bench import check, counts, instructions, payloads, peers, procs, report, rows, soak
from bench.check import compare, judge, ratios_of


def samples(*pairs):
    return [{"rate": rate, "cpu_us": cpu} for rate, cpu in pairs]


def results(rawproxy, nginx=None, key="mix-plain", **more):
    nginx = nginx or samples((1000.0, 20.0), (1000.0, 20.0), (1000.0, 20.0))
    row = {"title": key, "unit": "req/s", "measure": "requests", "skipped": {}}
    row["peers"] = {"nginx": nginx, "rawproxy": rawproxy} | more
    return {"taken": "then", "rows": {key: row}}


def test_ratios_are_taken_within_rounds_and_then_the_median():
    nginx = samples((1000.0, 20.0), (500.0, 40.0), (2000.0, 10.0))
    mine = samples((900.0, 25.0), (450.0, 50.0), (1000.0, 12.5))
    assert ratios_of(results(mine, nginx)) == {"mix-plain": {"rate": 0.9, "cpu": 0.8}}


def test_one_disturbed_round_in_three_changes_nothing():
    calm = samples(*[(900.0, 25.0)] * 3)
    noisy = [*calm[:2], {"rate": 90.0, "cpu_us": 60.0}]
    assert ratios_of(results(noisy)) == ratios_of(results(calm))


def test_a_row_with_an_error_has_no_ratio():
    mine = samples((900.0, 25.0), (900.0, 25.0))
    mine[1]["errors"] = 1
    assert ratios_of(results(mine)) == {}
    assert ratios_of(results(samples((1.0, 1.0)), nginx=[{"rate": 0.0, "errors": 1}])) == {}


def test_where_less_is_better_the_ratio_is_turned_round_and_cpu_time_left_out():
    mine, nginx = samples((4.0, 1.0)), samples((16.0, 1.0))
    assert ratios_of(results(mine, nginx, "idle-ws-plain")) == {"idle-ws-plain": {"rate": 4.0}}


def test_latency_is_not_guarded():
    assert ratios_of(results(samples((1.0, 1.0)), samples((1.0, 1.0)), "latency-20")) == {}


@pytest.mark.parametrize(
    ("now", "then", "loss"),
    [
        ({"rate": 1.0, "cpu": 0.84}, {"rate": 1.0, "cpu": 1.0}, "CPU time -16%"),
        ({"rate": 1.0, "cpu": 0.90}, {"rate": 1.0, "cpu": 1.0}, None),
        ({"rate": 0.6, "cpu": 1.0}, {"rate": 1.0, "cpu": 1.0}, None),  # other work had the cores
        ({"rate": 0.4, "cpu": 1.0}, {"rate": 1.0, "cpu": 1.0}, "rate -60%"),  # something waits
        ({"rate": 0.84}, {"rate": 1.0}, "-16%"),
        ({"rate": 0.90}, {"rate": 1.0}, None),
        ({"rate": 0.84, "cpu": 1.0}, {"rate": 1.0}, "-16%"),
        ({"rate": 2.0, "cpu": 2.0}, {"rate": 1.0, "cpu": 1.0}, None),
    ],
)
def test_a_loss_of_more_than_fifteen_percent_by_cpu_time(now, then, loss):
    assert compare(now, then) == loss


@pytest.mark.parametrize(("cpu", "code"), [(25.0 / 0.84, 1), (25.0 / 0.90, 0)])
def test_the_guard_fails_on_a_simulated_loss(tmp_path, capsys, cpu, code):
    baseline, file = tmp_path / "baseline.json", tmp_path / "now.json"
    file.write_text(json.dumps(results(samples(*[(900.0, 25.0)] * 5))))
    assert judge(file, baseline, accept=True) == 0
    file.write_text(json.dumps(results(samples(*[(900.0, cpu)] * 5))))
    assert judge(file, baseline) == code
    assert ("FAILED: CPU time -16%" in capsys.readouterr().out) == bool(code)


def test_without_a_baseline_it_says_how_to_make_one(tmp_path, capsys):
    file = tmp_path / "now.json"
    file.write_text(json.dumps(results(samples((1.0, 1.0)))))
    assert judge(file, tmp_path / "none.json") == 1
    assert "--accept" in capsys.readouterr().out


def test_a_row_that_broke_fails_and_a_new_one_is_not_judged(tmp_path):
    baseline, file = tmp_path / "baseline.json", tmp_path / "now.json"
    good = results(samples((900.0, 25.0)))
    file.write_text(json.dumps(good))
    judge(file, baseline, accept=True)
    file.write_text(json.dumps(results(samples((900.0, 25.0)), key="api-plain")))
    assert judge(file, baseline) == 0
    good["rows"]["mix-plain"]["peers"]["rawproxy"][0]["errors"] = 3
    file.write_text(json.dumps(good))
    assert judge(file, baseline) == 1


def test_accepting_some_rows_keeps_the_others(tmp_path):
    baseline, file = tmp_path / "baseline.json", tmp_path / "now.json"
    for key in ("mix-plain", "api-plain"):
        file.write_text(json.dumps(results(samples((900.0, 25.0)), key=key)))
        judge(file, baseline, accept=True)
    assert set(json.loads(baseline.read_text())["rows"]) == {"mix-plain", "api-plain"}


def test_what_eyes_and_workers_cost_is_told_in_a_sentence():
    found = results(
        samples((900.0, 22.0)), key="eyes-plain", **{"rawproxy-bare": samples((950.0, 20.0))}
    )
    assert "metrics and a JSON access log +2.0 µs (+10%)" in report.table(found)
    found = results(
        samples((1000.0, 20.0)), key="workers-plain", **{"rawproxy-2w": samples((1500.0, 25.0))}
    )
    text = report.table(found)
    assert "1.50 times as much, at 1.25 times the CPU time" in text
    assert "| workers-plain" not in text


def test_what_a_guard_costs_is_told_in_a_sentence():
    nginx = samples((800.0, 40.0))
    others = {"rawproxy-open": samples((950.0, 20.0)), "nginx-open": samples((900.0, 22.0))}
    found = results(samples((900.0, 30.0)), nginx, "guarded-plain", **others)
    assert "rawproxy +10.0 µs (+50%), nginx +18.0 µs (+82%)" in report.table(found)


def test_what_was_counted_of_guards_stands_in_the_page():
    if not instructions.OUT.exists():
        pytest.skip("nothing has been counted yet")
    assert instructions.block(json.loads(instructions.OUT.read_text())) in (
        instructions.PAGE.read_text()
    )


def test_a_page_is_rewritten_between_its_marks_and_left_alone_without(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nbehind\n")
    for _ in range(2):  # writing twice is writing once
        assert report.update(page, "new\n")
        text = "before\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nbehind\n"
        assert page.read_text() == text
    page.write_text("no marks")
    assert not report.update(page, "new\n")
    assert page.read_text() == "no marks"


def test_marks_of_another_name_are_another_place(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- bench:begin -->\nold\n<!-- bench:end -->\n<!-- b-13:begin -->\n<!-- b-13:end -->\n"
    )
    assert report.update(page, "new\n", "b-13")
    assert page.read_text().endswith(
        "old\n<!-- bench:end -->\n<!-- b-13:begin -->\nnew\n<!-- b-13:end -->\n"
    )


def test_results_of_elsewhere_change_no_page(tmp_path, monkeypatch):
    drawn = types.SimpleNamespace(draw_all=lambda results, folder: [])
    monkeypatch.setitem(sys.modules, "bench.pictures", drawn)  # itself it needs matplotlib
    top = report.Path(report.__file__).parent.parent
    (tmp_path / "latest.json").write_bytes((top / "bench" / "results" / "latest.json").read_bytes())
    assert report.write_all(tmp_path / "latest.json") == ["wrote TABLE.md"]


def test_what_debian_13_gave_is_brought_back_and_told(tmp_path, monkeypatch):
    from bench import debian13

    monkeypatch.setattr(debian13, "RESULTS", tmp_path / "results-13")
    monkeypatch.setattr(debian13, "OUT", tmp_path / "out")
    there = debian13.Debian(tmp_path / "debian", "trixie")
    for name in ("bench/results-13/latest.json", "bench/results-13/TABLE.md", "bench/out/x.json"):
        (there.project / name).parent.mkdir(parents=True, exist_ok=True)
        (there.project / name).write_text(name)
    assert debian13.bring_back(there, "bench/results-13/latest.json").read_text().endswith("t.json")
    assert (tmp_path / "results-13" / "TABLE.md").exists()
    assert debian13.bring_back(there, "bench/out/x.json") == tmp_path / "out" / "debian-13.json"


def test_the_pages_say_what_the_committed_results_say():
    top = report.Path(report.__file__).parent.parent
    found = json.loads((top / "bench" / "results" / "latest.json").read_text())
    assert report.readme_block(found) in (top / "README.md").read_text()
    assert report.page_block(found) in (top / "docs" / "performance.md").read_text()
    assert set(report.README_ROWS) <= set(found["rows"])
    other = top / "bench" / "results-13" / "latest.json"
    if other.exists():
        block = report.page_block(json.loads(other.read_text()), "../bench/results-13")
        assert block in (top / "docs" / "performance.md").read_text()


def test_no_two_requests_of_the_mix_have_the_same_head_but_for_the_number():
    data, seen = payloads.mix_templates(), set()
    while data:
        size, number = struct.unpack_from("<II", data)
        request, data = data[8 : 8 + size], data[8 + size :]
        assert request[number : number + 8] == b"0" * 8
        assert request[:4] == b"GET " and request.endswith(b"\r\n\r\n")
        seen.add(request)
    assert len(seen) == payloads.POOL


def test_a_full_run_stays_under_twenty_minutes_and_a_quick_one_about_two():
    assert rows.minutes(list(rows.ROWS.values()), rounds=5) < 20
    assert rows.minutes(rows.choose((), quick=True), rounds=5, peers=2) < 2.5


def test_row_ids_are_told_apart_by_prefix():
    assert [row.id for row in rows.choose(("page-3",), quick=False)] == ["page-320"]
    with pytest.raises(ValueError, match="unknown row: nonsense"):
        rows.choose(("nonsense",), quick=False)


def test_cpu_time_counts_threads_that_have_ended():
    """A process's clock, against the clock of the thread that did the work and is gone."""
    used = []

    def work():
        began = time.thread_time()
        while time.thread_time() - began < 0.05:
            pass
        used.append(time.thread_time() - began)

    before = procs.cpu_of(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert procs.cpu_of(os.getpid()) - before >= used[0]


def test_a_process_that_is_gone_used_nothing():
    assert procs.cpu_of(2**22 + 1) == 0.0


def test_the_guard_knows_every_row_of_a_baseline_that_is_committed():
    baseline = report.Path(check.__file__).parent / "results" / "baseline.json"
    if not baseline.exists():
        pytest.skip("no baseline is committed yet")
    assert set(json.loads(baseline.read_text())["rows"]) <= set(rows.ROWS)


def test_memory_is_flat_when_the_last_third_is_no_higher():
    assert soak.flat([100_000.0] * 9) == (True, 100_000.0, 100_000.0)
    assert soak.flat([10.0, 10.0, 10.0, 200_000.0, 200_000.0, 200_000.0, 5.0, 5.0, 5.0])[0]
    assert soak.flat([100_000.0] * 6 + [104_000.0] * 3)[0]
    assert not soak.flat([100_000.0] * 6 + [106_000.0] * 3)[0]
    assert soak.flat([10_000.0] * 6 + [12_000.0] * 3)[0]  # one allocator's arena, no growth
    assert not soak.flat([float(1000 * place) for place in range(90)])[0]


def test_what_should_not_be_in_a_log_is_found():
    log = "rawproxy ready\ninternal error: x\nTraceback (most recent call last):\n502 upstream\n"
    assert len(soak.unforeseen(log)) == 2
    assert not soak.unforeseen("rawproxy ready\nrawproxy stops\n")


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 12 1
   2: 0100007F:1F90 0100007F:9C41 08 00000000:00000000 00:00000000 00000000     0        0 13 1
   3: 0100007F:1F90 0100007F:9C42 01 00000000:00000000 00:00000000 00000000     0        0 99 1
"""


def test_sockets_of_one_process_are_counted_by_state():
    assert soak.socket_states(TCP, {"11", "12", "13"}) == {"0A": 1, "01": 1, "08": 1}


def soaked(**told):
    one = soak.Slice("calm", 1.0, {"mix": {"requests": 10, "errors": 0}}, [1000] * 9)
    two = soak.Slice("chaos", 1.0, {"mix": {"requests": 5, "errors": 2, "resets": 3}}, [1000] * 9)
    return soak.judge([one, two], **({"left": {}, "files": (9, 10), "log": ""} | told))


def test_a_soak_passes_only_if_every_promise_was_kept():
    def bad(verdicts):
        return [name for name, one in verdicts.items() if one.get("good") is False]

    good = soaked()
    assert bad(good) == []
    assert good["totals"]["chaos_resets"] == 3 and good["totals"]["calm_requests"] == 10
    assert bad(soaked(left={"01": 1})) == ["connections"]
    assert bad(soaked(files=(9, 30))) == ["connections"]
    assert bad(soaked(log="internal error: x")) == ["log"]
    slices = [soak.Slice("calm", 1.0, {"mix": {"requests": 9, "errors": 1}}, [1] * 9)]
    assert bad(soak.judge(slices, {}, (9, 9), "")) == ["calm"]


def test_the_soaks_verdict_as_text():
    verdicts = soaked(left={"01": 2})
    text = soak.markdown({"passed": False, "taken": "then", "minutes": 1.0, **verdicts})
    assert "# Soak: failed" in text and "| no connection left | **no** | 2 sockets" in text


def test_counts_are_made_by_clients_with_one_suite(monkeypatch):
    """The process that counts offers what the load generators offer; its proxies may take all."""
    code = (
        "import os, ssl; from bench import counts, procs;"
        "assert counts.elsewhere() is None and 'OPENSSL_CONF' not in os.environ;"
        "print([one['name'] for one in procs.insecure_context().get_ciphers()"
        " if one['protocol'] == 'TLSv1.3'])"
    )
    told = []

    def run(argv, env, **_):
        assert argv[1:] == ["-m", "bench", "counts", "--rows", "mix-tls"]
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, check=True
        )
        told.append(done.stdout.decode().strip())
        return done

    monkeypatch.setattr(sys, "argv", ["bench", "counts", "--rows", "mix-tls"])
    monkeypatch.setattr(counts, "subprocess", types.SimpleNamespace(run=run))
    assert counts.elsewhere() == 0
    assert told == [f"['{peers.CIPHERS}']"]
