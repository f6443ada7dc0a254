"""The modules that are compiled, as setup.py lists them."""

import ast
import pathlib

SETUP = pathlib.Path(__file__).parents[1] / "setup.py"


def _listed() -> set[str]:
    if not SETUP.exists():  # where the compiled build is tested there is no source beside it
        return set()
    for node in ast.parse(SETUP.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOT":
            rooms = ast.literal_eval(node.value)
            return {
                f"rawproxy.{room.replace('/', '.')}.{name}"
                for room, names in rooms.items()
                for name in names.split()
            }
    raise AssertionError("setup.py has no HOT")


HOT = _listed()
