"""The five verbs, over a folder and over a real Redis: both do the same."""

import os
import threading
import time

import pytest

from rawproxy.errors import ConfigError, StoreError
from rawproxy.store import opening
from rawproxy.store.amounts import Amounts
from rawproxy.store.opening import open_store
from rawproxy.store.verbs import VALUE, ValueChanged
from tests.process import LATER, PATIENCE
from tests.stores import NEEDS_REDIS, RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as one:
        yield one


@pytest.fixture(params=["file", pytest.param("redis", marks=NEEDS_REDIS)])
def url(request, tmp_path):
    if request.param == "file":
        return f"file:{tmp_path}/shared"
    return request.getfixturevalue("redis").url + f"?prefix={tmp_path.name[:60]}"


@pytest.fixture
def store(url):
    with open_store(url) as one:
        yield one


def heard(watch, seconds=PATIENCE):
    """The next events, within so many seconds."""
    end = time.monotonic() + seconds
    while not (found := watch.wait(0.2)):
        assert time.monotonic() < end, "nothing came"
    return found


def test_values(store):
    assert store.get("a/b") is None
    assert store.put("a/b", b"one\0\n")
    assert store.get("a/b") == b"one\0\n"
    assert not store.put("a/b", b"two", instead_of=None), "there is one"
    assert not store.put("a/b", b"two", instead_of=b"another")
    assert store.put("a/b", b"two", instead_of=b"one\0\n")
    assert store.get("a/b") == b"two"
    assert not store.put("a/b", None, instead_of=b"one\0\n")
    assert store.put("a/b", None)
    assert store.get("a/b") is None
    assert store.put("a/b", None), "to remove what is not there is no mistake"
    assert store.put("a/b", b"", instead_of=None)
    assert store.get("a/b") == b""


def test_a_value_that_is_kept_for_a_while(store):
    assert store.put("short", b"x", keep=1.0)
    assert store.get("short") == b"x"
    time.sleep(1.1)
    assert store.get("short") is None
    assert store.put("short", b"y", instead_of=None)


@pytest.mark.parametrize("name", ["", "A", "../x", "a//b", "a/", "/a", "a b", ".a", "a/../b"])
def test_names_that_cannot_be(store, name):
    with pytest.raises(ValueError, match="not the name of a value"):
        store.get(name)


def test_values_that_cannot_be(store):
    with pytest.raises(ValueError, match="longer than"):
        store.put("a", b"x" * (VALUE + 1))


def test_only_one_of_many_is_first(url):
    won = []

    def put(number: int) -> None:
        with open_store(url) as one:
            if one.put("first", b"%d" % number, instead_of=None):
                won.append(number)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_store(url) as one:
        assert [b"%d" % n for n in won] == [one.get("first")]


def test_a_lock(url, store):
    with open_store(url) as other:
        lease = store.lock("acme/a.test", 30)
        assert lease is not None
        assert other.lock("acme/a.test", 30) is None
        assert store.lock("acme/a.test", 30) is None, "not even by the same one"
        assert other.lock("acme/b.test", 30) is not None
        assert lease.renew()
        lease.release()
        with other.lock("acme/a.test", 30) as held:
            assert held is not None
            assert not lease.renew(), "it is another's"
            lease.release()
            assert store.lock("acme/a.test", 30) is None, "what is not held is not released"
        assert store.lock("acme/a.test", 30) is not None


def test_a_lock_that_nobody_renews_ends(url, store):
    with open_store(url) as other:
        seconds = 1.5
        lease = store.lock("l", seconds)
        time.sleep(0.7)
        began = time.monotonic()
        assert lease.renew()
        end = began + PATIENCE
        while other.lock("l", LATER) is None:
            assert time.monotonic() < end, "it never ends"
            time.sleep(0.02)  # polling: there is nothing to wait on
        assert time.monotonic() - began >= 0.9 * seconds, "it was renewed, for as long again"
        assert not lease.renew()


def test_news_and_counts_are_heard(url, store):
    with open_store(url) as other:
        watch = store.watch()
        assert watch.wait(0) == []
        other.put("v", b"1")
        assert heard(watch) == [ValueChanged("v")]
        other.put("v", b"2")
        assert heard(watch) == [ValueChanged("v")]
        other.put("v", None)
        assert heard(watch) == [ValueChanged("v")]
        sent = [Amounts(7, n, "access", ((n, 0.5), (99, -1.0))) for n in range(1, 6)]
        for one in sent:
            other.count(one)
        found = []
        while len(found) < len(sent):
            found += heard(watch)
        assert found == sent
        store.count(Amounts(8, 1, "", ()))
        assert heard(watch) == [Amounts(8, 1, "", ())], "one hears what one says"
        watch.close()


def test_a_closed_store_opens_again(store):
    store.put("a", b"1")
    store.close()
    assert store.get("a") == b"1"


def test_without_its_library_redis_says_what_to_install(monkeypatch):
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--store redis://h:6379: .*rawproxy\[store\]"):
        open_store("redis://:secret@h")


# ── a folder ────────────────────────────────────────────────────────────────────────────────────


def test_only_the_owner_reads_the_folder(tmp_path):
    with open_store(f"file:{tmp_path}/shared") as one:
        one.put("secret", b"x")
        modes = {
            os.stat(os.path.join(top, name)).st_mode & 0o077
            for top, folders, files in os.walk(tmp_path / "shared")
            for name in (*folders, *files)
        }
        assert modes == {0}


def test_files_of_others_are_no_values(tmp_path):
    with open_store(f"file:{tmp_path}") as one:
        one.put("a", b"1")
        watch = one.watch()
        (tmp_path / "values" / "b").write_bytes(b"not one of ours")
        (tmp_path / "values" / "Z Z").write_bytes(b"nor its name")
        (tmp_path / "counts" / "xyz").write_bytes(b"\0\0\0\5junk!")
        (tmp_path / "locks").mkdir(exist_ok=True)
        (tmp_path / "locks" / "l").write_bytes(b"nonsense")
        assert one.get("b") is None
        assert heard(watch) == [ValueChanged("b")]
        assert one.lock("l", 5) is not None


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with open_store(f"file:{tmp_path}/file") as one:
        for call in (
            lambda: one.get("a"),
            lambda: one.put("a", b"1"),
            lambda: one.lock("a", 1),
            lambda: one.watch(),
            lambda: one.count(Amounts(1, 1, "", ())),
        ):
            with pytest.raises(StoreError, match="Not a directory"):
                call()


def test_a_guard_that_is_never_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr("rawproxy.store.folder_store.PATIENCE", 0.1)
    locked = pytest.raises(StoreError, match="is locked by another one")
    with open_store(f"file:{tmp_path}") as one, one.guarded(), locked:
        one.put("a", b"1")


def test_machines_that_have_gone_are_forgotten(tmp_path):
    with open_store(f"file:{tmp_path}") as one:
        one.count(Amounts(1, 2, "", ()))
        old = tmp_path / "counts" / "00000000000000ff"
        old.write_bytes(b"")
        os.utime(old, (1, 1))
        one.count(Amounts(1, 101, "", ()))
        assert not old.exists()
        assert len(list((tmp_path / "counts").iterdir())) == 1
    assert not list((tmp_path / "counts").iterdir()), "and so are we"


# ── Redis ───────────────────────────────────────────────────────────────────────────────────────


@NEEDS_REDIS
def test_redis_away_or_silent_is_a_store_error_soon(tmp_path):
    with RedisServer(tmp_path) as server, open_store(server.url) as one:
        one.put("a", b"1")
        watch = one.watch()
        server.freeze()
        began = time.monotonic()
        with pytest.raises(StoreError):
            one.get("a")
        assert time.monotonic() - began < 3
        server.thaw()
        assert one.get("a") == b"1"
        server.kill()
        with pytest.raises(StoreError):
            one.get("a")
        with pytest.raises(StoreError):
            one.watch()
        with pytest.raises(StoreError):
            [watch.wait(1) for _ in range(5)]
        server.start()
        assert one.get("a") is None
        assert one.put("a", b"2")


@NEEDS_REDIS
def test_what_others_say_on_our_channels_does_no_harm(redis):
    import redis as library

    with open_store(redis.url) as one:
        watch = one.watch()
        client = library.Redis(port=redis.port)
        client.publish("rawproxy:counts", b"nonsense")
        client.publish("rawproxy:changes", b"\xff")
        client.publish("rawproxy:changes", b"ok")
        found = heard(watch)
        assert found == [ValueChanged("ok")]
        watch.close()
        client.close()
