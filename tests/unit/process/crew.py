"""Workers and a loop without processes, for what the master decides by itself."""

from types import SimpleNamespace


class FakeChild:
    """What is asked of a `Child`."""

    def __init__(self, slot: int, *, ready: bool = True) -> None:
        self.slot, self.pid, self.ready = slot, 1000 + slot, ready
        self.said: list[dict] = []
        self.killed = self.closed = False
        self.failed = None
        self.process = SimpleNamespace(kill=self.kill)

    def kill(self) -> None:
        self.killed = True


class FakeLoop:
    """What is asked of a `SelectLoop`; time passes by `go`."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, object]] = []

    def say(self, child: FakeChild, message: dict) -> None:
        child.said.append(message)

    def later(self, seconds: float, call) -> None:
        self.timers.append((seconds, call))

    def hang_up(self, child: FakeChild) -> None:
        child.closed = True

    def watch(self, child: FakeChild) -> None:
        child.watched = True

    def go(self) -> None:
        """All timers are due."""
        timers, self.timers = self.timers, []
        for _, call in timers:
            call()
