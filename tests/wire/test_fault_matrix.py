"""One fault at a time, at every phase of an exchange and of a tunnel, on each side.

`make faults` plays them all and writes FAULTS.md; here every cell is a test of its own.
"""

import pytest

from . import faults
from .faults import CELLS
from .matrix import play

PLAYED = [
    pytest.param(cell, tls, sees, id=f"{cell.name()} ({'tls' if tls else 'tcp'})")
    for cell in CELLS
    for tls, sees in ((False, cell.plain), (True, cell.tls))
    if sees
]


@pytest.mark.parametrize(("cell", "tls", "sees"), PLAYED)
def test_fault(cell, tls, sees):
    assert play(cell, tls) == sees


def test_the_table_shows_every_cell():
    assert faults.document() == faults.DOCUMENT.read_text()
