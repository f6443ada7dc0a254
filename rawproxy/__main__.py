"""`rawproxy` and `python -m rawproxy`.

It never imports `ssl` before it has told OpenSSL which key exchange groups to use: OpenSSL reads
its configuration once, when it is first loaded, and Python has no other way to say so before 3.15.
An OPENSSL_CONF that the admin has set is respected.
"""

import os


def main() -> None:
    """Run the command line."""
    conf = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openssl.cnf")
    os.environ.setdefault("OPENSSL_CONF", conf)
    from .cli import main as command

    command()


if __name__ == "__main__":
    main()
