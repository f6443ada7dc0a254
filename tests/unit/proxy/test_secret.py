"""The secret that several machines share: who hears of it, and what is made of it."""

from rawproxy.config.model import Config, Group, Upstream
from rawproxy.proxy.service import Service

GROUP = Group(
    "app",
    (
        Upstream("http://127.0.0.1:1", tls=False, host="127.0.0.1", port=1),
        Upstream("http://127.0.0.1:2", tls=False, host="127.0.0.1", port=2),
    ),
    policy="cookie",
)


def made(**told) -> Service:
    return Service(Config(groups=(GROUP,), **told), None)


def tags(service: Service) -> list[bytes]:
    return sorted(service.groups["app"].by_tag)


def test_two_workers_with_one_secret_have_the_same_cookies():
    one, other = made(), made()
    own = tags(one)
    for service in (one, other):
        service.reseed(b"s" * 64)
    assert tags(one) == tags(other) != own
    assert len(tags(one)) == 2
    other.reseed(b"t" * 64)
    assert tags(one) != tags(other)


def test_a_group_without_cookies_has_nothing_to_do():
    service = Service(Config(groups=(Group("app", GROUP.upstreams),)), None)
    service.reseed(b"s" * 64)
    assert tags(service) == []


def test_whoever_comes_later_is_told_too():
    service, heard = made(), []
    service.tell_secret(heard.append)
    assert heard == []
    service.reseed(b"1" * 64)
    service.tell_secret(heard.append)
    assert heard == [b"1" * 64] * 2
    service.reseed(b"2" * 64)
    assert heard == [b"1" * 64] * 2 + [b"2" * 64] * 2
    assert service.secret == b"2" * 64
