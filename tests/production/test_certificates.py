"""Certificates by themselves, with Pebble as the authority: what a user sees of them.

Ten renewals under load, a thousand names and the whole matrix of faults take longer:
`make certificates`.
"""

import base64
import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import time

import dns.tsigkeyring
import pytest

pytest.importorskip("acme")

from tests.outposts.server import Recorder
from tests.process import PATIENCE, Program, RawProxy, free_port, needs
from tests.production.authority import Pebble, needs_pebble, run
from tests.production.stage import until
from tests.zone_server import ZoneServer

pytestmark = needs_pebble


@pytest.fixture(scope="module")
def upstream():
    with Recorder() as found:
        yield f"http://127.0.0.1:{found.port}"


@pytest.fixture(scope="module")
def pebble():
    with Pebble(PEBBLE_VA_NOSLEEP="", PEBBLE_VA_SLEEPTIME="1") as found:
        yield found


def proxy(pebble, upstream, state, *options, http=0, https=0) -> RawProxy:
    """A proxy where the authority looks, unless told otherwise."""
    return RawProxy(
        "--upstream", upstream, "--https", f"127.0.0.1:{https or pebble.tls}",
        "--state", str(state), *pebble.options(), *options,
        https=False, http=f"127.0.0.1:{http or pebble.http}",
    )  # fmt: skip


def shown(port: int, name: str, trusted: str) -> dict | None:
    """The certificate that a client sees which trusts only the authority; None if it trusts not."""
    context = ssl.create_default_context(cadata=trusted)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as sock,
            context.wrap_socket(sock, server_hostname=name) as tls,
        ):
            tls.sendall(b"GET /x HTTP/1.1\r\nHost: %b\r\n\r\n" % name.encode())
            assert b"200" in tls.recv(4096)
            return tls.getpeercert()
    except ssl.SSLCertVerificationError:
        return None


def trusted(port: int, name: str, pebble: Pebble) -> dict:
    """Wait until a client trusts it; the certificate. Another worker may be a second behind."""
    issuer = pebble.issuer()
    seen = []
    until(lambda: seen.append(shown(port, name, issuer)) or seen[-1], f"none for {name}")
    return seen[-1]


def test_from_an_empty_folder_to_a_trusted_certificate_by_one_command(tmp_path, pebble, upstream):
    state = tmp_path / "state"
    options = ["--acme", "me@a.test", "--server-name", "one.test"]
    with proxy(pebble, upstream, state, *options, "--workers", "2") as found:
        assert shown(pebble.tls, "one.test", pebble.issuer()) is None, "it serves from the start"
        assert "no certificate yet for one.test" in found.err()
        first = trusted(pebble.tls, "one.test", pebble)
        found.says("accepts its terms, data:text/plain,Do%20what%20thou%20wilt")
        found.says("one.test: a new certificate is there, until ")
        listed = run("certificates", "list", "--upstream", upstream, "--state", str(state),
                     *pebble.options(), *options)  # fmt: skip
        assert listed.stdout.startswith("one.test  until 20"), listed
        checked = run("check", "--upstream", upstream, "--state", str(state),
                      *pebble.options(), *options)  # fmt: skip
        assert f"authority {pebble.url}: answers" in checked.stdout, checked
        assert "certificate of one.test: until 20" in checked.stdout
        # The redirect and the site are where they were.
        with socket.create_connection(("127.0.0.1", pebble.http), PATIENCE) as sock:
            sock.sendall(b"GET /.well-known/acme-challenge/none HTTP/1.1\r\nHost: one.test\r\n\r\n")
            assert b" 301 " in sock.recv(4096)
    orders = pebble.orders()
    with proxy(pebble, upstream, state, *options) as again:
        assert shown(pebble.tls, "one.test", pebble.issuer()) == first, "at once, and no new one"
        assert "no certificate yet" not in again.err()
        time.sleep(1.5)  # the keeper has looked
        assert pebble.orders() == orders


def test_a_new_one_by_command_and_one_that_is_to_hold_no_more(tmp_path, pebble, upstream):
    state = tmp_path / "state"
    options = ["--acme", "me@a.test", "--server-name", "two.test"]
    words = ["--upstream", upstream, "--state", str(state), *pebble.options(), *options]
    with proxy(pebble, upstream, state, *options):
        first = trusted(pebble.tls, "two.test", pebble)
        renewed = run("certificates", "renew", *words, "two.test")
        assert renewed.stdout == "two.test: renewed\n", renewed
        issuer = pebble.issuer()
        until(lambda: shown(pebble.tls, "two.test", issuer) not in (None, first), "the old one")
        second = shown(pebble.tls, "two.test", issuer)
        revoked = run("certificates", "revoke", *words, "two.test", "--reason", "superseded")
        assert revoked.stdout.startswith("two.test: revoked"), revoked
        until(lambda: shown(pebble.tls, "two.test", issuer) not in (None, second), "the old one")
        keyed = run("certificates", "renew", *words, "--account-key")
        assert "the account has a new key" in keyed.stdout, keyed
        renewed = run("certificates", "renew", *words)
        assert renewed.stdout == "two.test: renewed\n", renewed
    other = run("certificates", "renew", *words, "other.test")
    assert other.returncode == 2 and "not a name whose certificate keeps itself" in other.stderr


CONFIG = """
acme = "me@a.test"
upstream = "{upstream}"
acme-ca = "{url}"
acme-ca-root = "{root}"
state = "{state}"
http = ["127.0.0.1:{http}"]
https = ["127.0.0.1:{tls}"]
{sites}
"""


def by_file(tmp_path, pebble, upstream, sites) -> Program:
    path = tmp_path / "f.toml"
    path.write_text(
        CONFIG.format(
            upstream=upstream,
            url=pebble.url,
            root=pebble.root,
            state=tmp_path / "state",
            http=pebble.http,
            tls=pebble.tls,
            sites=sites,
        )
    )
    return Program([sys.executable, "-m", "rawproxy", "--config", str(path)])


def test_by_the_port_of_https_while_others_are_served(tmp_path, pebble, upstream):
    """TLS-ALPN-01; two sites, of which one asks for client certificates."""
    from tests.production.authority import CA

    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    sites = '[certificates]\nchallenges = ["tls-alpn-01"]\n[[site]]\nserver-name = "alpn.test"\n'
    sites += '[[site]]\nserver-name = "mtls.test"\nclient-ca = "ca.pem"\nacme = false\n'
    program = by_file(tmp_path, pebble, upstream, sites)
    try:
        program.says("rawproxy ready")
        trusted(pebble.tls, "alpn.test", pebble)
        assert not os.listdir(tmp_path / "state" / "acme" / "answers")
    finally:
        assert program.stop(signal.SIGTERM) == 0
    assert "acme-challenge" not in program.out(), "nobody asked on the plain port"


def test_a_wildcard_by_a_program_that_changes_dns(tmp_path, pebble, upstream):
    hook = tmp_path / "hook"
    hook.write_text(
        f"#!{sys.executable}\nimport json, sys, urllib.request\n"
        "what, name, value = sys.argv[1:]\n"
        f"url = 'http://127.0.0.1:{pebble.names}/' + ('set-txt' if what == 'set' else 'clear-txt')\n"
        "told = json.dumps({'host': name + '.', 'value': value}).encode()\n"
        "urllib.request.urlopen(url, told)\n"
    )
    hook.chmod(0o700)
    sites = f'[certificates]\ndns-hook = "{hook}"\ndns-settle = 0\n'
    sites += '[[site]]\nserver-name = ["*.wild.test", "wild.test"]\n'
    program = by_file(tmp_path, pebble, upstream, sites)
    try:
        program.says("rawproxy ready")
        trusted(pebble.tls, "any.wild.test", pebble)
        trusted(pebble.tls, "wild.test", pebble)
    finally:
        assert program.stop(signal.SIGTERM) == 0


def test_a_wildcard_by_a_name_server_that_takes_signed_changes(tmp_path, upstream):
    """RFC 2136: the authority itself looks there."""
    secret = base64.b64encode(b"s" * 32).decode()
    server = ZoneServer("zone.test", dns.tsigkeyring.from_text({"key.test": secret}))
    (tmp_path / "key").write_text(secret)
    sites = (
        f'[certificates]\ndns-settle = 0\n[certificates.dns]\nserver = "127.0.0.1:{server.port}"\n'
    )
    sites += 'key-name = "key.test"\nkey-file = "key"\n'
    sites += '[[site]]\nserver-name = ["*.in.zone.test", "in.zone.test"]\n'
    with contextlib.closing(server), Pebble(dns=server.port) as pebble:
        program = by_file(tmp_path, pebble, upstream, sites)
        try:
            program.says("rawproxy ready")
            trusted(pebble.tls, "any.in.zone.test", pebble)
            trusted(pebble.tls, "in.zone.test", pebble)
        finally:
            assert program.stop(signal.SIGTERM) == 0
        assert len(server.ever) == 2 and not server.records, "what was set is removed"


@needs("caddy")
@needs("ip", "iproute2")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network namespace")
@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_another_authority(challenge):
    """Caddy's, a second implementation. It looks at ports 80 and 443 alone."""
    name = f"rawproxy{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inside = ["ip", "netns", "exec", name]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        words = [*inside, sys.executable, "-m", "tests.production.second_authority", challenge]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    found = json.loads(done.stdout)
    assert ["DNS", "localhost"] in found["shown"]["subjectAltName"]
    assert found["renewed"] == "localhost: renewed\n"
    assert "internal error" not in found["err"]


def test_a_name_that_nobody_listed_once_a_url_allows_it(tmp_path, pebble, upstream):
    """The upstream allows everything but what it does not know: here it is the recorder."""
    sites = f'[certificates]\nask = "{upstream}/may"\n'
    program = by_file(tmp_path, pebble, upstream, sites)
    try:
        program.says("rawproxy ready")
        first = trusted(pebble.tls, "any.test", pebble)
        trusted(pebble.tls, "other.test", pebble)
        assert shown(pebble.tls, "any.test", pebble.issuer()) == first
    finally:
        assert program.stop(signal.SIGTERM) == 0
    again = by_file(tmp_path, pebble, upstream, sites)
    try:
        again.says("rawproxy ready")
        assert shown(pebble.tls, "any.test", pebble.issuer()) == first, "kept over a restart"
    finally:
        assert again.stop(signal.SIGTERM) == 0


def test_a_reload_and_a_killed_keeper_lose_nothing(tmp_path, pebble, upstream):
    import psutil

    state = tmp_path / "state"
    options = ["--acme", "me@a.test", "--server-name", "three.test"]
    with proxy(pebble, upstream, state, *options) as found:
        keeper = _keeper(found)
        keeper.kill()
        found.says(r"keeper of acme \(\d+\): it was killed by SIGKILL; another one starts in 0 s")
        found.process.send_signal(signal.SIGHUP)
        found.says("reloaded: 1 worker")
        trusted(pebble.tls, "three.test", pebble)
        keeper = _keeper(found)
    until(lambda: not psutil.pid_exists(keeper.pid), "the keeper outlives its master")


def _keeper(found: RawProxy):
    """The keeper's process: the child of the master that is told of no sockets to listen on."""
    import psutil

    def listens(process):
        try:
            with_sockets = [one for one in process.net_connections("tcp") if one.status == "LISTEN"]
        except psutil.NoSuchProcess:  # the loader of a reload, or a worker of before it
            return True
        return bool(with_sockets)

    def look():
        children = psutil.Process(found.process.pid).children()
        return [child for child in children if not listens(child)]

    seen = []
    until(lambda: seen.extend(look()) or seen, "no keeper")
    return seen[0]


def test_a_name_that_a_reload_brings(tmp_path, pebble, upstream):
    """The workers stay, and so does the certificate of the name that was there."""
    program = by_file(tmp_path, pebble, upstream, '[[site]]\nserver-name = "five.test"\n')
    try:
        program.says("rawproxy ready")
        one = trusted(pebble.tls, "five.test", pebble)
        with (tmp_path / "f.toml").open("a") as file:
            file.write('[[site]]\nserver-name = "six.test"\n')
        program.process.send_signal(signal.SIGHUP)
        program.says("reloaded")
        trusted(pebble.tls, "six.test", pebble)
        assert shown(pebble.tls, "five.test", pebble.issuer()) == one
    finally:
        assert program.stop(signal.SIGTERM) == 0


def test_two_that_share_a_folder_order_once_and_one_takes_over(tmp_path, upstream):
    """Whoever is asked answers; who is killed in the middle is followed within a minute."""
    state = tmp_path / "state"
    options = ["--acme", "me@a.test", "--server-name", "four.test"]
    away, port = free_port(), free_port()
    with (
        Pebble(PEBBLE_VA_NOSLEEP="", PEBBLE_VA_SLEEPTIME="3") as pebble,
        proxy(pebble, upstream, state, *options) as second,
    ):
        first = proxy(pebble, upstream, state, *options, http=away, https=port)
        try:
            one = trusted(port, "four.test", pebble)
            assert trusted(pebble.tls, "four.test", pebble) == one
            assert pebble.orders() == 1
            _keeper(second).suspend()
            wanted = state / "acme" / "wanted" / "four.test"
            wanted.parent.mkdir(exist_ok=True)
            wanted.write_text("")
            until(lambda: pebble.orders() == 2, "nobody orders")
            # Killed before it knew the order's address, nobody could go on with it.
            until(lambda: list(state.rglob("order.json")), "the order is not kept")
            first.process.kill()
        finally:
            first.stop()
        _keeper(second).resume()
        issuer = pebble.issuer()
        until(lambda: shown(pebble.tls, "four.test", issuer) != one, "it does not go on")
        assert pebble.orders() == 2, "it went on with the order"


def test_nothing_of_it_is_loaded_without_the_option(upstream):
    text = "import sys, rawproxy.cli as c; c.reread(['--upstream', 'a:1']); "
    text += "print([m for m in sys.modules if m in ('acme', 'josepy', 'requests')])"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
    with RawProxy("--upstream", upstream, https=False) as found:
        import psutil

        assert len(psutil.Process(found.process.pid).children()) == 1, "a worker and no keeper"
        children = psutil.Process(found.process.pid).children()
        maps = pathlib.Path(f"/proc/{children[0].pid}/maps").read_text()
        assert "josepy" not in maps
