"""What a worker is given: the configuration whole, or not at all."""

import json
from dataclasses import replace

import pytest

from rawproxy.config.model import Address, Deadlines, Upstream, single
from rawproxy.process.order import Order, OtherCodeError, cpus, order, unpack_config, unpacked

CONFIG = single(
    (Upstream("http://a", tls=False, host="a", port=80),),
    http=(Address(None, 8080),),
    https=(Address("::1", 8443), Address(path="/run/s")),
    admin=Address("127.0.0.1", 9000),
    workers=3,
    deadlines=Deadlines(drain=7),
)


def test_it_comes_out_as_it_went_in():
    made = unpacked(json.loads(json.dumps(order(CONFIG).packed())))
    assert made == order(CONFIG)
    assert unpack_config(made) == CONFIG


def test_what_the_master_has_to_know():
    made = order(CONFIG)
    assert made.wanted() == [
        ("--https", Address("::1", 8443)),
        ("--https", Address(path="/run/s")),
        ("--http", Address(None, 8080)),
        ("--admin", Address("127.0.0.1", 9000)),
    ]
    assert (made.workers, made.drain, made.throwaway) == (3, 7, None)
    assert order(replace(CONFIG, workers=0, self_signed=True)).workers == cpus() >= 1
    assert order(replace(CONFIG, self_signed=True)).throwaway == ()


def test_other_code_is_refused():
    with pytest.raises(OtherCodeError):
        unpack_config(replace(order(CONFIG), code="another"))


def test_what_newer_code_says_beside_it_is_left_out():
    packed = order(CONFIG).packed() | {"invented": 1}
    assert isinstance(unpacked(packed), Order)
