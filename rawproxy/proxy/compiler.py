"""What the compiler is told about a class, where its types do not say it; to Python it is nothing.

Whoever compiles has mypy_extensions, and nobody else needs it. This stands in a file of its own, as
a compiled module cannot choose between two things of one name. Invariant: it changes no class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_):
        """A decorator that gives the class back."""
        return lambda cls: cls
