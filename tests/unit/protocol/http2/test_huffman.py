"""Huffman-coded strings: what is read, and what is kept of the reading."""

import random

import pytest

from rawproxy.protocol.http2 import huffman
from rawproxy.protocol.http2.huffman import HuffmanError


def test_what_the_rfc_codes():
    """RFC 7541 C.4 and C.6."""
    for coded, text in (
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),
        ("a8eb10649cbf", b"no-cache"),
        ("25a849e95ba97d7f", b"custom-key"),
        ("d07abe941054d444a8200595040b8166e082a62d1bff", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        ("", b""),
    ):
        for _ in range(2):  # worked out, and then known
            assert huffman.decode(bytes.fromhex(coded)) == text


@pytest.mark.parametrize(
    ("coded", "why"),
    [
        ("ff", "padding"),  # eight bits of it
        ("f2b24a84ff8449509fff", "padding"),
        ("1c", "padding"),  # zeros
        ("fffffffc", "EOS"),
    ],
)
def test_strings_that_are_none(coded, why):
    for _ in range(2):
        with pytest.raises(HuffmanError, match=why):
            huffman.decode(bytes.fromhex(coded))


def test_whoever_sends_anything_finds_no_more_than_256_places():
    odd = random.Random(7)
    for _ in range(4000):
        try:
            huffman.decode(odd.randbytes(40))
        except HuffmanError:
            assert len(huffman._nodes) <= 256
    steps = [step for node in huffman._nodes.values() for step in node.steps if step is not None]
    assert len(steps) <= 65_536
    assert {step.after.bits for step in steps} <= set(huffman._nodes)
    assert max(len(step.text) for step in steps) == 2
    assert huffman.decode(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == b"www.example.com"
