"""What is other between two configurations, and what a patch makes of the first."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rawproxy.config.difference import (
    Change,
    GroupNews,
    difference,
    patch_of,
    patched,
    remade,
    restored,
)
from rawproxy.config.model import (
    Active,
    Address,
    Certificate,
    Config,
    Deadlines,
    Group,
    Limits,
    Route,
    Site,
    Upstream,
)

A = Upstream("http://a:1", tls=False, host="a", port=1)
B = Upstream("http://b:1", tls=False, host="b", port=1)
GROUP = Group("g", (A, B))
SITE = Site(("one.test",), (Route(group="g"),))
OTHER = Site(("two.test",), (Route(group="g"),))
OLD = Config(groups=(GROUP,), sites=(SITE, OTHER), http=(Address("127.0.0.1", 80),))


def group(**facts):
    return replace(OLD, groups=(replace(GROUP, **facts),))


CASES = {
    "nothing": (OLD, Change()),
    "site added": (
        replace(OLD, sites=(*OLD.sites, Site(("three.test",)))), Change(sites_added=("three.test",)),
    ),
    "nameless site added": (
        replace(OLD, sites=(*OLD.sites, Site())), Change(sites_added=("without a name",)),
    ),
    "site removed": (replace(OLD, sites=(SITE,)), Change(sites_removed=("two.test",))),
    "route removed": (
        replace(OLD, sites=(replace(SITE, routes=()), OTHER)), Change(sites_changed=("one.test",)),
    ),
    "sites in another order": (replace(OLD, sites=(OTHER, SITE)), Change(moved=True)),
    "member joins and leaves": (
        group(upstreams=(B, replace(A, url="http://c:1", host="c"))),
        Change(groups_changed=(GroupNews("g", ("http://c:1",), ("http://a:1",)),)),
    ),
    "weight": (
        group(upstreams=(replace(A, weight=3), B)),
        Change(groups_changed=(GroupNews("g", other=("weight",)),)),
    ),
    "order": (
        group(upstreams=(B, A)), Change(groups_changed=(GroupNews("g", other=("order",)),)),
    ),
    "policy": (
        group(policy="two-choices"), Change(groups_changed=(GroupNews("g", other=("policy",)),)),
    ),
    "trust": (
        group(verify="off"),
        Change(groups_changed=(GroupNews("g", other=("verify",), anew=("verify",)),)),
    ),
    "group added": (
        replace(OLD, groups=(GROUP, Group("h", (A,)))), Change(groups_added=("h",)),
    ),
    "group removed": (replace(OLD, groups=()), Change(groups_removed=("g",))),
    "limits": (
        replace(OLD, limits=Limits(body=5), deadlines=Deadlines(queue=1.0)),
        Change(options=("--limit body", "--timeout queue")),
    ),
    "logs": (replace(OLD, access_log="off"), Change(options=("access-log",))),
    "listener": (
        replace(OLD, http=()), Change(new_processes=("--http is another one",)),
    ),
    "workers": (
        replace(OLD, workers=2),
        Change(new_processes=("--workers is another one",)),
    ),
    "a keeper begins": (
        replace(OLD, keepers=(("acme", {"state": "/a"}),)),
        Change(new_processes=("acme begins",), options=("keepers",)),
    ),
    "where it comes from": (replace(OLD, file="/x", has_sources=True), Change()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_kind_has_its_name(case):
    new, expected = CASES[case]
    change = difference(OLD, new)
    assert change == expected
    assert change.nothing() == (expected == Change())
    assert change.in_place() == (not expected.new_processes)
    assert patched(OLD, json.loads(json.dumps(patch_of(OLD, new)))) == new
    assert len(change.lines()) >= (expected != Change())


def test_keepers_change_in_place_unless_workers_read_what_they_keep():
    def kept(*keepers):
        return replace(OLD, keepers=keepers)

    acme, names = ("acme", {"state": "/a"}), ("acme", {"state": "/a", "names": ["x"]})
    assert difference(kept(acme), kept(names)).in_place()
    moved = ("acme", {"state": "/b"})
    assert difference(kept(acme), kept(moved)).new_processes == ("acme has another --state",)
    assert difference(kept(acme), kept()).new_processes == ("acme ends",)
    assert difference(kept(("store", "a")), kept(("store", "b"))).in_place()


def test_words():
    new = replace(
        OLD,
        groups=(replace(GROUP, verify="off", upstreams=(A,)), Group("h", (B,))),
        sites=(replace(SITE, hsts=None), Site(("three.test",))),
        http=(),
        access_log="off",
    )
    change = difference(OLD, new, ["/etc/ca.pem"])
    assert change.lines() == [
        "new processes: --http is another one",
        "option access-log: another value",
        "site three.test: added",
        "site two.test: removed",
        "site one.test: changed",
        "group h: added",
        "group g: http://b:1 leaves, another verify; its connections are made anew",
        "file /etc/ca.pem: another content",
    ]
    assert change.short() == "1 option, 3 sites, 2 groups, 1 file"
    assert difference(OLD, OLD).short() == "nothing"
    assert difference(OLD, replace(OLD, sites=(OTHER, SITE))).short() == "another order"
    assert difference(OLD, replace(OLD, groups=())).lines() == [
        "group g: removed; what is under way ends"
    ]
    assert difference(OLD, replace(OLD, sites=(OTHER, SITE))).lines() == [
        "the order of sites or groups: another one"
    ]


def test_connections_are_made_anew_for_another_trust_or_another_file():
    pair = Certificate("/c", "/k")
    assert not remade(GROUP, replace(GROUP, policy="cookie"))
    assert remade(GROUP, replace(GROUP, tls="modern"))
    assert not remade(GROUP, GROUP, frozenset({"/k"}))
    own = replace(GROUP, client_cert=pair)
    assert remade(own, own, frozenset({"/k"}))


def test_what_is_the_same_stays_the_same_object():
    new = patched(OLD, patch_of(OLD, replace(OLD, sites=(OTHER, SITE, Site(("x.test",))))))
    assert new.sites[0] is OTHER and new.sites[1] is SITE and new.groups[0] is GROUP


@pytest.mark.parametrize("item", [[1, 2], [-1, 1], [5, 1]])
def test_a_patch_of_another_configuration_is_refused(item):
    with pytest.raises(ValueError, match="are not all known here"):
        restored(Site, OLD.sites, item)


UPSTREAMS = st.builds(
    Upstream,
    st.sampled_from(["http://a", "http://b", "http://c"]),
    tls=st.just(False),
    weight=st.integers(1, 3),
)
GROUPS = st.builds(
    Group,
    st.sampled_from("ghi"),
    st.lists(UPSTREAMS, max_size=3, unique_by=lambda one: one.url).map(tuple),
    policy=st.sampled_from(["round-robin", "two-choices"]),
    verify=st.sampled_from(["auto", "off"]),
    active=st.sampled_from([None, Active(), Active(path="/x")]),
)
SITES = st.builds(
    Site,
    st.lists(st.sampled_from(["a.test", "b.test", "c.test"]), max_size=2, unique=True).map(tuple),
    st.lists(st.builds(Route, st.sampled_from(["/", "/x"])), min_size=1, max_size=2).map(tuple),
    hsts=st.sampled_from([None, "max-age=1"]),
)
CONFIGS = st.builds(
    Config,
    st.lists(GROUPS, max_size=3, unique_by=lambda one: one.name).map(tuple),
    st.lists(SITES, min_size=1, max_size=4, unique_by=lambda one: one.names[:1]).map(tuple),
    limits=st.builds(Limits, body=st.integers(0, 2)),
    access_log=st.sampled_from(["-", "off"]),
    http2=st.booleans(),
)


@given(CONFIGS, CONFIGS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_patch_makes_the_second_of_the_first(old, new):
    patch = json.loads(json.dumps(patch_of(old, new)))
    assert patched(old, patch) == new
    assert difference(old, new).nothing() == (replace(old, file=new.file) == new)
    assert difference(old, old).nothing()
