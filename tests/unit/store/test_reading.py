"""--store on the command line and in the file: what the keeper is told, and what is wrong."""

import pytest

from rawproxy.errors import ConfigError
from tests.unit.test_cli import options


def read(tmp_path, text: str):
    path = tmp_path / "rawproxy.toml"
    path.write_text(f'upstream = "http://h:1"\n{text}')
    return options("--config", str(path))


def test_without_it_nobody_is_told_anything():
    assert options("--upstream", "h:1").keepers == ()


def test_from_option_environment_and_file(tmp_path):
    told = (("store", {"url": f"file:{tmp_path}"}),)
    assert options("--upstream", "h:1", "--store", f"file:{tmp_path}").keepers == told
    assert options("--upstream", "h:1", RAWPROXY_STORE=f"file:{tmp_path}").keepers == told
    assert read(tmp_path, f'store = "file:{tmp_path}"').keepers == told
    assert not (tmp_path / "guard").exists(), "nothing is reached"


def test_a_mistake_names_the_place(tmp_path):
    with pytest.raises(ConfigError, match=r"^--store: ftp:// is not known; type redis://HOST"):
        options("--upstream", "h:1", "--store", "ftp://h")
    with pytest.raises(ConfigError, match=r"rawproxy\.toml:2: store: no scheme; type redis://"):
        read(tmp_path, 'store = "nowhere"')
