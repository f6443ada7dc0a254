"""Password files: what is read, what is refused, and who is right."""

import base64
import shutil
import subprocess

import bcrypt
import pytest

from rawproxy.access import htpasswd
from rawproxy.access.htpasswd import Credentials, PasswordFile, credentials, right
from rawproxy.access.password_hashes import apr1, sha_crypt
from rawproxy.errors import ConfigError

# With a salt that does not change: it names tests, and processes that share them have to agree.
BCRYPT = bcrypt.hashpw(b"hunter2", b"$2b$04$abcdefghijklmnopqrstuu").decode()
SHA256 = "$5$rounds=1000$salt$" + sha_crypt("sha256", b"hunter2", b"salt", 1000, int)
SHA512 = "$6$salt$" + sha_crypt("sha512", b"hunter2", b"salt", 5000, int)
APR1 = "$apr1$salt$" + apr1(b"hunter2", b"salt", int)


def read(path: str, text: bytes) -> PasswordFile:
    return PasswordFile(htpasswd.read(path, text))


def asked(known: PasswordFile, user: str, password: str) -> bool:
    return right(known, Credentials(user.encode(), password.encode()), int)


@pytest.mark.parametrize("secret", [BCRYPT, BCRYPT.replace("$2b$", "$2y$"), SHA256, SHA512, APR1])
def test_every_scheme_says_yes_to_the_right_password_alone(secret):
    known = read("f", f"alice:{secret}\n".encode())
    assert asked(known, "alice", "hunter2")
    for wrong in ("hunter3", "", "hunter2 ", "hunter2\0", "x" * 300):
        assert not asked(known, "alice", wrong)
    assert not asked(known, "bob", "hunter2")
    assert not asked(known, "Alice", "hunter2")


def test_a_long_password_is_looked_at_as_far_as_bcrypt_does():
    secret = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    known = read("f", f"alice:{secret}".encode())
    assert asked(known, "alice", "x" * 72)
    assert asked(known, "alice", "x" * 100), "as every implementation has it"
    assert not asked(known, "alice", "x" * 71)


def test_who_does_not_exist_costs_the_same(monkeypatch):
    known = read("f", f"alice:{APR1}".encode())
    seen = []
    matches = htpasswd._matches
    monkeypatch.setattr(htpasswd, "_matches", lambda *args: seen.append(args[0]) or matches(*args))
    asked(known, "bob", "hunter2")
    asked(known, "alice", "hunter2")
    assert seen == [APR1, APR1]


def test_comments_blank_lines_and_more_columns_are_known():
    text = f"# staff\n\nalice:{APR1}:Alice in Accounts\r\n  bob:{BCRYPT}\n".encode()
    known = read("f", text)
    assert list(known.hashes) == [b"alice", b"bob"]
    assert asked(known, "bob", "hunter2")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alice", "type USER:HASH"),
        (f":{APR1}", "type USER:HASH"),
        ("alice:", "plain text or DES crypt"),
        ("alice:hunter2", "plain text or DES crypt"),
        ("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1 without a salt"),
        ("alice:$1$salt$5f4dcc3b5aa765d61d8327deb882cf99", "of a kind that is not known"),
        ("alice:" + BCRYPT.replace("$04$", "$31$"), "cost is to be 4 to 14"),
        ("alice:" + BCRYPT[:-1], "of a kind that is not known"),
        ("alice:" + SHA512.replace("$6$", "$6$rounds=999999999$"), "rounds are not 1000 to"),
        ("alice:" + SHA512.replace("$6$", "$5$"), "not whole"),
        (f"bob:{APR1}\nbob:{APR1}", "a line above already"),
    ],
)
def test_what_cannot_serve_is_refused_with_its_line(line, said):
    text = f"# first\n{line}\n".encode()
    with pytest.raises(ConfigError, match=rf"^members:[23]: .*{said}"):
        read("members", text)


def test_a_file_without_users_is_a_mistake():
    with pytest.raises(ConfigError, match="members: no user in it; type htpasswd -B members NAME"):
        read("members", b"# nobody\n")


@pytest.mark.skipif(shutil.which("htpasswd") is None, reason="needs apache2-utils")
@pytest.mark.parametrize("option", ["-B", "-m", "-2", "-5"])
def test_apaches_own_lines_are_read(option):
    command = ["htpasswd", "-nb", option, "alice", "hunter2"]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"this htpasswd has no {option}")
    assert asked(read("f", made.stdout), "alice", "hunter2")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (b"Basic " + base64.b64encode(b"alice:hunter2"), (b"alice", b"hunter2")),
        (b"basic  " + base64.b64encode(b"alice:a:b"), (b"alice", b"a:b")),
        (b"Basic " + base64.b64encode(b":"), (b"", b"")),
        (b"Basic " + base64.b64encode(b"alice"), None),
        (b"Basic not*base64", None),
        (b"Basic", None),
        (b"Bearer " + base64.b64encode(b"alice:hunter2"), None),
        (b"", None),
    ],
)
def test_credentials_are_read_as_rfc_7617_has_them(field, told):
    assert credentials(field) == (None if told is None else Credentials(*told))
