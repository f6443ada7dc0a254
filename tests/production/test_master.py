"""Processes and signals: workers that die, reloads, systemd, and the way out."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import urllib.request

import psutil
import pytest
import trustme

from tests.process import LATER, PATIENCE, Program, RawProxy, free_port, replace

from .stage import (
    COMMAND,
    ask,
    copied,
    fetch,
    popen,
    reload,
    until,
    upstream,
    with_sockets,
    workers,
)

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def back():
    with upstream() as port:
        yield f"http://127.0.0.1:{port}"


def test_the_admins_allocator_settings_stay(back, monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    with RawProxy("--upstream", back, https=False) as p:
        (pid,) = workers(p)
        environment = psutil.Process(pid).environ()
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "65536"
    assert environment["MALLOC_MMAP_THRESHOLD_"] == "1048576"


def test_a_killed_worker_is_replaced_and_its_backlog_served(back):
    with RawProxy("--upstream", back, "--workers", "2", "--access-log", "off", https=False) as p:
        before = workers(p)
        assert len(before) == 2
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            waiting = [
                stack.enter_context(socket.create_connection(("127.0.0.1", p.http), PATIENCE))
                for _ in range(20)
            ]
            for sock in waiting:
                sock.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            for sock in waiting:
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        until(lambda: len(workers(p)) == 2, p.err())
        assert not workers(p) & before
        until(lambda: p.err().count("was killed by SIGKILL") == 2, p.err())


def test_one_that_is_told_to_go_is_replaced_at_once(back):
    with RawProxy("--upstream", back, "--access-log", "off", https=False) as p:
        (first,) = workers(p)
        with socket.create_connection(("127.0.0.1", p.http), PATIENCE) as kept:
            ask(kept)
            os.kill(first, signal.SIGTERM)
            until(lambda: workers(p) - {first}, p.err())
            assert b"\r\nconnection: close" in ask(kept).lower(), "and it finishes what it has"
        until(lambda: first not in workers(p), p.err())
        assert fetch(p.http).startswith(b"HTTP/1.1 200")
        assert len(workers(p)) == 1


def test_a_reload_brings_new_workers_and_keeps_the_socket(back):
    with RawProxy("--upstream", back, "--workers", "2", "--access-log", "off", https=False) as p:
        before = workers(p)
        reload(p, "nothing has changed")
        until(lambda: workers(p) == before, "there is no need of others")
        reload(p, number=signal.SIGUSR2)
        until(lambda: not workers(p) & before, p.err())
        assert len(workers(p)) == 2
        assert fetch(p.http).startswith(b"HTTP/1.1 200")
        # Two at once come to one after the other, and none is lost.
        for _ in range(3):
            p.process.send_signal(signal.SIGUSR2)
        until(lambda: p.err().count("all of them new") >= 2, p.err())


def test_a_broken_configuration_is_refused_and_the_old_one_goes_on(back, tmp_path):
    pair = tmp_path / "pair.pem"
    AUTHORITY.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pair))
    good = pair.read_bytes()
    tls = ["--https", "127.0.0.1:0", "--cert", str(pair), "--key", str(pair)]
    with RawProxy("--upstream", back, "--no-redirect", *tls, https=False) as p:
        before = workers(p)
        pair.write_bytes(b"nonsense")
        reload(p, "reload refused")
        assert f"--cert {pair}: no PEM certificate" in p.err()
        assert workers(p) == before
        assert fetch(p.http).startswith(b"HTTP/1.1 200")
        pair.write_bytes(good)
        reload(p)


def test_new_code_is_served_after_a_reload_and_broken_code_is_not(tmp_path):
    page = tmp_path / "rawproxy" / "protocol" / "http" / "error_pages.py"
    options = copied(tmp_path)
    command = [*COMMAND, "--upstream", "http://127.0.0.1:1", "--http", "127.0.0.1:0"]
    process = Program(command, **options)

    def said(word: str) -> None:
        until(lambda: word in process.err(), f"no {word}")

    try:
        said("rawproxy ready")
        port = int(re.search(r":(\d+)", process.err())[1])
        text = page.read_text()
        replace(page, "nonsense(\n" + text)
        process.process.send_signal(signal.SIGHUP)
        said("reload refused, the old configuration stays: cannot start: SyntaxError")
        assert b"text/plain; charset=utf-8" in fetch(port)
        # A worker that dies now finds other code than its configuration was made by.
        assert text.count('b"text/plain; charset=utf-8"') == 1
        replace(page, text.replace("text/plain; charset=utf-8", "text/plain; charset=new"))
        until(lambda: len(workers(process)) == 1, "the broken one's end")
        os.kill(*workers(process), signal.SIGKILL)
        said("the code has changed")
        said("reloaded: 1 worker")
        assert b"text/plain; charset=new" in fetch(port)
    finally:
        code = process.stop()
    assert code == 0


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("config.workers or cpus()", "Order.workers: a whole number is expected, not 'many'"),
        ("to_json(config)", "Config: an object is expected, not 'many'"),
    ],
)
def test_a_work_order_that_cannot_be_read_is_refused(tmp_path, written, why):
    """By the master, and by the new workers; the old ones go on."""
    module = tmp_path / "rawproxy" / "process" / "order.py"
    options = copied(tmp_path)
    command = [*COMMAND, "--upstream", "http://127.0.0.1:1", "--http", "127.0.0.1:0"]
    process = Program(command, **options)
    try:
        until(lambda: "rawproxy ready" in process.err(), "not ready")
        assert written in module.read_text()
        replace(module, module.read_text().replace(written, "'many'"))
        process.process.send_signal(signal.SIGHUP)
        refused = "reload refused, the old configuration stays: the work order cannot be read"
        until(lambda: f"{refused}: {why}" in process.err(), "not refused")
        until(lambda: len(workers(process)) == 1, "the refused one's end")
    finally:
        code = process.stop()
    assert code == 0


def test_a_second_signal_cuts_short():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        drain = f"drain={LATER}"  # so that it is the second signal that ends it
        p = RawProxy("--upstream", f"http://127.0.0.1:{port}", "--timeout", drain, https=False)
        with p, socket.create_connection(("127.0.0.1", p.http), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            silent.settimeout(PATIENCE)
            with silent.accept()[0] as asked:
                assert asked.recv(100)
                p.process.send_signal(signal.SIGTERM)
                # Nobody accepts any more: it has begun to drain.
                until(lambda: refused(p.http), "still listening")
                assert p.process.poll() is None
                p.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(ConnectionError):
                    assert client.recv(100) == b""
                assert p.process.wait(PATIENCE) == 0


def refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_workers_do_not_outlive_a_master_that_was_killed(back):
    p = RawProxy("--upstream", back, "--workers", "2", https=False)
    family = [psutil.Process(pid) for pid in workers(p)]
    assert len(family) == 2
    assert p.stop(signal.SIGKILL) == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive


def test_a_terminals_interrupt_reaches_all_and_is_the_masters_to_judge(back):
    p = RawProxy("--upstream", back, "--workers", "2", https=False)
    with p:
        for pid in workers(p):
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        assert fetch(p.http).startswith(b"HTTP/1.1 200")
        assert p.stop(signal.SIGINT) == 0
    assert "killed" not in p.err()
    assert "leaves" not in p.err()


def test_a_worker_that_cannot_start_is_one_line(tmp_path):
    command = [*COMMAND, *"--upstream a:1 --http 127.0.0.1:0 --workers 3 --access-log".split()]
    done = subprocess.run(
        [*command, str(tmp_path / "no" / "log")], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert done.stderr.startswith("rawproxy: error: cannot start: No such file or directory: ")
    assert done.stderr.count("\n") == 1


def test_everything_of_systemd(back, tmp_path):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        port = listening.getsockname()[1]
        command = with_sockets(
            [*COMMAND, "--upstream", back, "--http", f"127.0.0.1:{port}", "--workers", "2"],
            [listening],
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="2000000",
        )
        with popen(command, pass_fds=[listening.fileno()]) as process:
            try:

                def until_told(word: bytes) -> bytes:
                    while not (told := manager.recv(4096)).startswith(word):
                        assert told.split(b"=")[0] in (b"WATCHDOG", b"STATUS"), told
                    return told

                assert until_told(b"READY=1") == b"READY=1\nSTATUS=2 workers"
                assert fetch(port).startswith(b"HTTP/1.1 200")
                until_told(b"WATCHDOG=1")
                process.send_signal(signal.SIGHUP)
                assert b"MONOTONIC_USEC=" in until_told(b"RELOADING=1")
                assert until_told(b"READY=1") == b"READY=1\nSTATUS=2 workers"
                assert fetch(port).startswith(b"HTTP/1.1 200")
                # While a worker hangs, the watchdog is not told that all is well.
                master = psutil.Process(process.pid)
                until(lambda: len(master.children()) == 2, "the old ones are gone")
                family = master.children()
                for worker in family:
                    worker.suspend()
                manager.settimeout(1.5)
                with contextlib.suppress(TimeoutError):
                    until_told(b"READY=1")  # never: it is silence that is waited for
                manager.settimeout(PATIENCE)
                for worker in family:
                    worker.resume()
                until_told(b"WATCHDOG=1")
                process.terminate()
                until_told(b"STOPPING=1")
            finally:
                process.terminate()
                _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert "Traceback" not in err


def test_a_socket_of_systemds_that_no_option_names(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [*COMMAND, "--upstream", "a:1", "--http", "127.0.0.1:0"]
        done = subprocess.run(
            with_sockets(command, [listening]), pass_fds=[listening.fileno()],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    assert done.returncode == 1
    assert "systemd passed a socket that no option names" in done.stderr
    assert done.stderr.count("\n") == 1


def test_counters_are_summed_over_workers_and_outlive_them(back):
    options = ["--workers", "2", "--access-log", "off", "--admin", "127.0.0.1:0"]
    with RawProxy("--upstream", back, *options, https=False) as p:
        admin = int(re.search(r"admin on \S+:(\d+)", p.err())[1])

        def requests() -> float:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{admin}/metrics", timeout=PATIENCE
            ) as got:
                text = got.read().decode()
            counts = re.findall(r"^rawproxy_requests_total{.*} ([0-9.]+)$", text, re.MULTILINE)
            return sum(map(float, counts))

        for _ in range(20):
            fetch(p.http)
        until(lambda: requests() == 20, "the workers have not been asked yet")
        for pid in workers(p):
            os.kill(pid, signal.SIGKILL)
        until(lambda: p.err().count("was killed") == 2 and len(workers(p)) == 2, p.err())
        until(lambda: answers(admin), "the admin's successor")
        assert requests() == 20
        fetch(p.http)
        reload(p, number=signal.SIGUSR2)
        until(lambda: len(workers(p)) == 2, p.err())
        assert requests() == 21


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return sock.recv(100).startswith(b"HTTP/1.1 200")
    return False


def test_a_reload_follows_the_file(back, tmp_path):
    """More workers, fewer, another listener, one less: connections that wait are not lost."""
    first, second, file = free_port(), free_port(), tmp_path / "rawproxy.toml"

    def write(workers: object, *ports: int) -> None:
        listeners = [f"127.0.0.1:{port}" for port in ports]
        file.write_text(f'upstream = "{back}"\nhttp = {listeners}\nworkers = {workers}\n')

    write(1, first)
    process = Program([*COMMAND, "--config", str(file), "--access-log", "off"])
    try:
        until(lambda: "rawproxy ready" in process.err(), "start")
        for many, ports in ((3, (first, second)), (2, (second,)), ('"auto"', (first, second))):
            write(many, *ports)
            reload(process)
            for port in ports:
                assert fetch(port).startswith(b"HTTP/1.1 200")
            if len(ports) == 1:
                until(lambda: refused(first), "an address that is wanted no more")
        replace(file, file.read_text() + "keepalvie = 3\n")
        reload(process, "reload refused")
        assert "did you mean keepalive?" in process.err()
        assert fetch(first).startswith(b"HTTP/1.1 200")
    finally:
        code = process.stop()
    assert code == 0


def test_what_one_worker_has_pinned_is_pinned_by_all_and_over_reloads():
    """An impostor cannot wait for a new worker that would trust whatever it sees first."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    with upstream(context) as port:
        options = f"--upstream https://localhost:{port} --upstream-verify pin --workers 2"
        with RawProxy(*options.split(), https=False) as p:
            assert fetch(p.http).startswith(b"HTTP/1.1 200")
            found = p.says(r"--upstream-pin ([0-9a-f]{64})")[1]
            AUTHORITY.issue_cert("localhost").configure_cert(context)

            def refused_by_all() -> bool:
                return all(fetch(p.http).startswith(b"HTTP/1.1 502") for _ in range(10))

            reload_until(p, refused_by_all)
            p.says(r"SHA-256 ([0-9a-f]{64}), cannot be")
        assert set(re.findall(r"SHA-256 ([0-9a-f]{64}), cannot be", p.err())) == {found}
        assert set(re.findall(r"--upstream-pin ([0-9a-f]{64})", p.err())) == {found}


def reload_until(proxy: RawProxy, condition) -> None:
    """Reload, and wait for what new workers do."""
    before = workers(proxy)
    reload(proxy, number=signal.SIGUSR2)
    until(lambda: not workers(proxy) & before, "the old workers' end")
    until(condition, proxy.err())
