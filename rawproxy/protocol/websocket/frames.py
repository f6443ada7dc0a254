"""WebSocket frames, as far as a tunnel has to know them: where they end (RFC 6455 5.2).

     0                   1
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
    │F│R R R│opcode │M│ length: 0 … 125, or 126: two more bytes, or 127: eight │ mask: 4 │ payload

A `Tracker` follows one direction from its first byte, and keeps four facts. It never looks into a
payload, so compression (RFC 7692) does not matter. It judges nothing: if a peer breaks the
protocol, the other peer has to notice. Most chunks are one whole frame, or lie within a big one,
and cost one comparison. Invariant: `stop` names only places where a control frame may stand (5.4,
5.5).
"""

from __future__ import annotations

from typing import Final

RESTART = 1012  # Service Restart: come back after a random time (IANA's registry)
POLICY = 1008  # Policy Violation (RFC 6455 7.4.1): the client may no longer be here
_REASONS: Final = {RESTART: b"service restart", POLICY: b"no longer permitted"}
_LONGEST_HEAD: Final = 14
_CLOSE: Final = 8


def _head_size(second: int) -> int:
    """Bytes of the head of a frame, by its second byte."""
    return 2 + {126: 2, 127: 8}.get(second & 127, 0) + (4 if second & 128 else 0)


_HEAD: Final = tuple(map(_head_size, range(256)))
# More bytes than a chunk could have, and still a number that compiled code keeps in a register: to
# reckon with larger ones, which are objects, costs more than all the rest of `feed`.
_ENDLESS: Final = 1 << 60
# The size of a whole small frame by its second byte; that of others is not known by it.
_WHOLE: Final = tuple(_HEAD[b] + (b & 127) if b & 127 < 126 else _ENDLESS for b in range(256))


class Tracker:
    """Where one direction of a WebSocket connection is."""

    __slots__ = ("_head", "closed", "fragmented", "left")

    def __init__(self) -> None:
        self.left = 0  # bytes of the payload of this frame that are still to come
        self.fragmented = False  # a message has begun, and its last frame has not
        self.closed = False  # a Close frame has begun: nothing comes behind it
        self._head = b""  # the head of a frame, while it is not whole

    def __repr__(self) -> str:
        return f"<Tracker left={self.left} fragmented={self.fragmented} closed={self.closed}>"

    def feed(self, data: bytes) -> None:
        """`data` came, and goes on to the other side."""
        size = len(data)
        left = self.left
        if left >= size:
            self.left = left - size
            return
        at = 0
        while at < size:
            if not left and not self._head:
                at = self._small(data, at, size)
                if at == size:
                    return
            at = self._step(data, at)
            left = self.left

    def _small(self, data: bytes, at: int, size: int) -> int:
        """Pass small frames that are whole. Returns where the first other frame begins.

         A chunk may hold thousands of them, from a chatty peer or from one that wants to keep us
        busy. Each costs no more than a request of as many bytes.
        """
        fragmented = self.fragmented
        while size - at > 1:
            second = data[at + 1]
            end = at + _WHOLE[second]
            if end > size:
                if second & 127 != 126 or size - at < 4:
                    break
                end = at + _HEAD[second] + (data[at + 2] << 8 | data[at + 3])
                if end > size:
                    break
            first = data[at]
            if not first & _CLOSE:  # the control frames' bit too
                fragmented = first < 128
            elif first & 15 == _CLOSE:
                self.closed = True
            at = end
        self.fragmented = fragmented
        return at

    def stop(self, data: bytes, *, whole: bool) -> int:
        """How many bytes of `data` go on before a Close frame can stand; -1: it cannot yet.

         With `whole` it has to stand between two messages. Otherwise it may stand between two
        fragments of one. The bytes behind that place have not been looked at.
        """
        at, size = 0, len(data)
        while self.left or self._head or (whole and self.fragmented):
            if at >= size:
                return -1
            at = self._step(data, at)
        return at

    def _step(self, data: bytes, at: int) -> int:
        """Go on to the end of a head, of a payload or of `data`, whichever comes first."""
        if self.left:
            taken = min(self.left, len(data) - at)
            self.left -= taken
            return at + taken
        known = len(self._head)
        head = self._head + data[at : at + _LONGEST_HEAD - known]
        size = _HEAD[head[1]] if len(head) > 1 else 2
        if len(head) < size or len(head) < 2:
            self._head = head
            return len(data)
        self._head = b""
        length = head[1] & 127
        if length > 125:
            length = int.from_bytes(head[2 : 4 if length == 126 else 10], "big")
        self.left = length
        opcode = head[0] & 15
        if opcode < _CLOSE:
            self.fragmented = not head[0] & 128
        elif opcode == _CLOSE:
            self.closed = True
        return at + size - known


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """A Close frame (5.5.1). Towards a server it has a `mask` of four random bytes.

     The mask (5.3) protects proxies on the way that could take frames for requests. Servers insist
    on it.
    """
    payload = code.to_bytes(2, "big") + _REASONS[code]
    if mask:
        payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
    return bytes((128 | _CLOSE, len(payload) | (128 if mask else 0))) + mask + payload
