"""`python -m tests.outage [SECONDS]`: an upstream is away for half a minute, as authentik is.

It comes back with a new self-signed certificate. Requests go on all the time; with `--timeout wait`
none may fail. A shorter one is in `wire/test_restart_with_wait.py`.
"""

import asyncio
import sys

from tests.wire.restarting import changes
from tests.wire.test_restart_with_wait import outage


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    count, failed, err = asyncio.run(outage(seconds, 0.02))
    print(f"{count} requests, away for {seconds:g} s: {len(failed)} failed {failed[:10]}")
    print(f"{len(changes(err))} changes of the certificate were warned of")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
