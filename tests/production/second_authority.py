"""Caddy's acme_server gives a certificate, within a network namespace of its own; prints it.

Run by `test_certificates`, as `ip netns exec NAME python -m tests.production.second_authority`: this
authority looks at ports 80 and 443 alone, which are free in there.
"""

import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from tests.process import Program, RawProxy, wait_for_port

CA = 9443
HOST = f"localhost:{CA}"


def configuration(folder: str) -> dict:
    """Of Caddy: an authority at `HOST`, with a root of its own."""
    policies = [{"subjects": ["localhost"], "issuers": [{"module": "internal"}]}]
    server = {
        "listen": [f"127.0.0.1:{CA}"],
        "routes": [{"handle": [{"handler": "acme_server", "host": HOST}]}],
        "automatic_https": {"disable_redirects": True},
        "tls_connection_policies": [{}],
    }
    return {
        "admin": {"disabled": True},
        "storage": {"module": "file_system", "root": folder},
        "apps": {
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            "tls": {
                "automation": {"policies": policies},
                "certificates": {"automate": ["localhost"]},
            },
            "http": {"http_port": 9080, "https_port": 9444, "servers": {"ca": server}},
        },
    }


def main(challenge: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "caddy.json")
        file.write_text(json.dumps(configuration(folder)))
        environment = os.environ | {"HOME": folder, "XDG_DATA_HOME": folder}
        caddy = Program(["caddy", "run", "--config", str(file)], env=environment)
        try:
            wait_for_port(CA, caddy.process)
            root = pathlib.Path(folder, "pki/authorities/local/root.crt")
            while not root.exists():
                time.sleep(0.05)  # polling another program
            text = 'upstream = "http://127.0.0.1:1"\nserver-name = "localhost"\nacme = "m@a.test"\n'
            text += f'acme-ca = "https://{HOST}/acme/local/directory"\nacme-ca-root = "{root}"\n'
            text += f'state = "state"\n[certificates]\nchallenges = ["{challenge}"]\n'
            config = pathlib.Path(folder, "f.toml")
            config.write_text(text)
            words = ["--config", str(config), "--https", "127.0.0.1:443"]
            with RawProxy(*words, https=False, http="127.0.0.1:80") as proxy:
                proxy.says("localhost: a new certificate is there|no certificate: localhost")
                time.sleep(2.5)  # the worker has looked
                trust = ssl.create_default_context(cafile=str(root))
                with (
                    socket.create_connection(("127.0.0.1", 443)) as sock,
                    trust.wrap_socket(sock, server_hostname="localhost") as tls,
                ):
                    shown = tls.getpeercert()
                words = [sys.executable, "-m", "rawproxy", "certificates", "renew", *words]
                renewed = subprocess.run(words, capture_output=True, text=True, check=False)
                print(json.dumps({"shown": shown, "renewed": renewed.stdout, "err": proxy.err()}))
        finally:
            caddy.stop()


if __name__ == "__main__":
    main(sys.argv[1])
