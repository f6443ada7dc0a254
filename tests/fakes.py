"""What stands in for a loop and a transport where a test wants neither: no sockets, no clock."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any


class FakeLoop:
    """Keeps what is to be called soon; `turn` calls it."""

    def __init__(self) -> None:
        self.ready: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.ready.append((call, args))

    def turn(self) -> None:
        while self.ready:
            ready, self.ready = self.ready, []
            for call, args in ready:
                call(*args)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """For as long, it is the running loop."""
        asyncio._set_running_loop(self)  # type: ignore[arg-type]
        try:
            yield
        finally:
            asyncio._set_running_loop(None)


class FakeTransport:
    """Records what is written, and whether it was closed or cut."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.aborted = False
        self.reading = True
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        if data:
            self.written.append(bytes(data))

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default
