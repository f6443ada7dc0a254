"""What the compiler is told about a class if types do not say it. For Python it means nothing.

Whoever compiles has mypy_extensions, and nobody else needs it. This is a file of its own, because a
compiled module cannot choose between two things of the same name. Invariant: it changes no class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
    from mypy_extensions import trait as trait
else:

    def mypyc_attr(**_):
        """A decorator that gives the class back."""
        return lambda cls: cls

    def trait(cls):
        """A decorator that gives the class back."""
        return cls
