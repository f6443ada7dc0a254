"""A store in memory, which can be away."""

from rawproxy.errors import StoreError
from rawproxy.store.amounts import packed, unpacked
from rawproxy.store.verbs import (
    ANY,
    SharedStore,
    StoreLease,
    StoreWatch,
    ValueChanged,
    checked,
)


class MemoryStore(SharedStore):
    """What several of them have in common is `values` and `watches`."""

    shown = "memory:"

    def __init__(self, values=None, watches=None) -> None:
        self.values = {} if values is None else values
        self.watches = [] if watches is None else watches
        self.away = ""
        self.faster = []  # values that somebody else puts just before our next puts
        self.closed = 0

    def _look(self) -> None:
        if self.away:
            raise StoreError(self.away)

    def get(self, name):
        self._look()
        return self.values.get(checked(name))

    def put(self, name, value, instead_of=ANY, keep=None):
        self._look()
        if self.faster:
            self.values[name] = self.faster.pop(0)
        if instead_of is not ANY and self.values.get(name) != instead_of:
            return False
        self.values[name] = value
        self._tell(ValueChanged(name))
        return True

    def watch(self):
        self._look()
        return MemoryWatch(self)

    def lock(self, name, seconds):
        self._look()
        return MemoryLease(self)

    def count(self, amounts):
        self._look()
        self._tell(unpacked(packed(amounts)))

    def _tell(self, event) -> None:
        for watch in self.watches:
            watch.events.append(event)

    def close(self):
        self.closed += 1


class MemoryWatch(StoreWatch):
    def __init__(self, store) -> None:
        self.store = store
        self.events = []
        store.watches.append(self)

    def wait(self, seconds):
        self.store._look()
        found, self.events = self.events, []
        return found

    def close(self):
        self.store.watches.remove(self)


class MemoryLease(StoreLease):
    def __init__(self, store) -> None:
        self.store = store
        self.held = True

    def renew(self):
        return self.held

    def release(self):
        self.store._look()
        self.held = False
