"""A real Docker daemon: containers that come, are scaled, replaced and die, and a daemon that does.

The daemon is our own, with a socket and folders of its own; it makes no bridge and no rules for a
firewall. The image is one static program. Skipped where no daemon can be started (root, a kernel
that allows it), but never in CI.
"""

import http.client
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from tests.process import PATIENCE, RawProxy, free_port

# Answers each connection with its name. After SIGTERM it serves for a second still, as a good server
# does that somebody balances. SIGUSR1 makes it ill: its health check (`/server check`) fails.
SERVER = r"""
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void stop(int number) { (void)number; alarm(1); }
static void end(int number) { (void)number; _exit(0); }
static void ill(int number) { (void)number; close(open("/ill", O_CREAT | O_WRONLY, 0600)); }
int main(int count, char **words) {
    if (count > 1 && strcmp(words[1], "check") == 0) return access("/ill", F_OK) == 0;
    signal(SIGTERM, stop); signal(SIGALRM, end); signal(SIGUSR1, ill);
    signal(SIGHUP, SIG_IGN); signal(SIGPIPE, SIG_IGN);
    int port = atoi(getenv("PORT")), one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    const char *name = getenv("NAME");
    struct sockaddr_in at = {0};
    at.sin_family = AF_INET; at.sin_port = htons(port); at.sin_addr.s_addr = htonl(0x7f000001);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 512)) return 1;
    for (;;) {
        char head[4096], answer[512];
        int sock = accept(listener, 0, 0);
        if (sock < 0) continue;
        if (read(sock, head, sizeof head) > 0) {
            int size = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n"
                "Connection: close\r\n\r\n%s", strlen(name), name);
            if (write(sock, answer, size) < 0) { }
        }
        close(sock);
    }
}
"""


class Engine:
    """A dockerd that can be ended and started again; its containers live on meanwhile."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.path = f"{folder}/docker.sock"
        self.names: list[str] = []
        self.start()

    def start(self) -> None:
        command = [
            *["dockerd", "--host", f"unix://{self.path}", "--storage-driver", "vfs"],
            *["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"],
            *["--pidfile", f"{self.folder}/pid", "--bridge=none", "--live-restore"],
            *["--iptables=false", "--ip6tables=false"],
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            if self.run("version", check=False) is not None:
                return
            time.sleep(0.1)  # polling another program
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def run(self, *words: str, check: bool = True) -> str | None:
        command = ["docker", "--host", f"unix://{self.path}", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        if done.returncode:
            assert not check, f"docker {words[0]}: {done.stderr}"
            return None
        return done.stdout.strip()

    def container(
        self,
        name: str,
        *,
        host: str = "app.test",
        group: str = "app",
        image: str = "server",
        **labels,
    ) -> int:
        """Start one; its port."""
        port = free_port()
        words = [f"--label=rawproxy.{k.replace('_', '-')}={v}" for k, v in labels.items()]
        words += [f"--label=rawproxy.host={host}", f"--label=rawproxy.group={group}"]
        words += [f"--label=rawproxy.port={port}", f"--env=PORT={port}", f"--env=NAME={name}"]
        self.run("run", "--detach", "--name", name, "--network=host", *words, image, "/server")
        self.names.append(name)
        return port

    def remove(self, name: str) -> None:
        self.run("stop", "--time=5", name)
        self.run("rm", "--force", name)
        self.names.remove(name)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        for name in self.names:
            self.run("rm", "--force", name, check=False)
        self.stop()
        for mount in (self.folder / "exec" / "netns").glob("*"):
            subprocess.run(["umount", str(mount)], capture_output=True, check=False)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    missing = [one for one in ("dockerd", "docker", "gcc") if not which(one)]
    if missing or os.geteuid():
        pytest.skip(f"needs root and {' '.join(missing) or 'a daemon'}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        try:
            one = Engine(folder)
        except RuntimeError as error:
            pytest.skip(f"dockerd does not start here: {error}")
        try:
            (folder / "server.c").write_text(SERVER)
            command = ["gcc", "-static", "-O1", "-o", f"{name}/server", f"{name}/server.c"]
            subprocess.run(command, check=True)
            with tarfile.open(f"{name}/image.tar", "w") as tar:
                tar.add(f"{name}/server", "server")
            check = 'HEALTHCHECK --interval=1s --retries=1 CMD ["/server", "check"]'
            one.run("import", f"{name}/image.tar", "server")
            one.run("import", "--change", check, f"{name}/image.tar", "checked")
            yield one
        finally:
            one.close()


def which(program: str) -> str | None:
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")


FILE = """\
access-log = "off"
[discovery]
docker = "unix:{path}"
"""


@pytest.fixture
def proxy(engine, tmp_path) -> Iterator[RawProxy]:
    file = tmp_path / "rawproxy.toml"
    file.write_text(FILE.format(path=engine.path))
    with RawProxy("--config", str(file), https=False) as one:
        yield one
    for name in [*engine.names]:
        engine.run("rm", "--force", name)
        engine.names.remove(name)


def ask(proxy: RawProxy, host: str = "app.test") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=PATIENCE)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def until(condition, what: str) -> float:
    """Seconds until it is so."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, what
        time.sleep(0.01)  # polling other programs
    return time.monotonic() - began


class Load:
    """Clients who ask all the time; what they got, by status and by who answered."""

    def __init__(self, proxy: RawProxy, clients: int = 4) -> None:
        self.proxy = proxy
        self.failed: list[tuple[int, str]] = []
        self.by: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def _client(self) -> None:
        while not self._stop.wait(0.005):
            status, text = ask(self.proxy)
            with self._lock:
                if status == 200:
                    self.by[text] = self.by.get(text, 0) + 1
                else:
                    self.failed.append((status, text))

    def seen(self, name: str) -> bool:
        """Whether it has answered since this was last asked of it."""
        with self._lock:
            return self.by.pop(name, 0) > 0

    def unseen(self, name: str, seconds: float = 0.5) -> bool:
        """Whether it answers nobody for so long."""
        self.seen(name)
        time.sleep(seconds)
        return not self.seen(name)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def test_containers_come_are_scaled_replaced_and_go(engine, proxy):
    assert ask(proxy)[0] == 421, "nobody serves that name"
    engine.container("app-1")
    took = [until(lambda: ask(proxy) == (200, "app-1"), "the first one does not serve")]
    with Load(proxy) as load:
        for name in ("app-2", "app-3"):
            engine.container(name)
            took.append(until(lambda name=name: load.seen(name), f"{name} does not serve"))
        for old, new in (("app-1", "new-1"), ("app-2", "new-2"), ("app-3", "new-3")):
            engine.container(new)
            until(lambda new=new: load.seen(new), f"{new} does not serve")
            engine.remove(old)
            assert load.unseen(old)
        assert load.failed == [], "nobody has noticed"
    # The quickest of three: other work on this machine may hold up one of them.
    assert min(took) < 1.0, took
    for name in ("new-1", "new-2", "new-3"):
        engine.remove(name)
    until(lambda: ask(proxy)[0] == 421, "the last one has gone")


def test_one_that_is_killed_costs_no_more_than_it_had(engine, proxy):
    for name in ("one", "two"):
        engine.container(name)
    until(lambda: {ask(proxy)[1] for _ in range(8)} == {"one", "two"}, "both serve")
    with Load(proxy) as load:
        time.sleep(0.3)
        engine.run("kill", "one")
        until(lambda: load.seen("two"), "the other one serves")
        assert load.unseen("one")
    assert len(load.failed) <= 4, "what each of four clients had with it"
    engine.remove("one")
    engine.remove("two")


def test_the_daemon_restarts_and_what_serves_goes_on(engine, proxy):
    engine.container("stays")
    until(lambda: ask(proxy) == (200, "stays"), "it serves")
    with Load(proxy) as load:
        engine.stop()
        proxy.says(r"docker unix:\S+ is away: .*; what is known stays in force")
        time.sleep(1)
        engine.start()
        proxy.says(r"docker unix:\S+ is back")
        engine.container("later")
        until(lambda: load.seen("later"), "the new one serves")
    assert load.failed == []
    engine.remove("stays")
    engine.remove("later")


def test_health_is_honoured(engine, proxy):
    engine.container("plain")
    engine.container("checked", image="checked")
    until(lambda: ask(proxy) == (200, "plain"), "it serves")
    with Load(proxy) as load:
        until(lambda: load.seen("checked"), "it is healthy after its first check")
        engine.run("kill", "--signal", "USR1", "checked")
        until(lambda: load.unseen("checked"), "it is ill, and serves on")
        engine.remove("plain")
        until(lambda: load.seen("checked"), "nobody else is there")
    assert load.failed == []
    engine.remove("checked")


def test_a_label_that_is_wrong_is_named_and_the_others_serve(engine, proxy):
    engine.container("good", host="good.test", group="good")
    engine.container("bad", host="bad.test", group="bad", policy="fastest")
    engine.container("odd", host="odd.test", group="odd", hostt="x")
    until(lambda: ask(proxy, "good.test") == (200, "good"), "it serves")
    proxy.says(r"docker:group bad:\d+: \[group.bad\] policy fastest: known are round-robin")
    proxy.says(r"container odd: label rawproxy.hostt: not known; did you mean rawproxy.host\?")
    assert ask(proxy, "bad.test")[0] == 421
    for name in ("good", "bad", "odd"):
        engine.remove(name)
