"""The change test of `make changes`, smaller; and what can go wrong with a change."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rawproxy.process.leaving import MOST
from tests.process import CA, LEAF, PATIENCE, RawProxy, free_port, replace

from .changes import Bulk, ChangingRun
from .folder_beat import FolderBeat
from .stage import COMMAND, ask, reload, until, upstream, workers


def test_changes_fail_no_request_and_no_websocket_notices():
    run = ChangingRun(Bulk(requests=3000, sockets=20, changes=6, crowd=100, clients=6))
    run.run()
    print(run.report())
    assert not run.tally.failed and not run.tally.closes
    assert run.tally.h1 + run.tally.h2 >= 3000 and run.tally.h2 > 100
    assert len(run.took) == 6


@pytest.fixture(scope="module")
def back():
    with upstream() as port:
        yield f"http://127.0.0.1:{port}"


class Changing:
    """A proxy with a file, two workers and an admin listener."""

    def __init__(self, path, back: str) -> None:
        self.path, self.back, self.admin = path, back, free_port()
        self.write("a.test")

    def write(self, *names: str, more: str = "") -> None:
        sites = "".join(f'[[site]]\nserver-name = "{name}"\n' for name in names)
        head = f'upstream = "{self.back}"\nworkers = 2\naccess-log = "off"\n'
        replace(self.path, f'{head}admin = "127.0.0.1:{self.admin}"\n{more}{sites}')

    def counted(self, result: str) -> float:
        """Changes with this result, as Prometheus has them."""
        url = f"http://127.0.0.1:{self.admin}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            text = answer.read().decode()
        line = f'rawproxy_configuration_changes_total{{result="{result}"}} '
        return float(text.partition(line)[2].partition("\n")[0])


@pytest.fixture
def changing(tmp_path, back):
    return Changing(tmp_path / "rawproxy.toml", back)


def served(proxy: RawProxy, name: str) -> set[bytes]:
    """The statuses that new connections get for this name, from all workers."""
    found = set()
    for _ in range(12):
        found.add(status(proxy.http, name))
    return found


def status(port: int, name: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(f"GET /x HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(12)[9:]


def test_a_broken_file_changes_nothing(changing):
    with RawProxy("--config", str(changing.path), https=False) as p:
        changing.write("b.test", more="keepalvie = 3\n")
        reload(p, "reload refused")
        assert served(p, "a.test") == {b"200"} and served(p, "b.test") == {b"421"}
        assert changing.counted("refused") == 1
        changing.write("b.test")
        reload(p)
        assert served(p, "a.test") == {b"421"} and served(p, "b.test") == {b"200"}
        assert changing.counted("in_place") == 1 and changing.counted("new_processes") == 0


def test_a_certificate_that_cannot_be_used_changes_nothing(changing, tmp_path):
    with RawProxy("--config", str(changing.path), https=False) as p:
        more = f'access-log = "{tmp_path}/no/log"\n'
        replace(changing.path, changing.path.read_text().replace('access-log = "off"\n', more))
        reload(p, "reload refused")
        assert "No such file or directory" in p.err()
        assert served(p, "a.test") == {b"200"}


def test_a_worker_that_dies_while_it_prepares_undoes_the_change(changing):
    with RawProxy("--config", str(changing.path), https=False) as p:
        victim, other = sorted(workers(p))
        os.kill(victim, signal.SIGSTOP)
        changing.write("b.test")
        p.process.send_signal(signal.SIGHUP)
        until(lambda: len(workers(p)) == 2 and "reloading" in p.err(), "the loader's end")
        time.sleep(0.2)  # the other worker prepares it, and is told to wait
        assert answered(p, "b.test") == {b"421"}
        os.kill(victim, signal.SIGKILL)
        p.says("reload refused, the old configuration stays: worker . .* ended while it prepared")
        until(lambda: len(workers(p)) == 2, "another worker")
        until(lambda: served(p, "a.test") == {b"200"}, "all by the old one")
        assert served(p, "b.test") == {b"421"}
        reload(p)
        assert served(p, "b.test") == {b"200"} and other in workers(p)


def answered(p: RawProxy, name: str) -> set[bytes]:
    """What the worker that is not stopped answers; the other one's share of connections waits."""
    found = set()
    for _ in range(12):
        with socket.create_connection(("127.0.0.1", p.http), PATIENCE) as sock:
            sock.settimeout(0.5)
            sock.sendall(f"GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            with contextlib.suppress(TimeoutError):
                found.add(sock.recv(12)[9:])
    return found


def test_a_master_that_dies_in_the_middle_leaves_nobody(changing):
    p = RawProxy("--config", str(changing.path), https=False)
    family = [psutil.Process(pid) for pid in workers(p)]
    family[0].suspend()
    changing.write("b.test")
    p.process.send_signal(signal.SIGHUP)
    until(lambda: "reloading" in p.err() and len(workers(p)) == 2, "the loader's end")
    assert p.stop(signal.SIGKILL) == -signal.SIGKILL
    family[0].resume()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive


def test_a_stop_in_the_middle_of_a_change_is_a_stop(changing):
    """The master had forgotten that it stops, and waited for ever with no worker left."""
    with RawProxy("--config", str(changing.path), https=False) as p:
        slow = psutil.Process(min(workers(p)))
        slow.suspend()
        changing.write("b.test")
        p.process.send_signal(signal.SIGHUP)
        # The loader has ended and the other worker has prepared: all wait for the slow one.
        until(lambda: "reloading" in p.err() and len(workers(p)) == 2, "the loader's end")
        p.process.send_signal(signal.SIGTERM)
        until(lambda: len(workers(p)) == 1, "the other worker's end")
        slow.resume()
        assert p.process.wait(PATIENCE) == 0
        assert "in place" not in p.err()


def test_changes_at_once_come_one_after_the_other_and_the_last_counts(changing):
    with RawProxy("--config", str(changing.path), https=False) as p:
        before = workers(p)
        for number in range(5):
            changing.write(f"n{number}.test")
            p.process.send_signal(signal.SIGHUP)
            time.sleep(0.15)
        until(lambda: served(p, "n4.test") == {b"200"}, p.err())
        assert served(p, "n3.test") == {b"421"} and before <= workers(p)
        assert changing.counted("refused") == 0


def test_a_worker_that_starts_later_has_the_changed_configuration(changing):
    with RawProxy("--config", str(changing.path), https=False) as p:
        changing.write("b.test")
        reload(p)
        for pid in workers(p):
            os.kill(pid, signal.SIGKILL)
        until(lambda: p.err().count("another one starts") == 2, p.err())
        assert served(p, "b.test") == {b"200"}


def test_another_number_of_workers_brings_new_processes(changing):
    with RawProxy("--config", str(changing.path), https=False) as p:
        before = workers(p)
        text = changing.path.read_text()
        replace(changing.path, text.replace("workers = 2", "workers = 3"))
        reload(p, "all of them new")
        p.says("new processes are needed: --workers is another one")
        until(lambda: len(workers(p)) == 3 and not workers(p) & before, p.err())
        assert served(p, "a.test") == {b"200"} and changing.counted("new_processes") == 1


def test_a_fragment_comes_breaks_is_mended_and_goes(tmp_path):
    beat = FolderBeat(tmp_path, seconds=8, slack=3)  # a second if nothing else runs: see there
    beat.run()
    print(beat.report())
    assert not beat.wrong and not beat.failed
    assert beat.steps >= 25 and beat.asked > 100


def test_a_proxy_with_nothing_but_a_folder(tmp_path, back):
    folder = tmp_path / "sites.d"
    folder.mkdir()
    main = tmp_path / "rawproxy.toml"
    main.write_text(f'workers = 2\naccess-log = "off"\n[discovery]\nfolder = "{folder}"\n')
    text = f'[group.a]\nupstream = "{back}"\n[[site]]\nserver-name = "a.test"\n' \
        '[[site.route]]\ngroup = "a"\n'  # fmt: skip
    with RawProxy("--config", str(main), https=False) as p:
        assert served(p, "a.test") == {b"421"}
        replace(folder / "a.toml", text)
        until(lambda: served(p, "a.test") == {b"200"}, p.err())
        replace(folder / "a.toml", text + "nonsense")
        p.says("its last good state stays")
        p.process.send_signal(signal.SIGHUP)
        p.says("reloaded: 2 workers, nothing has changed")
        assert served(p, "a.test") == {b"200"}, "a reload knows the last good state"
        until(lambda: len(p.family()) == 4, "a master, two workers, and who watches")
        watcher = next(one for one in p.family()[1:] if one.pid not in serving(p))
        watcher.kill()
        p.says("nobody watches the sources")
        replace(folder / "b.toml", text.replace("a.test", "b.test").replace("group.a", "group.b")
                                       .replace('"a"', '"b"'))  # fmt: skip
        until(lambda: served(p, "b.test") == {b"200"}, p.err())
        assert served(p, "a.test") == {b"200"}
        os.remove(folder / "a.toml")
        until(lambda: served(p, "a.test") == {b"421"}, p.err())
        replace(main, main.read_text().partition("[discovery]")[0] + f'upstream = "{back}"\n')
        reload(p, "changed in place")
        until(lambda: served(p, "any.test") == {b"200"}, p.err())
        until(lambda: len(p.family()) == 3, "nobody watches any more")


def serving(p: RawProxy) -> set[int]:
    """The processes that listen."""
    found = set()
    for one in p.family()[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):  # a loader that has done its work
            if any(c.status == psutil.CONN_LISTEN for c in one.net_connections()):
                found.add(one.pid)
    return found


def test_two_threads_of_reloads_do_not_hurt(changing):
    """SIGHUP and SIGUSR2 in any order: in the end the file's configuration is served by all."""
    with RawProxy("--config", str(changing.path), https=False) as p:
        stop = threading.Event()

        def signals(number: signal.Signals) -> None:
            while not stop.wait(0.3):
                p.process.send_signal(number)

        threads = [
            threading.Thread(target=signals, args=(one,)) for one in (signal.SIGHUP, signal.SIGUSR2)
        ]
        for thread in threads:
            thread.start()
        for number in range(4):
            changing.write(f"m{number}.test")
            time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        until(lambda: served(p, "m3.test") == {b"200"}, p.err())


def test_what_a_reload_would_change_is_told_and_not_done(changing, tmp_path):
    with RawProxy("--config", str(changing.path), https=False) as p:
        other = Changing(tmp_path / "other.toml", changing.back)
        other.admin = changing.admin

        def checked() -> str:
            where = f"127.0.0.1:{changing.admin}"
            command = [*COMMAND, "check", "--against", where, "--config", str(other.path)]
            command += ["--http", f"127.0.0.1:{p.http}"] if listens else []
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        listens = False
        other.write("a.test")
        said = checked()
        assert "a reload would change: new processes: --http is another one" in said
        assert "a reload would close 0 connections within 30 s" in said
        assert "0 WebSockets would be closed within 30 s" in said
        other.write("b.test", "c.test", more='http = "127.0.0.1:0"\n')
        said = checked()
        for line in (
            "change: site b.test: added", "change: site c.test: added",
            "change: site a.test: removed", "close no connection",
        ):  # fmt: skip
            assert f"a reload would {line}\n" in said, said
        other.write("a.test", more='http = "127.0.0.1:0"\n')
        assert "a reload would change nothing\n" in checked()
        assert served(p, "a.test") == {b"200"} and served(p, "b.test") == {b"421"}
        assert changing.counted("in_place") == 0
        for kind, body, status in (
            ("text/plain", b"{}", 415), ("application/json", b"{}", 400),
            ("application/json", b"x" * (9 << 20), 413),
        ):  # fmt: skip
            url = f"http://127.0.0.1:{changing.admin}/change"
            asking = urllib.request.Request(url, body, {"Content-Type": kind})
            expected = str(status) if status != 413 else ".*"
            with pytest.raises(OSError, match=expected) as refused:
                urllib.request.urlopen(asking, timeout=PATIENCE)
            if isinstance(refused.value, urllib.error.HTTPError):
                refused.value.close()
    command = [*COMMAND, "check", "--against", f"127.0.0.1:{free_port()}"]
    command += ["--upstream", changing.back]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1 and "is rawproxy running with --admin" in done.stderr


def test_what_a_reload_would_change_in_files_is_told(changing, tmp_path):
    """The bundle is one that workers have taken over in place; its new content is not in force."""
    tls, pem = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / "ca.pem"
    LEAF.configure_cert(tls)
    CA.cert_pem.write_to_path(str(pem))
    with (
        upstream(tls) as port,
        RawProxy("--config", str(changing.path), https=False) as p,
    ):
        trust = f'upstream = "https://127.0.0.1:{port}"\nupstream-verify = "{pem}"\n'
        changing.write("a.test", more=f"[group.g]\n{trust}")
        reload(p)
        command = [*COMMAND, "check", "--config", str(changing.path), "--http", "127.0.0.1:0"]
        command += ["--against", f"127.0.0.1:{changing.admin}"]

        def checked() -> str:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert "a reload would change nothing\n" in checked()
        CA.cert_pem.write_to_path(str(tmp_path / "new.pem"))
        os.replace(tmp_path / "new.pem", pem)
        assert "a reload would change nothing\n" in checked(), "another file, the same content"
        CA.cert_pem.write_to_path(str(tmp_path / "new.pem"))
        with (tmp_path / "new.pem").open("a") as file:
            file.write("# the same, in other words\n")
        os.replace(tmp_path / "new.pem", pem)
        assert f"a reload would change: file {pem}: another content\n" in checked()
        reload(p)
        assert "a reload would change nothing\n" in checked()


def test_tunnels_may_stay_with_old_processes_but_not_in_any_number(tmp_path):
    with contextlib.ExitStack() as stack:
        back = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.production.load_upstream"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(back.stdin.close)
        url = f"http://127.0.0.1:{int(back.stdout.readline())}"
        options = ["--drain-timeout", "1", "--timeout", "tunnel-drain=0", "--access-log", "off"]
        p = stack.enter_context(RawProxy("--upstream", url, *options, https=False))
        (old,) = workers(p)
        ws = stack.enter_context(connect(f"ws://127.0.0.1:{p.http}/ws", proxy=None))
        kept = stack.enter_context(socket.create_connection(("127.0.0.1", p.http), PATIENCE))
        ask(kept)
        reload(p, "all of them new", signal.SIGUSR2)
        assert kept.recv(10) == b"", "a connection without a tunnel ends as it does"
        time.sleep(1.5)  # beyond the drain
        ws.send("still here")
        assert ws.recv(PATIENCE) == "still here" and old in workers(p)
        for _ in range(MOST):  # each keeps a tunnel; a generation without any is none
            stack.enter_context(connect(f"ws://127.0.0.1:{p.http}/ws", proxy=None))
            reload(p, "all of them new", signal.SIGUSR2)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(PATIENCE)
        assert closed.value.rcvd.code == 1012
        until(lambda: old not in workers(p), "its process ends with it")
