"""What a worker is given: the configuration whole, or not at all."""

import json
from dataclasses import replace

import pytest

from rawproxy.config.model import Address, Deadlines, Upstream, single
from rawproxy.process.order import (
    Order,
    OrderError,
    OtherCodeError,
    cpus,
    order,
    unpack_config,
    unpacked,
)

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
    with pytest.raises(OtherCodeError, match=r"^the code has changed"):
        unpack_config(replace(order(CONFIG), code="another", config="what an old version wrote"))


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (None, "Order: an object is expected, not None"),
        ({}, "Order: config is missing"),
        (order(CONFIG).packed() | {"listeners": [["--http"]]}, "4 values are expected, not 1"),
        (order(CONFIG).packed() | {"workers": "2"}, "Order.workers: a whole number is expected"),
    ],
)
def test_an_order_that_is_malformed_is_refused(packed, why):
    with pytest.raises(OrderError, match=f"^the work order cannot be read: .*{why}"):
        unpacked(packed)


def test_a_configuration_that_is_malformed_is_refused():
    with pytest.raises(OrderError, match=r"cannot be read: Config\.workers: a whole number"):
        unpack_config(replace(order(CONFIG), config={"workers": "2"}))


def test_what_newer_code_says_beside_it_is_left_out():
    packed = order(CONFIG).packed() | {"invented": 1}
    assert isinstance(unpacked(packed), Order)
