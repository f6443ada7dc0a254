"""Names of folders and files."""

from rawproxy.acme.settings import AcmeSettings, Authority, file_name, served_file
from rawproxy.config.json_codec import from_json, to_json


def test_every_authority_has_a_folder_of_its_own():
    urls = [
        "https://a/b",
        "https://a/b/c",
        "https://a/b-c",
        "https://a:1/b",
        "https://a%2Fb",
        "x://",
    ]
    folders = {Authority(url).folder() for url in urls}
    assert len(folders) == len(urls)
    assert not any("/" in one or one in (".", "..") for one in folders)


def test_a_wildcard_is_no_star_on_the_disk():
    assert file_name("*.a.test") == "_.a.test"
    assert file_name("a.test") == "a.test"
    assert served_file("/s", "*.a.test") == "/s/acme/live/_.a.test.pem"


def test_settings_travel():
    one = AcmeSettings("/s", (Authority("https://a", key_id="k"),), ("a.test",), "m@a", ("dns-01",))
    assert from_json(AcmeSettings, to_json(one)) == one
    assert one.folder() == "/s/acme"
