"""nginx and rawproxy with the same file: what upstream and client see is the same.

To try another one put it into `configs/`.
"""

import pytest

from tests.nginx.compare import difference
from tests.nginx.stand import CONFIGS, Stand, requests_of
from tests.process import needs

pytestmark = needs("nginx", "nginx-light")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.conf")), ids=lambda path: path.stem)
def test_the_same(path, tmp_path):
    text = path.read_text()
    with Stand(text, tmp_path) as stand:
        ports = stand.ports["nginx"], stand.ports["rawproxy"]
        asked = requests_of(stand.tree, text, stand.ports["rawproxy"])
        assert asked
        found = []
        for request in asked:
            theirs, ours = stand.ask("nginx", request), stand.ask("rawproxy", request)
            what = difference(theirs, ours, ports, request)
            if what:
                found.append(
                    f"{request.listen} {request.host} {request.method} {request.target}: {what}"
                )
        assert not found, "\n".join([f"{len(found)} of {len(asked)}", *found[:12]])
