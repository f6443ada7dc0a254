"""What is written is read back by tomllib."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from rawproxy.nginx import toml_text

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    TEXT | st.booleans() | st.integers(0, 10**6) | st.floats(0.001, 1e6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_round_trip(facts):
    text = toml_text.table("[a]", facts, "from here\nand there")
    assert tomllib.loads(text) == {"a": facts}
