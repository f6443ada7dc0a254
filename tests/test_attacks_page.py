"""What the pages say of attacks is what was measured: tests/attacks/figures.json."""

from tests.attacks.mounts import load
from tests.attacks.page import QUOTED, TABLE, THREATS, known, quote, render

AGAIN = "run `python -m tests.attacks`, or call `write(known())` of tests.attacks.page"


def test_the_table_is_that_of_the_figures() -> None:
    assert TABLE.read_text() == render(known()), AGAIN


def test_what_is_quoted_is_what_was_measured() -> None:
    text = THREATS.read_text()
    assert quote(text, known()) == text, AGAIN
    assert len(QUOTED.findall(text)) == text.count("[figures](../tests/ATTACKS.md#")


def test_every_attack_has_its_figures() -> None:
    assert {"none", *load()} == set(known()["attacks"])
