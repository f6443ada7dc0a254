"""What answers the challenges of authorities: files that the keeper puts down and any worker reads.

    answers/TOKEN        the key authorization of HTTP-01 (RFC 8555 8.3)
    answers/NAME.alpn    key and certificate of TLS-ALPN-01 (RFC 8737)

As it is the folder that has them, whichever process or machine is asked can answer, also while
another one orders. It never talks to anybody. Invariant: whatever a client asks for, no other file
than an answer is read.
"""

from __future__ import annotations

import os
import re
from typing import Final

from rawproxy.acme.archive import read, remove, write
from rawproxy.acme.settings import file_name

PATH: Final = b"/.well-known/acme-challenge/"
LARGEST: Final = 1024  # bytes of a key authorization: a token and 43 more
ALPN: Final = ".alpn"
ACME_TLS: Final = "acme-tls/1"  # RFC 8737 3
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")  # base64url, by RFC 8555 8.3


def folder_of(state: str) -> str:
    """The folder of answers under `--state`."""
    return os.path.join(state, "acme", "answers")


def put_token(folder: str, token: str, answer: str) -> str:
    """Have `token` answered; the file to remove afterwards. Raises `OSError`, `ValueError`."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("the authority's token is not base64url")
    path = os.path.join(folder, token)
    write(path, answer.encode())
    return path


def put_certificate(folder: str, name: str, pem: bytes) -> str:
    """Have TLS-ALPN-01 for `name` answered; the file to remove afterwards. Raises `OSError`."""
    path = os.path.join(folder, file_name(name) + ALPN)
    write(path, pem)
    return path


def take_away(path: str) -> None:
    """The challenge is over."""
    remove(path)


def token_of(target: bytes) -> str | None:
    """The token that a request asks for; None where it is none."""
    if not target.startswith(PATH):
        return None
    token = target[len(PATH) :].decode("latin-1")
    return token if _TOKEN.fullmatch(token) else None


def is_answer(file: str) -> bool:
    """Whether a file of the folder can be called so, as one that another machine has told of."""
    name = file.removesuffix(ALPN)
    plain = name if name == file else name.replace(".", "-")
    return not file.startswith(".") and _TOKEN.fullmatch(plain) is not None


def answer_to(folder: str, target: bytes) -> bytes | None:
    """The body for a request; None where it is for somebody else, a site's own client perhaps."""
    token = token_of(target)
    return None if token is None else read(os.path.join(folder, token), LARGEST) or None


def names_in(folder: str) -> list[str]:
    """The names whose TLS-ALPN-01 is to be answered now."""
    try:
        found = os.listdir(folder)
    except OSError:
        return []
    return [one.removesuffix(ALPN) for one in found if one.endswith(ALPN) and one[0] != "."]
