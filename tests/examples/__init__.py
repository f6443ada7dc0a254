"""The files in `examples/`: what they promise a reader is tried, file by file."""

import pathlib

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
