"""Rule 22 on the wire: whom the upstream and the log are told the client is."""

import ipaddress

import pytest

from .rig import Rig, get, run
from .test_proxy_protocol import mirror

TRUSTED = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8"))
FOR, PROTO, HOST = b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"


def values(seen: bytes, name: bytes) -> list[bytes]:
    """What the upstream was told in fields of this name, or of one that CGI reads as this name."""
    lines = [line.partition(b": ") for line in seen.split(b"\r\n")]
    return [value for n, _, value in lines if n.lower().replace(b"_", b"-") == name.lower()]


def told(*lines: bytes, **options) -> tuple[bytes, bytes]:
    """What the upstream saw, and the client in the log."""

    async def test():
        async with Rig(mirror, send_real_ip=True, **options) as rig:
            _, seen = await rig.ask(get(b"/", *lines))
            await rig.settled()
            return seen, rig.log[0].split(b" ")[0]

    return run(test())


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ([], b"127.0.0.1"),
        ([b"6.6.6.6"], b"6.6.6.6"),
        ([b"9.9.9.9, 6.6.6.6, 10.1.1.1"], b"6.6.6.6"),  # 9.9.9.9 is what 6.6.6.6 claimed
        ([b"9.9.9.9", b"6.6.6.6", b"10.1.1.1"], b"6.6.6.6"),  # three lines are one list
        ([b"6.6.6.6:4711, 10.1.1.1"], b"6.6.6.6"),
        ([b"[2001:db8::6]:4711"], b"2001:db8::6"),
        ([b"::ffff:6.6.6.6"], b"6.6.6.6"),
        ([b"10.2.2.2, 10.1.1.1"], b"10.2.2.2"),  # all are ours: the first of them
        ([b"6.6.6.6, unknown, 10.1.1.1"], b"10.1.1.1"),  # nothing behind a lie is believed
        ([b"6.6.6.6, , 10.1.1.1"], b"10.1.1.1"),
    ],
)
def test_rule_22_the_rightmost_hop_that_is_not_trusted(chain, client):
    lines = [FOR + b": " + value for value in chain]
    seen, logged = told(*lines, trusted_proxies=TRUSTED)
    assert values(seen, FOR) == [b", ".join([*chain, b"127.0.0.1"])]
    assert values(seen, b"X-Real-IP") == [client]
    assert logged == client


def test_rule_22_nobody_else_is_believed():
    forged = [FOR + b": 6.6.6.6", b"X_Forwarded_For: 6.6.6.6", b"X-Real-IP: 6.6.6.6"]
    forged += [
        b"X_Real_IP: 6.6.6.6",
        PROTO + b": https",
        b"X-Forwarded_Proto: https",
        HOST + b": evil",
    ]
    for options in ({}, {"trusted_proxies": TRUSTED[1:]}):
        seen, logged = told(*forged, **options)
        assert b"6.6.6.6" not in seen and b"evil" not in seen
        assert values(seen, FOR) == values(seen, b"X-Real-IP") == [logged] == [b"127.0.0.1"]
        assert values(seen, PROTO) == [b"http"]
        assert values(seen, HOST) == [b"h"]


def test_rule_22_append_keeps_a_chain_and_believes_none_of_it():
    forged = [FOR + b": 6.6.6.6", b"X_Forwarded_For: 7.7.7.7", PROTO + b": https", HOST + b": evil"]
    seen, logged = told(*forged, forwarded="append")
    assert values(seen, FOR) == [b"6.6.6.6, 127.0.0.1"]
    assert values(seen, b"X-Real-IP") == [logged] == [b"127.0.0.1"]
    assert values(seen, PROTO) == [b"http"]
    assert values(seen, HOST) == [b"h"]


def test_rule_22_twins_of_a_trusted_peer_are_dropped_too():
    seen, _ = told(
        PROTO + b": https", b"X_Forwarded_Proto: gopher", b"X_Forwarded_For: 6.6.6.6",
        b"X_Real_IP: 6.6.6.6", trusted_proxies=TRUSTED,
    )  # fmt: skip
    assert values(seen, PROTO) == [b"https"]
    assert values(seen, FOR) == values(seen, b"X-Real-IP") == [b"127.0.0.1"]
