"""Two archives and one store: what each tells the other, who works on what, and a store that is away."""

import logging
import os
import time

import pytest
import trustme

from rawproxy.acme import sharing
from rawproxy.acme.advice import IssueError
from rawproxy.acme.archive import read, write
from rawproxy.acme.leases import Leases
from rawproxy.acme.plan import Record
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.shared_archive import SharedArchive, TakenOverError
from rawproxy.acme.shared_values import MEMORY, Seal
from rawproxy.acme.sharing import Sharing, shared
from rawproxy.acme.timing import DAY, Validity
from rawproxy.errors import ConfigError, StoreError
from rawproxy.store.address import parse_store
from rawproxy.store.folder_store import FolderStore

CA = trustme.CA()
ONE = Authority("https://one.test/dir")
NAME = "a.test"


def pem(name=NAME) -> bytes:
    return CA.issue_cert(name).private_key_and_cert_chain_pem.bytes()


class OutStore(FolderStore):
    """A folder that can be away."""

    away = ""

    def get(self, name):
        if self.away:
            raise StoreError(self.away)
        return super().get(name)

    def put(self, *words, **told):
        if self.away:
            raise StoreError(self.away)
        return super().put(*words, **told)

    def lock(self, name, seconds):
        if self.away:
            raise StoreError(self.away)
        return super().lock(name, seconds)


class Watch:
    now = 100.0

    def __call__(self):
        return self.now


class Machine:
    def __init__(self, folder, shared_folder, *, ask=None, secret=None, names=(NAME,)) -> None:
        told = AcmeSettings(str(folder), (ONE,), names, ask=ask)
        store = OutStore(parse_store(f"file:{shared_folder}"))
        self.archive = SharedArchive(told, store, Seal(secret))
        self.news = []
        self.archive.changed = self.news.append
        self.watch = Watch()
        self.sharing = Sharing(self.archive, self.watch)
        self.leases = Leases(told.folder(), str(folder))

    def reach(self) -> "Machine":
        self.hears = self.sharing.reach()
        self.news.clear()
        return self

    def hear(self) -> None:
        """What has changed since the last time."""
        self.archive.there = True

        def once(_):
            self.archive.there = False
            return found

        found = self.hears.wait(0)
        watch = type("Heard", (), {"wait": staticmethod(once)})
        with pytest.raises(StoreError):
            self.sharing._follow(watch)
        self.archive.there = True

    def take(self, held=None):
        local = self.leases.take(NAME)
        found = self.sharing.take(local, ONE, held)
        if found is None:
            local.release()
        return found

    def file(self, name, of=NAME) -> bytes | None:
        return read(self.archive.of(ONE, of, name))


@pytest.fixture
def pair(tmp_path):
    store = FolderStore(parse_store(f"file:{tmp_path}/shared"))
    store.put(MEMORY, b"1")
    return [Machine(tmp_path / who, tmp_path / "shared").reach() for who in ("one", "other")]


def test_what_one_writes_the_other_has(pair):
    one, other = pair
    lease = one.take()
    assert other.take() is None, "it is worked on"
    one.archive.save(ONE, NAME, "order.json", {"url": "u"})
    one.archive.put(ONE, NAME, "certificate.pem", first := pem())
    one.archive.save_record(ONE, NAME, Record(failures=2))
    other.hear()
    assert other.file("certificate.pem") == first and NAME in other.news
    assert other.archive.record(ONE, NAME).failures == 2
    other.archive.link(ONE, NAME)
    before = os.lstat(other.archive.live(NAME)).st_ino
    one.archive.put(ONE, NAME, "order.json", None)
    one.archive.put(ONE, NAME, "certificate.pem", pem())
    other.hear()
    assert other.file("order.json") is None
    assert os.lstat(other.archive.live(NAME)).st_ino != before, "workers look at it"
    lease.release()
    one.archive.agree(ONE, NAME)
    found = other.take()
    assert found.held()
    found.sure()


def test_who_was_stopped_for_too_long_has_lost_it(pair, monkeypatch):
    one, other = pair
    monkeypatch.setattr(sharing, "HELD", 0.05)
    lease = one.take()
    lease.sure()
    time.sleep(0.1)  # the file server's clock
    assert other.take().held()
    with pytest.raises(TakenOverError, match="another machine has taken it over"):
        lease.sure()
    with pytest.raises(TakenOverError):
        one.archive.put(ONE, NAME, "order-key.pem", b"mine")
    one.archive.agree(ONE, NAME)  # as it hears of it
    with pytest.raises(TakenOverError):
        one.archive.put(ONE, NAME, "order-key.pem", b"mine")
    assert one.file("order-key.pem") is None, "what the other has counts"
    lease.release()
    time.sleep(0.1)
    one.sharing._leases.clear()
    again = one.take()
    assert again.held(), "and once that one was silent too, it is free"


def test_a_lock_that_the_store_has_forgotten_is_taken_anew(pair, tmp_path):
    one, other = pair
    lease = one.take()
    for name in os.listdir(tmp_path / "shared" / "locks"):
        os.unlink(tmp_path / "shared" / "locks" / name)
    one.sharing._renew()
    assert other.take() is None and lease.held()
    lease.sure()
    lease.release()
    one.sharing._renew()
    assert other.take() is not None, "what was released is not taken again"


def test_an_empty_store_gets_back_what_is_known_and_is_not_trusted_at_once(pair, tmp_path):
    one, _ = pair
    one.take().release()
    one.archive.put(ONE, NAME, "certificate.pem", pem())
    for name in os.listdir(tmp_path / "shared" / "values"):
        os.unlink(tmp_path / "shared" / "values" / name)
    later = Machine(tmp_path / "later", tmp_path / "shared").reach()
    assert later.take() is None, "others may be at work"
    one.reach()
    assert one.take() is None
    one.watch.now += sharing.GRACE + 1
    later.hear()
    assert later.file("certificate.pem") == one.file("certificate.pem")
    one.archive.store.put("acme/settling", None)
    assert one.take() is not None


def test_a_store_that_is_away(pair, caplog):
    one, other = pair
    lease = one.take()
    one.archive.store.away = "gone"
    one.archive.save(ONE, NAME, "order.json", {"url": "u"})
    assert not one.archive.there and one.file("order.json"), "what was begun goes on"
    assert lease.held()
    one.sharing._lose(StoreError("gone"))
    one.sharing._lose(StoreError("gone"))
    assert caplog.text.count("is away: gone; those that are there stay in use") == 1
    lease.release()
    now = time.time()
    assert one.take() is None, "there is no certificate to be lost"
    assert one.take(Validity(now - 80 * DAY, now + 10 * DAY)) is None
    alone = one.take(Validity(now - 89 * DAY, now + DAY / 2))
    assert alone.held() and "it is ordered without the store" in caplog.text
    alone.sure()
    alone.release()
    one.archive.store.away = ""
    with caplog.at_level(logging.INFO):
        one.reach()
    assert "is back" in caplog.text
    other.hear()
    assert other.file("order.json") == one.file("order.json"), "it is told late"


def test_an_order_is_not_begun_if_the_store_goes_just_now(pair):
    one, _ = pair
    lease = one.take()
    one.sharing.store.away = "gone"
    one.sharing.store.lock = None
    lease.lock = type("Lock", (), {"renew": lambda _: one.sharing.store.get("x")})()
    with pytest.raises(IssueError, match="not ordered, as the store is away: gone"):
        lease.sure()
    assert not one.archive.there


def test_what_is_damaged_here_is_told_to_nobody(pair):
    one, other = pair
    one.take().release()
    good = pem()
    one.archive.put(ONE, NAME, "certificate.pem", good)
    other.hear()
    write(other.archive.of(ONE, NAME, "certificate.pem"), b"half")
    other.archive.agree(ONE, NAME)
    assert other.file("certificate.pem") == good
    write(other.archive.of(ONE, NAME, "shared.json"), b"{")
    other.archive.agree(ONE, NAME)
    one.archive.agree(ONE, NAME)
    assert one.file("certificate.pem") == good


def test_one_account_though_two_begin_at_once(pair):
    one, other = pair
    assert one.archive.save(ONE, "_account", "account.json", {"key": "one"}, first=True)
    assert not other.archive.save(ONE, "_account", "account.json", {"key": "other"}, first=True)
    assert other.file("account.json", "_account") == one.file("account.json", "_account")
    write(other.archive.of(ONE, "_account", "account.json"), b'{"key": "third"}')
    one.archive.save(ONE, "_account", "account.json", {"key": "one", "uri": "u"})
    assert not other.archive.save(ONE, "_account", "account.json", {"key": "third", "uri": "v"})
    assert b"one" in other.file("account.json", "_account")


def test_answers_are_everywhere_and_go_again(pair):
    one, other = pair
    folder = os.path.join(one.archive.folder, "answers")
    write(os.path.join(folder, "tok"), b"tok.print")
    one.archive.answered(os.path.join(folder, "tok"))
    other.hear()
    there = os.path.join(other.archive.folder, "answers", "tok")
    assert read(there) == b"tok.print"
    other.archive.agree_answers()
    one.archive.unanswered(os.path.join(folder, "tok"))
    other.hear()
    assert read(there) is None


def test_answers_that_were_put_while_the_store_was_away_are_told_late(pair):
    one, other = pair
    folder = os.path.join(one.archive.folder, "answers")
    write(os.path.join(folder, "tok"), b"tok.print")
    one.archive.there = False
    one.archive.answered(os.path.join(folder, "tok"))
    one.reach()
    other.hear()
    assert read(os.path.join(other.archive.folder, "answers", "tok")) == b"tok.print"


def test_names_on_demand_are_everywhere_with_what_they_have(tmp_path):
    one, other = (
        Machine(tmp_path / who, tmp_path / "shared", ask="http://x", names=()).reach()
        for who in ("one", "other")
    )
    one.archive.demand("new.test")
    one.archive.fence(ONE, "new.test")
    one.archive.put(ONE, "new.test", "certificate.pem", pem("new.test"))
    other.hear()
    assert other.archive.take_names("demanded", remove_them=False) == ["new.test"]
    assert "new.test" in other.news
    assert other.file("certificate.pem", "new.test") == one.file("certificate.pem", "new.test")
    other.archive.undemand("new.test")
    one.hear()
    assert one.archive.take_names("demanded", remove_them=False) == []
    with_none = Machine(tmp_path / "third", tmp_path / "shared").reach()
    assert with_none.archive.take_names("demanded", remove_them=False) == []


def test_values_of_another_secret_are_left_alone(tmp_path):
    one = Machine(tmp_path / "one", tmp_path / "shared", secret=b"s" * 32).reach()
    one.archive.save(ONE, "_account", "account.json", {"key": "one"})
    other = Machine(tmp_path / "other", tmp_path / "shared", secret=b"t" * 32)
    with pytest.raises(StoreError, match="is not sealed by this store-key"):
        other.reach()
    assert not other.archive.there
    values = tmp_path / "shared" / "values"
    assert not any(b"one" in (values / name).read_bytes() for name in os.listdir(values))


def test_it_notices_that_the_store_has_forgotten(pair):
    one, _ = pair
    one.archive.store.put(MEMORY, None)
    one.watch.now += sharing.LOOK

    def wait(_):
        one.watch.now += sharing.LOOK + 1
        return []

    with pytest.raises(StoreError, match="forgotten"):
        one.sharing._follow(type("Silent", (), {"wait": staticmethod(wait)}))


def test_where_it_is_told_of_no_store_there_is_none(tmp_path):
    told = AcmeSettings(str(tmp_path), (ONE,))
    assert shared(told) is None
    told = AcmeSettings(str(tmp_path), (ONE,), store=f"file:{tmp_path}/s", store_key="/nowhere")
    with pytest.raises(ConfigError, match="store-key /nowhere: not to be read, or shorter than 32"):
        shared(told)
    (tmp_path / "key").write_text("x" * 32)
    told = AcmeSettings(
        str(tmp_path), (ONE,), store=f"file:{tmp_path}/s", store_key=f"{tmp_path}/key"
    )
    assert shared(told).store.shown == f"file:{tmp_path}/s"


def test_until_when_an_authority_is_left_alone_is_known_everywhere(pair):
    one, other = pair
    one.archive.save(ONE, "_limits", "limits.json", {"until": 5.0})
    other.hear()
    assert other.archive.json(other.archive.of(ONE, "_limits", "limits.json")) == {"until": 5.0}
    other.archive.save(ONE, "_limits", "limits.json", {"until": 7.0})
    one.hear()
    assert one.archive.json(one.archive.of(ONE, "_limits", "limits.json")) == {"until": 7.0}


def test_commands_that_tell_something_need_the_store(tmp_path):
    from rawproxy.acme.commands import opened
    from rawproxy.config.json_codec import to_json
    from rawproxy.config.model import Config

    def config(store):
        told = AcmeSettings(str(tmp_path / "state"), (ONE,), (NAME,), store=store)
        return Config(keepers=(("acme", to_json(told)),))

    _, found = opened(config(f"file:{tmp_path}/shared"), tells=True)
    assert isinstance(found, SharedArchive) and found.there
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"^--store file:\S+: Not a directory: .*; is it running\?"
    ):
        opened(config(f"file:{tmp_path}/file"), tells=True)
    _, found = opened(config(f"file:{tmp_path}/file"))
    assert not isinstance(found, SharedArchive), "what there is can be listed without it"
