"""Decodes the Huffman-coded strings of HPACK (RFC 7541 5.2, Appendix B), byte by byte.

    node     the bits of a code that has not ended yet: there are 256 such places
    step     from a node by one byte: the symbols that end on the way, and the next node

A step is worked out when it is first taken, and then kept for good. Ordinary text takes a few
thousand of them. There are 65,536 in all, of some hundred bytes each. So nothing needs to be
forgotten, and a client that takes all of them gains nothing.

This module never encodes: our own strings go out plain. Invariant: a string is refused unless its
padding is the beginning of EOS and shorter than a byte. Raises `HuffmanError`.
"""

from __future__ import annotations

from typing import Final

# Bits of each symbol's code; the code is canonical, so nothing else is needed.
CODE_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b0806"
    "06060505050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d"
    "130d0e060f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617"
    "17171717181718181617181717171715161716171718161514161617171517161618151617171515161517161717"
    "14161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b141814151615"
    "15171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_EOS: Final = 256


class HuffmanError(Exception):
    """No encoder makes such a string."""


class Step:
    """What a byte does: the text that ends with it, and the next node."""

    __slots__ = ("after", "text")

    def __init__(self, after: Node, text: str) -> None:
        self.after = after
        self.text = text


class Node:
    """Where the decoder is between two bytes."""

    __slots__ = ("bits", "steps")

    def __init__(self, bits: int) -> None:
        self.bits = bits  # that are pending, behind a leading 1
        self.steps: list[Step | None] = [None] * 256  # by the byte; None: not worked out yet


def _codes() -> dict[int, int]:
    """The symbol of each code. A code is its bits after a leading 1."""
    symbols: dict[int, int] = {}
    code = 0
    for length in range(1, max(CODE_LENGTHS) + 1):
        for symbol, bits in enumerate(CODE_LENGTHS):
            if bits == length:
                symbols[1 << length | code] = symbol
                code += 1
        code <<= 1
    return symbols


_SYMBOLS: Final = _codes()
_ROOT: Final = Node(1)
_nodes: Final = {1: _ROOT}


def decode(data: bytes) -> bytes:
    """The text of a coded string. Raises `HuffmanError`."""
    node = _ROOT
    texts: list[str] = []  # of one byte for each character: to join bytes costs more
    for at in range(len(data)):
        byte = data[at]
        step = node.steps[byte]
        if step is None:
            step = _step(node, byte)
        texts.append(step.text)
        node = step.after
    # Padding is shorter than a byte and all ones: with the leading 1, 1, 11, 111, ...
    bits = node.bits
    if bits > 0xFF or bits & (bits + 1):
        raise HuffmanError("the padding of a Huffman string is not the beginning of EOS")
    return "".join(texts).encode("latin-1")


def _step(node: Node, byte: int) -> Step:
    """Work out what `byte` does at `node`, and keep it."""
    bits = node.bits
    out = bytearray()
    for shift in range(7, -1, -1):
        bits = bits << 1 | (byte >> shift & 1)
        symbol = _SYMBOLS.get(bits)
        if symbol is not None:
            if symbol == _EOS:
                raise HuffmanError("a Huffman string contains EOS")
            out.append(symbol)
            bits = 1
    after = _nodes.get(bits)
    if after is None:
        after = _nodes[bits] = Node(bits)
    step = node.steps[byte] = Step(after, out.decode("latin-1"))
    return step
