"""The vectors of the specification, and what OpenSSL makes of the same input."""

import shutil
import subprocess

import pytest

from rawproxy.access.password_hashes import apr1, sha_crypt

LONG = b"a very much longer text to encrypt.  This one even stretches over morethan one line."
# Drepper, "Unix crypt using SHA-256 and SHA-512"; glibc gives the same.
VECTORS = [
    ("sha256", b"saltstring", 5000, b"Hello world!", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    ("sha256", b"saltstringsaltst", 10000, b"Hello world!", "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
    ("sha256", b"toolongsaltstrin", 5000, b"This is just a test", "Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"),
    ("sha256", b"anotherlongsalts", 1400, LONG, "Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1"),
    ("sha512", b"saltstring", 5000, b"Hello world!", "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
    ("sha512", b"saltstringsaltst", 10000, b"Hello world!", "OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v."),
    ("sha512", b"anotherlongsalts", 1400, LONG, "POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1"),
    ("sha512", b"roundstoolow", 1000, b"the minimum number is still observed", "kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX."),
]  # fmt: skip
PASSWORDS = ["a", "hunter2", "y" * 15, "y" * 16, "y" * 17, "x" * 70, "z" * 130, "пароль"]


@pytest.mark.parametrize(("name", "salt", "rounds", "password", "made"), VECTORS)
def test_sha_crypt_is_as_specified(name, salt, rounds, password, made):
    assert sha_crypt(name, password, salt, rounds, int) == made


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["apr1", "5", "6"])
def test_openssl_makes_the_same(scheme, password):
    salt = "aB./9xyz"
    command = ["openssl", "passwd", f"-{scheme}", "-salt", salt, password]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    text, pepper = password.encode(), salt.encode()
    if scheme == "apr1":
        made = apr1(text, pepper, int)
    else:
        made = sha_crypt("sha256" if scheme == "5" else "sha512", text, pepper, 5000, int)
    assert line == f"${scheme}${salt}${made}"


def test_others_may_run_meanwhile():
    rests = []
    sha_crypt("sha512", b"a", b"salt", 5000, lambda: rests.append(1))
    assert len(rests) == 50
    apr1(b"a", b"salt", lambda: rests.append(1))
    assert len(rests) == 60
