"""What `rawproxy check` says of the store."""

import pytest

from rawproxy.config.model import Config
from rawproxy.errors import ConfigError
from rawproxy.store import agreement
from rawproxy.store.checking import look
from rawproxy.store.opening import open_store


def config(url: str) -> Config:
    return Config(keepers=(("store", {"url": url}),))


def test_without_a_store_there_is_nothing_to_say():
    assert list(look(Config())) == []


def test_a_store_that_is_there(tmp_path):
    url = f"file:{tmp_path}/shared"
    assert list(look(config(url))) == [f"store {url}: empty"]
    with open_store(url) as store:
        agreement.secret(store)
    assert list(look(config(url))) == [f"store {url}: in use"]


def test_one_that_is_not(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--store file:\S+: Not a directory: .*is it running"):
        list(look(config(f"file:{tmp_path}/file")))
