"""A few of the configurations of `make nginx-pairs`, always the same: nothing differs."""

from tests.nginx.pairs import examples, run
from tests.process import needs

pytestmark = needs("nginx", "nginx-light")


def test_what_is_put_together_at_random_is_the_same():
    found = run(pairs=900, requests=150, number=17)
    assert not found.differences, examples(found)
    assert found.pairs >= 900 and found.proxied > 200
    # Most of what is put together can be served, or the run would say little.
    assert found.refused.total() <= found.configurations
