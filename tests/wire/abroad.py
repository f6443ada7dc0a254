"""An upstream at a public address, within a network namespace of its own; prints what happened.

Run by `test_upstream_certificates`, as `ip netns exec NAME python -m tests.wire.abroad`: the address
is one of the documentation's (RFC 5737), and exists nowhere but in there.
"""

import asyncio
import json
import sys

from tests.process import RawProxy

from .restarting import Upstream, ask, fingerprints

ADDRESS = "203.0.113.7"


async def main() -> None:
    upstream = Upstream(ADDRESS)
    await upstream.start()
    with RawProxy("--upstream", f"{ADDRESS}:{upstream.port}", *sys.argv[1:], https=False) as proxy:
        statuses = [await ask(proxy.http) for _ in range(2)]
        await upstream.restart()
        statuses += [await ask(proxy.http) for _ in range(3)]
        upstream.known_again(0)
        await upstream.restart(new=False)
        statuses += [await ask(proxy.http) for _ in range(2)]
    found = {"statuses": statuses, "shown": fingerprints(upstream), "err": proxy.err()}
    await upstream.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
