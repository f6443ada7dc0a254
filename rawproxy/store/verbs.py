"""What a store can do, whatever it is made of.

    get     a value by its name, or None
    put     another value, or none; if asked, only in the place of the one that was seen
    watch   hear of values that others put, and of what others count
    lock    be the only one, for as long as the lease is renewed
    count   tell all others what was spent, by keys; it may be lost, and is never waited for

Every call waits for a second or two at the most, and may be made by any thread. A name is of small
letters, digits, dots, dashes and slashes; a value has `VALUE` bytes at the most.

This module never reaches anything. Invariant: `StoreError` is all that a store raises, but for
`ValueError`, which is a bug of the caller: a name or a value that cannot be.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self

from rawproxy.errors import StoreError
from rawproxy.store.amounts import Amounts

VALUE: Final = 8 << 20  # bytes: the pins of many upstreams; a certificate has some thousands
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}(?:/[a-z0-9][a-z0-9.-]{0,127})*").fullmatch


class _Anything:
    """The type of `ANY`."""


ANY: Final = _Anything()
Expected = bytes | _Anything | None  # what has to be there for a `put`: None is nothing


class ValueChanged(NamedTuple):
    """Somebody, ourselves perhaps, has put another value."""

    name: str


Event = ValueChanged | Amounts


class StoreWatch(abc.ABC):
    """Hears of everything from the moment it was made."""

    @abc.abstractmethod
    def wait(self, seconds: float) -> list[Event]:
        """What has happened; nothing, once so many seconds are over. Raises `StoreError`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Hear no more."""


class StoreLease(abc.ABC):
    """A lock that is held, for so many seconds from `lock` or the last `renew`."""

    @abc.abstractmethod
    def renew(self) -> bool:
        """Hold it anew; False: it is somebody else's by now. Raises `StoreError`."""

    @abc.abstractmethod
    def release(self) -> None:
        """Let it go, if it is still held. Raises `StoreError`; then it ends by itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self.release()
        except StoreError:
            return  # its time is up by itself


class SharedStore(abc.ABC):
    """One connection, or none; each call makes one anew if it has to."""

    shown = ""  # its address as a log may have it

    @abc.abstractmethod
    def get(self, name: str) -> bytes | None:
        """The value of that name. Raises `StoreError`."""

    @abc.abstractmethod
    def put(
        self, name: str, value: bytes | None, instead_of: Expected = ANY, keep: float | None = None
    ) -> bool:
        """Put a value there, or none; whether that was done. Raises `StoreError`.

        With `instead_of` it is done only if that is what is there, None being nothing: so two
        machines that decide at the same time do not undo each other. After `keep` seconds it is
        gone.
        """

    @abc.abstractmethod
    def watch(self) -> StoreWatch:
        """Begin to hear of changes. Raises `StoreError`."""

    @abc.abstractmethod
    def lock(self, name: str, seconds: float) -> StoreLease | None:
        """Hold what is called so; None while somebody else does. Raises `StoreError`."""

    @abc.abstractmethod
    def count(self, amounts: Amounts) -> None:
        """Tell all who watch, ourselves among them. Raises `StoreError`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let connections go. What is called afterwards opens new ones."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked(name: str, values: Iterable[bytes | None] = ()) -> str:
    """The name, if it can be one and the values can be values. Raises `ValueError`."""
    if not _NAME(name):
        raise ValueError(f"{name}: not the name of a value; it is of a-z, 0-9, dots, - and /")
    if any(value is not None and len(value) > VALUE for value in values):
        raise ValueError(f"{name}: longer than {VALUE} bytes")
    return name
