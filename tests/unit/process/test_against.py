"""What a reload would change, as the running side tells it."""

import json
import os
from dataclasses import replace

import pytest

from rawproxy.config.model import Certificate, Route, Site, Upstream, single
from rawproxy.errors import ConfigError
from rawproxy.process.against import told
from rawproxy.process.compared import OTHER_CODE
from rawproxy.process.order import order

A = Upstream("https://a:1", tls=True, host="a", port=1)
KEY = "-----BEGIN PRIVATE KEY----- of nobody's business"


@pytest.fixture
def files(tmp_path):
    for name, text in (("pair.pem", KEY), ("ca.pem", "one"), ("other.pem", "one")):
        (tmp_path / name).write_text(text)
    return tmp_path


def named(folder, bundle="ca.pem"):
    pem = str(folder / "pair.pem")
    config = single((A,), certificates=(Certificate(pem, pem),))
    return replace(config, groups=(replace(config.groups[0], verify=str(folder / bundle)),))


def asked(config, contents, other):
    """Its answer as it travels, less what is always in it."""
    return json.dumps(told(config, contents, json.dumps(order(other).packed()).encode()))


def test_files_with_another_content_are_told_and_their_content_is_not(files):
    config = named(files)
    contents = dict(order(config).contents)
    assert contents.keys() == {str(files / "pair.pem"), str(files / "ca.pem")}
    assert json.loads(asked(config, contents, config))["lines"] == []
    (files / "new").write_text(KEY + " any more")
    os.replace(files / "new", files / "pair.pem")
    answer = asked(config, contents, config)
    line = f"file {files / 'pair.pem'}: another content"
    assert json.loads(answer)["lines"] == [line] and not json.loads(answer)["new_processes"]
    assert "BEGIN" not in answer and not any(one in answer for one in contents.values())
    assert "BEGIN" not in json.dumps(order(config).packed())


def test_a_file_that_only_one_of_them_names_is_no_news(files):
    config = named(files)
    contents = dict(order(config).contents) | {str(files / "other.pem"): "as it once was"}
    lines = json.loads(asked(config, contents, named(files, "other.pem")))["lines"]
    assert lines == ["group default: another verify; its connections are made anew"]


def test_a_pipe_is_no_file_to_be_read(files):
    os.mkfifo(files / "pipe.pem")
    assert len(order(named(files, "pipe.pem")).contents) == 1


def test_what_a_file_of_passwords_says_is_part_of_the_configuration():
    def site(secret):
        users = [["me", secret]]
        rules = {"password": {"path": "members", "users": users, "realm": "r"}}
        return Site(("a.test",), (Route(access=rules),))

    one, other = (replace(single((A,)), sites=(site(text),)) for text in ("$2y$1", "$2y$2"))
    answer = asked(one, {}, other)
    assert json.loads(answer)["lines"] == ["site a.test: changed"] and "$2y" not in answer


def test_orders_that_cannot_be_compared():
    config = single((A,))
    body = json.dumps(order(config).packed() | {"code": "other"}).encode()
    assert told(config, {}, body)["new_processes"] == [OTHER_CODE]
    for wrong in (b"", b"[]", b"{}"):
        with pytest.raises(ConfigError, match="the configuration cannot be read"):
            told(config, {}, wrong)
