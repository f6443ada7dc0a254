"""Who may offer a configuration, and what is told of it."""

from dataclasses import replace

import pytest

from rawproxy.config.model import Upstream, single
from rawproxy.process import loading
from rawproxy.process.loading import Loading, Offer
from rawproxy.process.order import order

from .crew import FakeChild, FakeLoop

ORDER = order(single((Upstream("http://a", tls=False),)))
WATCHED = replace(ORDER, has_sources=True)
CHANGE = {"new_processes": [], "nothing": False}
IN_FORCE, REFUSED = {"verdict": "in force"}, {"verdict": "refused"}


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(loading, "Child", lambda slot, fds: FakeChild(slot))
    return Loading(FakeLoop())


def offers(one: Loading, child, wanted=ORDER, **more) -> bool:
    return one.hear(child, {"order": wanted.packed(), "change": CHANGE, **more})


def test_a_loader_is_told_what_is_in_force_and_offers_once(made):
    made.begin(ORDER, renew=False)
    loader = made.loader
    assert loader.said == [{"do": "load", "running": ORDER.packed(), "kept": []}]
    assert offers(made, loader)
    offer = made.take()
    assert offer.order == ORDER and offer.why_not() == [] and made.take() is None
    assert not made.ended(loader), "it has made an offer"
    made.settle(ORDER, accepted=True)
    assert made.children() == [] and loader.said[1:] == []


def test_one_with_sources_stays_and_the_one_before_goes(made):
    made.begin(ORDER, renew=False)
    first = made.loader
    offers(made, first, WATCHED, sources={"s": 1}, kept=[["k"]])
    made.take()
    made.settle(WATCHED, accepted=True)
    assert made.watcher is first and made.loader is None and first.said[-1] == IN_FORCE
    assert made.sources == {"s": 1}
    made.begin(WATCHED, renew=False)
    second = made.loader
    assert second.said[0]["kept"] == [["k"]]
    assert offers(made, first, WATCHED), "while the other one reads"
    assert made.take() is None, "whose offer comes first"
    offers(made, second, WATCHED)
    assert made.take().child is second
    made.settle(WATCHED, accepted=True)
    assert made.watcher is second and first.killed and first.closed
    assert made.take() is None, "and that of the first one is gone with it"
    made.begin(WATCHED, renew=False)
    offers(made, made.loader, ORDER)
    made.take()
    made.settle(ORDER, accepted=True)
    assert made.watcher is None and second.killed and made.sources == {}


def test_a_refused_offer_is_told_and_its_watcher_goes_on(made):
    made.begin(ORDER, renew=False)
    watcher = made.loader
    offers(made, watcher, WATCHED)
    made.take()
    made.settle(WATCHED, accepted=True)
    assert not made.hear(watcher, {"sources": {"s": 2}, "kept": []}) and made.sources == {"s": 2}
    offers(made, watcher, WATCHED)
    assert made.take().child is watcher
    made.settle(WATCHED, accepted=False)
    assert watcher.said[-1] == REFUSED and made.watcher is watcher
    assert not made.ended(watcher) and made.watcher is None
    assert not offers(made, watcher), "nobody hears it any more"


def test_a_loader_that_ends_without_an_offer(made):
    made.begin(ORDER, renew=False)
    assert made.ended(made.loader)
    made.begin(ORDER, renew=False)
    loader = made.loader
    assert not made.hear(loader, {"order": {"workers": "many"}})
    assert loader.failed[0][0].startswith("the work order cannot be read")
    assert made.unfinished() == [loader] and made.dismissed() == []
    made.settle(ORDER, accepted=False)


def test_why_new_processes_are_needed(made):
    assert Offer(None, ORDER, {}).why_not() == ["the code is another one"]
    assert Offer(None, ORDER, CHANGE, renew=True).why_not() == ["they were asked for"]
    assert Offer(None, ORDER, {"new_processes": ["x"]}).why_not() == ["x"]
