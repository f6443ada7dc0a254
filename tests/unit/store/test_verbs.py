"""What all stores have in common."""

from rawproxy.store.verbs import checked
from tests.unit.store.doubles import MemoryStore


def test_a_lease_is_released_at_the_end_of_its_block():
    store = MemoryStore()
    lease = store.lock("a", 1)
    with lease as held:
        assert held is lease
    assert not lease.held


def test_a_lease_that_cannot_be_released_ends_by_itself():
    store = MemoryStore()
    with store.lock("a", 1):
        store.away = "gone"


def test_a_store_is_closed_at_the_end_of_its_block():
    with MemoryStore() as store:
        assert store.closed == 0
    assert store.closed == 1


def test_names():
    for name in ("a", "acme/a.test", "pins", "a-b/0.1"):
        assert checked(name, [b"1", None]) == name
