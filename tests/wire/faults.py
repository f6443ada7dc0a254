"""`python -m tests.wire.faults`: play the whole fault matrix, and write FAULTS.md."""

import pathlib
import sys

from . import cells_client, cells_tunnel, cells_upstream
from .matrix import Cell, play, table

CELLS: list[Cell] = [*cells_client.CELLS, *cells_upstream.CELLS, *cells_tunnel.CELLS]
DOCUMENT = pathlib.Path(__file__).parents[1] / "FAULTS.md"
ABOUT = """# One fault at a time

What a client (in a tunnel: the other side) sees when one thing goes wrong, over plain TCP and over
TLS (`plain \u00b7 TLS` where they differ, `-` where there is no such fault; \u201cTLS\u201d on both legs).
Each cell is a test, `wire/test_fault_matrix.py`; `make faults` plays them all and writes this file.

In every cell a bystander is in the middle of a response over the same proxy and from the same
upstream: it receives what follows and is served again. Afterwards nothing is left: no client, no
place, no busy connection, no ticket, no tunnel, no task, no socket.

* a number: the response's status, and the response is whole; `200, 400`: of two responses
* `cut`: a response that ends visibly before its end: no last chunk, or bytes are missing
* `closed`: no response, the connection ends; `gone`: nobody is there to see anything
* `end`: the tunnel ends for the other side too; `passes`: the bytes go through as they are

`half-close` over TLS is a close_notify and the end of TCP: that client reads no more. `bare FIN` is
the end of TCP without a close_notify; `TLS alert` is a record that breaks the session. `slow` is
honest of an upstream (it is served), and a trickle below `--limit rate` of a client.

"""
BELOW = """

## Of the whole process

| fault | what happens | test |
|---|---|---|
| file descriptors run out | accepting pauses, who is there is served, and it comes back by itself | `wire/test_fault_process.py::test_file_descriptors_run_out` |
| the disk is full under the access log | said once, everything is served | `wire/test_fault_process.py::test_the_disk_is_full_under_the_access_log` |
| the upstream's name is not resolved | 502, or the next upstream; it is asked again for the next request | `wire/test_fault_process.py::test_a_name_that_is_not_resolved` |
| a pinned upstream shows another certificate | 502 | `peers/test_nginx.py::test_a_changed_certificate_is_refused` |
"""


def document() -> str:
    return ABOUT + table(CELLS) + BELOW


def main() -> int:
    wrong = 0
    for cell in CELLS:
        for tls, sees in ((False, cell.plain), (True, cell.tls)):
            if not sees:
                continue
            try:
                got = play(cell, tls)
            except Exception as error:  # noqa: BLE001 - shown, and the next cell is played
                got = repr(error)
            wrong += got != sees
            mark = "ok   " if got == sees else f"WRONG ({got}), not"
            print(f"{mark} {sees:9} {cell.name()} ({'tls' if tls else 'tcp'})", flush=True)
    DOCUMENT.write_text(document())
    print(f"{wrong} wrong; {DOCUMENT.name} is written")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
