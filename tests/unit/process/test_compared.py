"""A new work order beside the one in force."""

import hashlib
import json
import os
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rawproxy.config.difference import patched
from rawproxy.config.model import Certificate, Group, Route, Site, Upstream, single
from rawproxy.process.compared import LINES, OTHER_CODE, compared
from rawproxy.process.order import order, unpack_config, unpacked

A = Upstream("http://a:1", tls=False, host="a", port=1)
OLD = single((A,))
SITES = st.lists(
    st.builds(
        lambda n, hsts: Site((f"s{n}.test",), hsts=hsts), st.integers(0, 7), st.sampled_from("ab")
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda site: site.names,
)


def travelled(config):
    """The order of a configuration, as another process has it."""
    return unpacked(json.loads(json.dumps(order(config).packed())))


def test_a_patch_for_what_can_be_taken_over():
    new = replace(OLD, sites=(Site(("x.test",)), *OLD.sites), access_log="off")
    found = compared(travelled(OLD), order(new), new)
    assert found["new_processes"] == [] and not found["nothing"]
    assert found["short"] == "1 option, 1 site"
    assert found["lines"] == ["option access-log: another value", "site x.test: added"]
    assert patched(OLD, json.loads(json.dumps(found["patch"]))) == new
    assert patched(OLD, found["patch"]).sites[1] is OLD.sites[0]
    assert unpack_config(travelled(new)) == new


@given(before=SITES, after=SITES)
def test_sites_that_come_go_change_and_move(before, after):
    """Those at the beginning and the end that stay are not looked for, and the rest is found."""
    old, new = (replace(OLD, sites=tuple(one)) for one in (before, after))
    found = compared(travelled(old), order(new), new)
    patch = json.loads(json.dumps(found["patch"]))
    assert patched(old, patch) == new
    assert sum(isinstance(one, dict) for one in patch["sites"]) == len(set(after) - set(before))
    assert found["nothing"] == (before == after)


def test_nothing_and_everything():
    assert compared(travelled(OLD), order(OLD), OLD)["nothing"]
    many = replace(OLD, sites=tuple(Site((f"s{n}.test",)) for n in range(LINES + 50)))
    lines = compared(travelled(OLD), order(many), many)["lines"]
    assert len(lines) == LINES and lines[-1] == "and 52 more"
    other = replace(travelled(OLD), code="other")
    assert compared(other, order(OLD), OLD)["new_processes"] == [OTHER_CODE]


def test_sites_of_the_default_and_groups_that_are_gone():
    new = replace(OLD, groups=(Group("b", (A,)),), sites=(Site(("s",), (Route(group="b"),)),))
    found = compared(travelled(OLD), order(new), new)
    assert "group default: removed; what is under way ends" in found["lines"]
    assert patched(OLD, found["patch"]) == new


def test_a_file_with_another_content(tmp_path):
    pem, bundle = tmp_path / "pair.pem", tmp_path / "ca.pem"
    pem.write_text("one")
    bundle.write_text("one")
    config = single((A,), certificates=(Certificate(str(pem), str(pem)),))
    config = replace(config, groups=(replace(config.groups[0], verify=str(bundle)),))
    before = travelled(config)
    same = {"files": [], "contents": {}}
    assert compared(before, order(config), config)["facts"] == same
    again = tmp_path / "again"
    again.write_text("one")
    os.replace(again, pem)  # another file, and nothing other in it
    assert compared(before, order(config), config)["nothing"]
    other = tmp_path / "other"
    other.write_text("two")
    os.replace(other, pem)
    found = compared(before, order(config), config)
    assert found["facts"]["files"] == [str(pem)] and not found["nothing"]
    assert found["facts"]["contents"] == {str(pem): hashlib.sha256(b"two").hexdigest()}


def test_certificates_that_are_in_force_are_told_from_others(tmp_path):
    """So that a loader need not load thousands of them again."""
    pem = tmp_path / "pair.pem"
    pem.write_text("one")
    pair = (Certificate(str(pem), str(pem)),)
    one = replace(OLD, sites=(Site(("a.test",), certificates=pair),))

    def tls(new):
        return compared(before, order(new), new)["tls"]

    before = travelled(one)
    assert not tls(one)
    assert not tls(replace(one, sites=(*one.sites, Site(("b.test",), certificates=pair))))
    other = (Certificate(str(pem), str(tmp_path / "key.pem")),)
    asks = {"certificates": pair, "client_ca": str(pem), "client_verify": "require"}
    for new in (
        replace(one, tls="intermediate"),
        replace(one, sites=(Site(("a.test",), certificates=other),)),
        replace(one, sites=(*one.sites, Site(("b.test",), **asks))),
    ):
        assert tls(new)
    pem.write_text("two")
    assert tls(one)
    pem.unlink()
    assert tls(one), "whoever loads it says what is wrong"


def test_names_of_sites_count_where_contexts_are_chosen_by_them(tmp_path):
    asks = {"client_ca": str(tmp_path / "ca.pem"), "client_verify": "request"}
    (tmp_path / "ca.pem").write_text("one")
    one = replace(OLD, sites=(Site(("a.test",), **asks), Site(("b.test",))))
    before = travelled(one)
    assert not compared(before, order(one), one)["tls"]
    new = replace(one, sites=(*one.sites, Site(("c.test",))))
    assert compared(before, order(new), new)["tls"]
