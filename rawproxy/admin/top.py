"""`rawproxy top`: the status page in a terminal, fetched each second and drawn by `top_screen`.

It needs only ANSI escape sequences. Without a terminal it prints one frame without colours. It
never changes anything. Invariant: however it ends, the terminal is left as it was.
"""

from __future__ import annotations

import http.client
import json
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from typing import Any

from rawproxy.admin.top_screen import Status, frame
from rawproxy.config.model import Address

PATIENCE = 10.0  # seconds for an answer
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen, no cursor
_HOME, _REST = "\x1b[H", "\x1b[J"


def ask(address: Address) -> Status:
    """The status that the admin server gives. Raises `OSError`."""
    status: Status = fetch(address, "/status.json")
    return status


def fetch(address: Address, path: str, body: bytes | None = None) -> Any:
    """The JSON values that the admin server has at `path`, or answers to `body`.

    Raises `OSError`.
    """
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    try:
        if address.path is not None:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(address.path)
        else:
            where = (address.host or "localhost", address.port)
            connection.sock = socket.create_connection(where, PATIENCE)
        fields = {} if body is None else {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, fields)
        answer = connection.getresponse()
        text = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"that is no admin server: {error!r}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise ConnectionError(f"{answer.status} {text[:300].decode('latin-1').strip()}")
    try:
        return json.loads(text)
    except ValueError:
        raise ConnectionError("that is no admin server") from None


def run(address: Address, once: bool) -> None:
    """Show frames until q or Ctrl-C; only one with `once` or without a terminal.

    Raises `OSError`.
    """
    colour = sys.stdout.isatty()
    if once or not colour or not sys.stdin.isatty():
        size = shutil.get_terminal_size((80, 24))
        print("\n".join(frame(ask(address), size.columns, size.lines, colour)))
        return
    status = ask(address)
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    for number in (signal.SIGINT, signal.SIGTERM):  # by default they would end us at once
        signal.signal(number, signal.default_int_handler)
    try:
        tty.setcbreak(stdin)
        sys.stdout.write(_ENTER)
        while True:
            size = shutil.get_terminal_size()
            lines = frame(status, size.columns, size.lines, colour)
            sys.stdout.write(_HOME + "\x1b[K\r\n".join(lines) + "\x1b[K" + _REST)
            sys.stdout.flush()
            if select.select([stdin], [], [], 1.0)[0] and sys.stdin.read(1) in "qQ\x1b":
                return
            status = _again(address, status)
    except KeyboardInterrupt:
        return
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def _again(address: Address, status: Status) -> Status:
    """The next status. If there is none, the last one, with the reason why."""
    try:
        return ask(address)
    except OSError as error:
        return status | {"unready": f"no answer: {error}"}
