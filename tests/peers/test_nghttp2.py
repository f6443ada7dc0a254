"""nghttp2's own clients: many streams at once, priorities, padding, uploads."""

import re
import subprocess

from tests.process import needs
from tests.wire.h2raw import running

pytestmark = needs("h2load", "nghttp2-client")


def test_h2load_sees_every_answer():
    with running() as proxy:
        command = ["h2load", "-n", "3000", "-c", "10", "-m", "30"]
        command += [f"https://localhost:{proxy.https}/{size}" for size in (5, 70_000)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "Application protocol: h2" in done.stdout
        assert "3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
        assert re.search(r"status codes: 3000 2xx", done.stdout)


def test_nghttp_with_priorities_and_padding():
    with running() as proxy:
        url = f"https://localhost:{proxy.https}/300000"
        command = ["nghttp", "--no-verify-peer", "-v", "-n", "-b", "100", "-m", "5", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.count(":status: 200") == 5
        assert "GOAWAY frame <length=8, flags=0x00, stream_id=0>" in done.stdout
        assert "RST_STREAM" not in done.stdout


def test_no_http2_where_it_is_not_wanted():
    with running("--no-http2") as proxy:
        command = ["nghttp", "--no-verify-peer", "-n", f"https://localhost:{proxy.https}/1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "HTTP/2 protocol was not selected" in done.stdout + done.stderr
