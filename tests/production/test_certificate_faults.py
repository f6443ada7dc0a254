"""Whatever goes wrong while a certificate is ordered: the folder is right, and the next try goes on."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("acme")

from rawproxy.acme import archive
from rawproxy.acme.archive import read, validity, write
from rawproxy.acme.keeper import Keeper
from rawproxy.acme.plan import Record
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.timing import DAY, HOUR
from rawproxy.config.json_codec import from_json, to_json
from tests.process import free_port
from tests.production.authority import CA, Pebble, needs_pebble, problem, refusing

pytestmark = needs_pebble
NAME = "a.test"
STEPS = (
    "account",
    "key",
    "order",
    "note",
    "answer",
    "challenge",
    "finalise",
    "fetch",
    "write",
    "forget",
)
# A process that ends at a step as if it were killed: no `finally`, no flush.
KILLED = """
import json, os, sys
from rawproxy.acme.keeper import Keeper
from rawproxy.acme.settings import AcmeSettings
from rawproxy.config.json_codec import from_json

def step(word):
    if word == sys.argv[2]:
        os._exit(9)

Keeper(from_json(AcmeSettings, json.loads(sys.argv[1])), step).attend("a.test")
"""


@pytest.fixture(scope="module")
def pebble():
    """It takes every proof; what is proved is not the matter here."""
    with Pebble(PEBBLE_VA_ALWAYS_VALID="1") as found:
        yield found


def settings(folder, *authorities, **told) -> AcmeSettings:
    return AcmeSettings(
        str(folder), authorities, (NAME,), "me@a.test", ("http-01", "tls-alpn-01"), **told
    )


def of(pebble) -> Authority:
    return Authority(pebble.url, pebble.root)


def served(keeper: Keeper):
    return validity(read(keeper.archive.live(NAME)))


def record(keeper: Keeper, at: int = 0) -> Record:
    return keeper.archive.record(keeper.settings.authorities[at], NAME)


def files(keeper: Keeper) -> list[str]:
    """What is left of an order, of answers, or half-written."""
    found = []
    for folder, _, names in os.walk(keeper.archive.folder):
        kind = os.path.basename(folder)
        found += [n for n in names if n.startswith(("order", ".part")) or kind in ("answers",)]
    return found


def good(keeper: Keeper) -> None:
    """It has its certificate, and nothing else is left."""
    assert keeper.attend(NAME) > time.time()
    assert served(keeper) is not None and served(keeper).holds(time.time())
    assert files(keeper) == []
    assert record(keeper).failures == 0


@pytest.mark.parametrize("word", STEPS)
def test_killed_at_each_step(tmp_path, pebble, word):
    told = settings(tmp_path, of(pebble))
    before = pebble.orders()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(to_json(told)), word], check=False, timeout=60
    )
    assert done.returncode == 9
    assert served(Keeper(told)) is None, "nothing that is half done is served"
    good(Keeper(told))
    assert pebble.orders() - before == 1, "one order: the one that was under way goes on"


@pytest.mark.parametrize("word", STEPS)
def test_a_renewal_that_is_cut_leaves_the_old_one(tmp_path, pebble, word):
    told = settings(tmp_path, of(pebble))
    keeper = Keeper(told)
    good(keeper)
    old = served(keeper)

    class CutError(BaseException):
        pass

    def step(now):
        if now == word:
            raise CutError

    write(keeper.archive.wanted(NAME), b"")
    with pytest.raises(CutError):
        Keeper(told, step).attend(NAME)
    if word != "forget":
        assert served(keeper) == old
    good(Keeper(told))
    assert served(keeper).serial != old.serial


@pytest.mark.parametrize("word", STEPS)
def test_a_full_disk_at_each_step(tmp_path, pebble, monkeypatch, word):
    """From that step on nothing can be written; then there is room again."""
    told = settings(tmp_path, of(pebble))
    full = False
    fsync = os.fsync

    def write_on(descriptor):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    def step(now):
        nonlocal full
        full = full or now == word

    monkeypatch.setattr(archive.os, "fsync", write_on)
    keeper = Keeper(told, step)
    again = keeper.attend(NAME)
    if word != "forget":
        assert again > time.time()
        assert keeper._spent or record(keeper).failures, "it is known, if only in memory"
        assert served(keeper) is None
    full = False
    keeper._step = lambda _: None
    keeper.settings = dataclasses.replace(told)
    keeper._spent.clear()
    write(keeper.archive.wanted(NAME), b"")
    good(keeper)


def test_an_authority_that_is_down_and_comes_back(tmp_path):
    with Pebble(PEBBLE_VA_ALWAYS_VALID="1") as pebble:
        pebble.stop()
        keeper = Keeper(settings(tmp_path, of(pebble)))
        again = keeper.attend(NAME)
        known = record(keeper)
        assert known.failures == 1 and time.time() + 3 < again < time.time() + 8
        assert f"{pebble.url}: cannot be reached: " in known.said and NAME not in files(keeper)
        pebble.start()
        assert keeper.attend(NAME) == again, "not before its time"
        write(keeper.archive.wanted(NAME), b"")
        good(keeper)


def test_an_authority_that_forgot_our_account(tmp_path):
    with Pebble(PEBBLE_VA_ALWAYS_VALID="1") as pebble:
        told = settings(tmp_path, of(pebble))
        keeper = Keeper(told)
        good(keeper)
        before = read(keeper.archive.of(of(pebble), "_account", "account.json"))
        pebble.stop()
        pebble.start()
        for one in (keeper, Keeper(told)):
            write(keeper.archive.wanted(NAME), b"")
            good(one)
        after = read(keeper.archive.of(of(pebble), "_account", "account.json"))
        assert json.loads(before)["key"] == json.loads(after)["key"], (
            "the same key, registered anew"
        )


def test_a_second_authority_steps_in_and_the_first_one_is_taken_back(tmp_path):
    with (
        Pebble(PEBBLE_VA_ALWAYS_VALID="1") as first,
        Pebble(PEBBLE_VA_ALWAYS_VALID="1") as second,
    ):
        first.stop()
        keeper = Keeper(settings(tmp_path, of(first), of(second)))
        assert keeper.attend(NAME) > time.time()
        assert record(keeper).failures == 1 and keeper.archive.linked(NAME) == 1
        one = served(keeper)
        first.start()
        write(keeper.archive.wanted(NAME), b"")
        good(keeper)
        assert keeper.archive.linked(NAME) == 0 and served(keeper) != one


def test_a_proof_that_fails_says_what_to_check_and_another_kind_is_tried(tmp_path):
    """Nobody answers at either port: the authority's own words, the name, and where to look."""
    with Pebble(http=free_port(), tls=free_port()) as pebble:
        keeper = Keeper(settings(tmp_path, of(pebble)))
        assert keeper.attend(NAME) > time.time() + 40
        known = record(keeper)
        assert known.failed_challenges == ("http-01",) and known.failures == 1
        assert known.said.startswith(f"{NAME}: the authority says connection (http-01): ")
        assert "port 80" in known.said and "refused" in known.said
        assert files(keeper) == []
        again = Keeper(keeper.settings)
        assert again.attend(NAME) > time.time() + 40, "a restart does not ask earlier"
        write(keeper.archive.wanted(NAME), b"")
        again.attend(NAME)
        assert record(keeper).failed_challenges == ("tls-alpn-01",)
        assert "port 443" in record(keeper).said and record(keeper).failures == 2


def test_an_account_that_the_authority_wants_bound(tmp_path):
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    with Pebble(bound=key, PEBBLE_VA_ALWAYS_VALID="1") as pebble:
        keeper = Keeper(settings(tmp_path / "no", of(pebble)))
        keeper.attend(NAME)
        assert "externalAccountRequired" in record(keeper).said
        assert "eab-key-id" in record(keeper).said
        (tmp_path / "key").write_text(key + "\n")
        bound = Authority(pebble.url, pebble.root, "kid-1", str(tmp_path / "key"))
        good(Keeper(settings(tmp_path / "yes", bound)))
        lacking = Authority(pebble.url, pebble.root, "kid-1", str(tmp_path / "none"))
        keeper = Keeper(settings(tmp_path / "none", lacking))
        keeper.attend(NAME)
        assert "base64url" in record(keeper).said


def refused(server, tmp_path, **told) -> Keeper:
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url = f"https://127.0.0.1:{server.server_port}/dir"
    return Keeper(settings(tmp_path / "s", Authority(url, str(tmp_path / "ca.pem")), **told))


def test_a_limit_is_waited_for_as_long_as_the_authority_says(tmp_path):
    with refusing() as server:
        told = problem("rateLimited", "too many certificates already issued")
        server.answers["newOrder"] = 429, told, {"Retry-After": "9000"}
        keeper = refused(server, tmp_path)
        again = keeper.attend(NAME)
        assert 8900 < again - time.time() < 9100
        assert "too many certificates already issued; wait" in record(keeper).said
        before = list(server.seen)
        assert Keeper(keeper.settings).attend(NAME) == again and server.seen == before
        server.answers["newOrder"] = 429, told, {}
        write(keeper.archive.wanted(NAME), b"")
        assert keeper.attend(NAME) - time.time() > 2 * HOUR, "the second time, without a word"


def test_a_limit_of_the_account_is_not_found_out_by_every_name(tmp_path):
    with refusing() as server:
        server.answers["newOrder"] = 429, problem("rateLimited", "x"), {"Retry-After": "5000"}
        keeper = refused(server, tmp_path)
        waits = [keeper.attend(f"n{number}.test") - time.time() for number in range(6)]
        assert all(4000 < wait < 5100 for wait in waits)
        assert server.seen.count("/newOrder") == 3


@pytest.mark.parametrize("days", [-3, 3])
def test_with_a_wrong_clock_nothing_is_ordered(tmp_path, days):
    with refusing() as server:
        server.date = time.strftime(
            "%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + days * DAY)
        )
        keeper = refused(server, tmp_path)
        keeper.attend(NAME)
        assert "/newOrder" not in server.seen
        assert f"72.0 hours {'behind' if days > 0 else 'ahead'}" in record(keeper).said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, problem("serverInternal", "oops"), {}), "oops"),
        ((503, {}, {}), "cannot be reached"),
        ((201, ["odd"], {}), "no answer of an authority"),
        ((403, problem("rejectedIdentifier", "policy"), {}), "leave a.test out"),
        ((400, problem("badNonce", "again"), {}), "again"),
    ],
)
def test_odd_answers_are_said_and_stop_nothing(tmp_path, answer, said):
    with refusing() as server:
        server.answers["newOrder"] = answer
        keeper = refused(server, tmp_path)
        assert keeper.attend(NAME) > time.time()
        assert said in record(keeper).said, record(keeper).said


def test_the_authority_s_window(tmp_path, pebble):
    """Pebble has none (RFC 9773), so its certificate is asked about elsewhere."""
    first = Keeper(settings(tmp_path / "s", of(pebble)))
    good(first)
    with refusing() as server:
        keeper = refused(server, tmp_path)
        ours, theirs = of(pebble), keeper.settings.authorities[0]
        pem = read(first.archive.of(ours, NAME, "certificate.pem"))
        write(keeper.archive.of(theirs, NAME, "certificate.pem"), pem)
        window = {"start": "2099-01-02T03:04:05Z", "end": "2099-01-03T03:04:05.5Z"}
        server.answers["renewalInfo"] = 200, {"suggestedWindow": window}, {"Retry-After": "7200"}
        again = keeper.attend(NAME)
        assert 600 <= again - time.time() < 7300
        known = record(keeper)
        assert known.window[1] - known.window[0] == pytest.approx(86400.5)
        assert known.serial == served(keeper).serial and known.ask_at > time.time() + 7000
        assert sum(path.startswith("/renewalInfo/") for path in server.seen) == 1
        server.answers["renewalInfo"] = 200, {"suggestedWindow": window | {"start": "x"}}, {}
        keeper.archive.save_record(theirs, NAME, Record())
        keeper.attend(NAME)
        assert record(keeper).window == () and record(keeper).ask_at > time.time() + 5 * HOUR
        window = {"start": "2020-01-02T03:04:05Z", "end": "2020-01-03T03:04:05Z"}
        server.answers["renewalInfo"] = 200, {"suggestedWindow": window}, {}
        server.answers["newOrder"] = 429, problem("rateLimited", "x"), {}
        keeper.archive.save_record(theirs, NAME, Record())
        keeper.attend(NAME)
        assert server.seen[-1] == "/newOrder", "it is due now, and says what it replaces or not"


def test_a_damaged_folder_costs_one_order(tmp_path, pebble):
    told = settings(tmp_path, of(pebble))
    keeper = Keeper(told)
    good(keeper)
    for name, text in (
        ("certificate.pem", b"half"), ("record.json", b"{"), ("order.json", b'{"url": 5}'),
        ("order.json", b'{"url": "https://127.0.0.1:1/x", "begun": 0}'),
    ):  # fmt: skip
        write(keeper.archive.of(of(pebble), NAME, name), text)
        good(Keeper(told))
    for text in (b"", b"{", b'{"key": "x"}', b"[]"):
        write(keeper.archive.of(of(pebble), "_account", "account.json"), text)
        write(keeper.archive.wanted(NAME), b"")
        good(Keeper(told))


def test_a_folder_that_cannot_be_written_is_said(tmp_path, pebble, caplog):
    (tmp_path / "acme").write_text("")
    keeper = Keeper(settings(tmp_path, of(pebble)))
    assert keeper.attend(NAME) > time.time()
    assert "the state folder cannot be written" in caplog.text
    assert from_json(AcmeSettings, to_json(keeper.settings)) == keeper.settings
