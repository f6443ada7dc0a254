"""What one machine tells the others of what was spent there: bytes, and back.

    8 bytes    who: a number that each process draws for itself
    8 bytes    which of its messages it is: 1, 2, 3, …
    1 byte     the length of the name that follows: the room whose keys they are
    16 bytes   for each key: its name as a number, and how many seconds it has spent

All numbers are little-endian. A message without keys says that its sender is there.

It never decides what they mean. Invariant: whatever the bytes, `unpacked` gives amounts that can be
added, or raises `ValueError`.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

MOST: Final = 4096  # keys in a message: 64 KiB ten times a second, for each machine
# Seconds that a key may spend in a message: a day. Nobody's burst is worth more, and a wrong number
# could otherwise shut a client out for ever.
LARGEST: Final = 86_400.0
_HEAD: Final = struct.Struct("<QQB")
_PAIR: Final = struct.Struct("<Qd")


class Amounts(NamedTuple):
    """One message."""

    who: int
    number: int
    room: str
    spent: tuple[tuple[int, float], ...]


def packed(amounts: Amounts) -> bytes:
    """The message as bytes."""
    room = amounts.room.encode()
    pairs = b"".join(_PAIR.pack(*pair) for pair in amounts.spent[:MOST])
    return _HEAD.pack(amounts.who, amounts.number, len(room)) + room + pairs


def unpacked(data: bytes) -> Amounts:
    """The message that `data` was. Raises `ValueError`."""
    if len(data) < _HEAD.size or len(data) > _HEAD.size + 255 + MOST * _PAIR.size:
        raise ValueError("not a message of amounts: its length")
    who, number, length = _HEAD.unpack_from(data)
    room, pairs = data[_HEAD.size :][:length], data[_HEAD.size + length :]
    if len(room) != length or len(pairs) % _PAIR.size or not room.isascii():
        raise ValueError("not a message of amounts: its parts")
    spent = tuple(
        (name, seconds) for name, seconds in _PAIR.iter_unpack(pairs) if _can_be(name, seconds)
    )
    return Amounts(who, number, room.decode(), spent)


def _can_be(name: int, seconds: float) -> bool:
    return name != 0 and math.isfinite(seconds) and abs(seconds) <= LARGEST
