"""`python -m tests.tls_scan`: what an independent scanner, sslyze, says of a running rawproxy.

sslyze wants a `cryptography` of its own, so `make tls-scan` gives it a virtual environment of its
own. It writes tests/TLS.md. `scan` and `findings` are what the test of the default run calls, where
sslyze is there: on the PATH, or where `make tls-scan` puts it.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from .process import RawProxy

ROOT = pathlib.Path(__file__).parents[1]
SSLYZE = shutil.which("sslyze", path=f"{ROOT / '.venv-scan/bin'}:{os.environ['PATH']}")
VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")
# What the modern profile wants (https://wiki.mozilla.org/Security/Server_Side_TLS).
EXPECTED = {
    "versions": ["tls_1_3"],
    "suites": [
        "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
    ],
    "groups": ["X25519", "secp256r1", "secp384r1"],
    "compression": False,
    "early data": False,
    "renegotiation by the client": False,
    "CCS injection": False,
    "Heartbleed": False,
    "ROBOT": "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
    # Of Mozilla's modern profile nothing is missing but a certificate that somebody has signed.
    "against Mozilla's modern profile": ["certificate_path_validation"],
}  # fmt: skip


def scan() -> tuple[dict, str]:
    """The scanner's report on `rawproxy --self-signed`, as JSON and as text."""
    assert SSLYZE is not None
    options = ("--upstream", "http://127.0.0.1:1", "--self-signed", "--access-log", "off")
    with RawProxy(*options, "--https", "127.0.0.1:0", https=False) as proxy:
        port = proxy._port("https")
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            done = subprocess.run(
                [SSLYZE, "--mozilla_config=modern", "--early_data", f"--json_out={out.name}",
                 f"localhost:{port}"],
                capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            report = json.load(out)
    return report["server_scan_results"][0]["scan_result"], done.stdout


def findings(report: dict, text: str) -> dict[str, object]:
    """What matters of it."""
    got = {name: part["result"] for name, part in report.items()}
    suites = {version: got[f"{version}_cipher_suites"] for version in VERSIONS}
    verdict = text.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2].splitlines()
    return {
        "versions": [v for v, result in suites.items() if result["is_tls_version_supported"]],
        "suites": sorted(
            suite["cipher_suite"]["name"]
            for result in suites.values()
            for suite in result["accepted_cipher_suites"]
        ),
        "groups": sorted(curve["name"] for curve in got["elliptic_curves"]["supported_curves"]),
        "compression": got["tls_compression"]["supports_compression"],
        "early data": got["tls_1_3_early_data"]["supports_early_data"],
        "renegotiation by the client": got["session_renegotiation"][
            "is_vulnerable_to_client_renegotiation_dos"
        ],
        "CCS injection": got["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
        "Heartbleed": got["heartbleed"]["is_vulnerable_to_heartbleed"],
        "ROBOT": got["robot"]["robot_result"],
        "against Mozilla's modern profile": [
            line.split("*", 1)[1].partition(":")[0].strip()
            for line in verdict
            if line.strip().startswith("*")
        ],
    }


def main() -> int:
    if SSLYZE is None:
        print("sslyze is not there: type make tls-scan", file=sys.stderr)
        return 1
    got = findings(*scan())
    version = subprocess.run([SSLYZE, "--help"], capture_output=True, text=True, check=False).stdout
    name = next((line for line in version.splitlines() if "SSLyze version" in line), "sslyze")
    lines = ["# TLS, as an independent scanner sees it", ""]
    lines += [
        "`make tls-scan` writes this: sslyze against `rawproxy --self-signed`, which is why",
        "",
    ]
    lines[-1:] = ["the only complaint is that nobody has signed the certificate.", ""]
    lines += [f"{name.strip()}, {time.strftime('%Y-%m-%d')}.", "", "| | |", "|---|---|"]
    for key, value in got.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        lines.append(f"| {key} | {shown or 'nothing is missing'} |")
        print(lines[-1])
    pathlib.Path(__file__).with_name("TLS.md").write_text("\n".join(lines) + "\n")
    return 0 if got == EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
