"""Fragments join the file, and what is wrong with one of them is its own affair."""

import logging

import pytest

from rawproxy import cli
from rawproxy.config.reading import Reading
from rawproxy.discovery import joining
from rawproxy.discovery.source import Fragment
from rawproxy.errors import ConfigError

BASE = 'http = "127.0.0.1:0"\n[discovery]\nfolder = "sites.d"\n'
ONE = '[group.one]\nupstream = "http://127.0.0.1:1001"\n[[site]]\nserver-name = "one.test"\n' \
    '[[site.route]]\ngroup = "one"\n'  # fmt: skip


def site(name, group="one", port=1001):
    return (
        f'[group.{group}]\nupstream = "http://127.0.0.1:{port}"\n'
        f'[[site]]\nserver-name = "{name}"\n[[site.route]]\ngroup = "{group}"\n'
    )


@pytest.fixture
def reading(tmp_path):
    def read(text=BASE) -> Reading:
        (tmp_path / "sites.d").mkdir(exist_ok=True)
        file = tmp_path / "file.toml"
        file.write_text(text)
        with cli.rawproxy.make_context("rawproxy", ["--config", str(file)]) as ctx:
            return cli.reading(ctx)

    return read


def fragment(text, name="a.toml"):
    return Fragment(f"/etc/sites.d/{name}", text, "/etc/sites.d")


def taken(good, **texts):
    return good.take({("folder", name): fragment(text, name) for name, text in texts.items()})


def names(good):
    return [site.names[0] for site in good.config.sites if site.names]


def test_without_any_site_nobody_is_served_and_nothing_is_forwarded(reading):
    good = joining.LastGood(reading())
    (only,) = good.config.sites
    assert only.routes[0].respond.status == 421 and only.routes[0].group is None


def test_fragments_stand_behind_the_file_in_the_order_of_their_names(reading):
    good = joining.LastGood(reading(BASE + site("file.test", "own")))
    assert taken(good, b=site("b.test", "b"), a=site("a.test", "a"))
    assert names(good) == ["file.test", "a.test", "b.test"]
    assert [group.name for group in good.config.groups if group.upstreams] == ["own", "a", "b"]
    assert not taken(good, b=site("b.test", "b"), a=site("a.test", "a")), "nothing has changed"


def test_a_mistake_leaves_the_last_good_state_and_is_said_once(reading, caplog):
    caplog.set_level(logging.INFO)
    good = joining.LastGood(reading())
    assert taken(good, a=site("a.test", "a"), b=site("b.test", "b"))
    broken = site("a.test", "a").replace("upstream", "upstraem")
    assert taken(good, a=broken, b=site("b2.test", "b"))
    assert names(good) == ["a.test", "b2.test"]
    reason = good.broken["folder", "a"].reasons[-1]
    assert reason.startswith("/etc/sites.d/a:2: [group.a] upstraem: not known; did you mean")
    assert caplog.text.count("its last good state stays") == 2, "one for each mistake"
    taken(good, a=broken, b=site("b2.test", "b"))
    assert caplog.text.count("its last good state stays") == 2, "said once"
    assert taken(good, a=site("a3.test", "a"), b=site("b2.test", "b"))
    assert names(good) == ["a3.test", "b2.test"] and not good.broken
    assert "fragment a is good again" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[site", "c:1: not TOML: "),
        ("workers = 2\n", "c:1: workers: not in a fragment; it belongs in the file of --config"),
        ('[group.x]\nupstream = "http://h:99999"\n', "c:2: [group.x] upstream http://h:99999: "),
        (site("b.test", "a"), "c:4: [[site]] server-name b.test: another site has it too"),
        (site("a.test", "b"), "c:1: [group] b: /etc/sites.d/b has a group of this name too"),
        ('[[site]]\n[[site.route]]\ngroup = "zz"\n', "c:3: [[site.route]] group zz: there is no"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(reading, text, reason):
    good = joining.LastGood(reading())
    taken(good, b=site("b.test", "b"))
    taken(good, b=site("b.test", "b"), c=text)
    assert names(good) == ["b.test"]
    assert any(
        one.startswith(f"/etc/sites.d/{reason}") for one in good.broken["folder", "c"].reasons
    )


def test_what_others_need_stays_when_it_goes(reading, caplog):
    good = joining.LastGood(reading())
    user = '[[site]]\nserver-name = "u.test"\n[[site.route]]\ngroup = "g"\n'
    group = '[group.g]\nupstream = "http://127.0.0.1:1"\n'
    assert taken(good, group=group, user=user), "either order: one needs the other"
    assert not taken(good, user=user)
    assert "it stays, as others need it" in caplog.text
    assert [one.name for one in good.config.groups if one.upstreams] == ["g"]
    assert taken(good), "both may go together"


def test_a_fragment_without_text_is_named(reading):
    good = joining.LastGood(reading())
    one = Fragment("/etc/a.toml", "", None, ": cannot be read: Permission denied")
    good.take({("folder", "a"): one})
    assert good.broken["folder", "a"].reasons == ("/etc/a.toml: cannot be read: Permission denied",)


def test_relative_paths_begin_at_the_folder_of_the_fragment(reading):
    good = joining.LastGood(reading())
    text = '[group.t]\nupstream = "https://127.0.0.1:1"\nupstream-verify = "ca.pem"\n'
    taken(good, a=text)
    assert good.config.group("t").verify == "/etc/sites.d/ca.pem"


def test_the_first_configuration_has_what_is_good_and_a_check_wants_all(reading, tmp_path, caplog):
    told = reading(BASE + site("file.test", "own"))
    (tmp_path / "sites.d" / "good.toml").write_text(site("good.test", "g"))
    (tmp_path / "sites.d" / "bad.toml").write_text("[[site]]\nserver-nmae = 'x'\n")
    config = joining.first(told)
    assert [one.names for one in config.sites] == [("file.test",), ("good.test",)]
    assert "bad.toml:2: [[site]] server-nmae: not known" in caplog.text
    document = joining.whole(told.document)
    with pytest.raises(ConfigError, match=r"bad.toml:2: \[\[site\]\] server-nmae"):
        told.config(document)


def test_a_folder_that_is_not_there_is_a_mistake_to_check_and_news_at_a_start(reading, tmp_path):
    told = reading(BASE.replace("sites.d", "none.d"))
    assert joining.first(told) is not None
    with pytest.raises(ConfigError, match=r"\[discovery\] folder .*none.d: No such file"):
        joining.whole(told.document)


def test_without_a_source_the_file_is_all_there_is(reading):
    told = reading(site("file.test", "own"))
    assert joining.first(told) is None and joining.whole(told.document) is told.document
