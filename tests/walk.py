"""Serves by a file like `rawproxy --config FILE`, and says at its end which functions were called.

One JSON list a line: the functions of one client connection, each where it was first called. Only
plain Python can be watched so.
"""

import json
import pathlib
import sys
from types import FrameType

import rawproxy
from rawproxy import cli
from rawproxy.process import worker

PACKAGE = str(pathlib.Path(rawproxy.__file__).parent)
connections: list[dict[str, None]] = []


def watch(frame: FrameType, event: str, argument: object) -> None:
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(PACKAGE):
        name = code.co_qualname
        if name == "Listener._welcome":
            connections.append({"Listener._accept": None})
        if connections:
            connections[-1].setdefault(name)


def main() -> None:
    config = cli.reread(["--config", sys.argv[1]])
    sys.setprofile(watch)
    code = worker.run(config)
    sys.setprofile(None)
    for calls in connections:
        print(json.dumps(list(calls)))
    sys.exit(code)


if __name__ == "__main__":
    main()
