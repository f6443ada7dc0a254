"""The state folder: whole files, for us alone, and what cannot be read costs one name."""

import json
import os
import stat

import pytest
import trustme

from rawproxy.acme import archive as module
from rawproxy.acme.archive import Archive, make_folder, read, validity, write
from rawproxy.acme.plan import Record
from rawproxy.acme.settings import Authority

CA = trustme.CA()
ONE, TWO = Authority("https://one.test/dir"), Authority("https://two.test/dir")


def pem(name="a.test"):
    return CA.issue_cert(name).private_key_and_cert_chain_pem.bytes()


@pytest.fixture
def archive(tmp_path):
    return Archive(str(tmp_path / "state" / "acme"), (ONE, TWO))


def put(archive, authority, name="a.test", data=None):
    write(archive.of(authority, name, "certificate.pem"), pem(name) if data is None else data)


def test_folders_and_files_are_ours_alone(archive):
    old = os.umask(0)
    try:
        put(archive, ONE)
        archive.link(ONE, "a.test")
    finally:
        os.umask(old)
    for folder, folders, files in os.walk(archive.folder):
        for name in folders:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(archive.folder).st_mode) == 0o700


def test_a_file_is_replaced_whole(tmp_path):
    path = str(tmp_path / "x" / "file")
    assert write(path, b"one") and read(path) == b"one"
    assert not write(path, b"two", first=True) and read(path) == b"one"
    assert write(path, b"two") and read(path) == b"two"
    assert os.listdir(tmp_path / "x") == ["file"], "nothing is left beside it"
    assert read(path, 1) == b"t"
    module.remove(path)
    module.remove(path)
    assert read(path) is None


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, name):
    path = str(tmp_path / "file")
    write(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    if name == "write":
        monkeypatch.setattr(module.os, "fdopen", full)
    else:
        monkeypatch.setattr(module.os, name, full)
    with pytest.raises(OSError, match="No space left"):
        write(path, b"new")
    monkeypatch.undo()
    assert read(path) == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        make_folder(str(tmp_path / "file" / "folder"))


def test_what_is_no_certificate():
    good = pem()
    assert validity(good) is not None
    key, _, chain = good.partition(b"-----BEGIN CERT")
    other = pem().partition(b"-----BEGIN CERT")[0]
    for bad in (None, b"", b"x", key, b"-----BEGIN CERT" + chain, good[:-200], good[300:]):
        assert validity(bad) is None
    assert validity(other + b"-----BEGIN CERT" + chain) is None, "somebody else's key"


def test_records(archive):
    assert archive.record(ONE, "a.test") == Record()
    told = Record(3, 5.5, "words", 0.25, (1.0, 2.0), 7.0, "ab", ("http-01",))
    archive.save_record(ONE, "a.test", told)
    assert archive.record(ONE, "a.test") == told and archive.record(TWO, "a.test") == Record()
    for bad in (b"{", b"[]", b'{"failures": "x"}', b'{"later": 1}', b"\xff"):
        write(archive.of(ONE, "a.test", "record.json"), bad)
        assert archive.record(ONE, "a.test") == Record(), bad


def test_standings_say_what_there_is(archive):
    put(archive, ONE)
    archive.save(TWO, "a.test", "order.json", {"url": "https://x"})
    one, two = archive.standings("a.test")
    assert one.certificate is not None and not one.ordering
    assert two.certificate is None and two.ordering
    put(archive, ONE, data=pem()[:300])
    assert archive.standings("a.test")[0].certificate is None


def test_links_change_the_folder(archive):
    assert archive.linked("a.test") is None
    put(archive, ONE)
    put(archive, TWO)
    archive.link(TWO, "a.test")
    assert archive.linked("a.test") == 1
    assert read(archive.live("a.test")) == read(archive.of(TWO, "a.test", "certificate.pem"))
    before = os.stat(os.path.dirname(archive.live("a.test"))).st_mtime_ns
    os.utime(os.path.dirname(archive.live("a.test")), ns=(before - 10**9,) * 2)
    archive.link(TWO, "a.test")
    assert os.stat(os.path.dirname(archive.live("a.test"))).st_mtime_ns >= before
    archive.link(ONE, "a.test")
    assert archive.linked("a.test") == 0
    assert Archive(archive.folder, (TWO,)).linked("a.test") is None, "of an authority of before"


def test_wishes(archive):
    assert archive.wishes() == []
    write(archive.wanted("*.a.test"), b"")
    write(archive.wanted("b.test"), b"")
    (open(os.path.join(os.path.dirname(archive.wanted("b.test")), ".part-1"), "w")).close()
    assert archive.wishes() == ["*.a.test", "b.test"]


def test_what_killed_processes_left_is_swept_a_day_later(archive):
    put(archive, ONE)
    left = [
        archive.of(ONE, "a.test", ".part-1-1-x"),
        os.path.join(archive.folder, "answers", "token"),
    ]
    for path in left:
        write(path, b"")
    archive.sweep()
    assert all(os.path.exists(path) for path in left)
    for path in left:
        os.utime(path, (0, 0))
    os.utime(archive.of(ONE, "a.test", "certificate.pem"), (0, 0))
    archive.sweep()
    assert not any(os.path.exists(path) for path in left)
    assert archive.certificate(ONE, "a.test") is not None


def test_a_folder_that_is_no_place_for_keys(archive, tmp_path):
    assert archive.unsafe() is None
    os.chmod(archive.folder, 0o755)
    assert "chmod 700" in (archive.unsafe() or "")
    (tmp_path / "file").write_text("")
    assert Archive(str(tmp_path / "file" / "acme")).unsafe()


def test_what_is_no_json_says_nothing(archive):
    path = archive.of(ONE, "a.test", "x.json")
    assert archive.json(path) == {}
    assert archive.save(ONE, "a.test", "x.json", {"a": 1}) and json.loads(read(path)) == {"a": 1}


def test_a_wish_is_fulfilled_by_a_certificate_that_comes_behind_it(archive):
    assert not archive.is_wanted("a.test")
    put(archive, ONE)
    archive.link(ONE, "a.test")
    os.utime(archive.of(ONE, "a.test", "certificate.pem"), (1, 1))
    write(archive.wanted("a.test"), b"")
    assert archive.is_wanted("a.test")
    os.utime(archive.wanted("a.test"), (0, 0))
    assert not archive.is_wanted("a.test"), "of another machine, perhaps"
    assert archive.wishes() == []
