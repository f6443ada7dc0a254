"""Runs every configuration and writes the table of them: `python -m tests.nginx [NAME …]`.

With names it only says what differs. It needs nginx.
"""

import pathlib
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.nginx.compare import ALLOWED, difference
from tests.nginx.stand import CONFIGS, Stand, requests_of

AT_ONCE = 3  # configurations: both proxies wait more than they work
PAGE = pathlib.Path(__file__).parent / "CONFIGURATIONS.md"
HEAD = """# Configurations beside nginx

Each of these files runs under nginx and under `rawproxy --nginx`; the same requests go to both. What
the upstream was asked and what the client got is compared, byte by byte, less what differs on
purpose. `python -m tests.nginx` writes this page; a file that is put into `configs/` is in it.

| configuration | requests | same | other differences | differences on purpose |
|---|--:|--:|--:|---|
"""


def looked_at(path: pathlib.Path) -> tuple[int, list[str], Counter[str]]:
    """Requests, what differs and should not, and which differences on purpose were met."""
    text = path.read_text()
    used: Counter[str] = Counter()
    found = []
    with tempfile.TemporaryDirectory() as folder, Stand(text, pathlib.Path(folder)) as stand:
        asked = requests_of(stand.tree, text, stand.ports["rawproxy"])
        ports = (stand.ports["nginx"], stand.ports["rawproxy"])
        for request in asked:
            theirs, ours = stand.ask("nginx", request), stand.ask("rawproxy", request)
            what = difference(theirs, ours, ports, request, used)
            if what:
                found.append(
                    f"{request.listen} {request.host} {request.method} {request.target}"
                    f" {request.lines}: {what}"
                )
    return len(asked), found, used


def tried(path: pathlib.Path) -> tuple[int, list[str], Counter[str]]:
    """The same; a stand that does not come up is a difference too."""
    try:
        count, found, used = looked_at(path)
    except (AssertionError, OSError, KeyError) as error:
        count, found, used = 0, [str(error)], Counter[str]()
    print(f"{path.stem}: {count} requests, {len(found)} differ", *found[:6], sep="\n  ", flush=True)
    return count, found, used


def page(results: dict[str, tuple[int, list[str], Counter[str]]]) -> str:
    """The table of all configurations."""
    met: Counter[str] = Counter()
    total, rows = 0, []
    for name, (count, found, used) in results.items():
        total, met = total + count, met + used
        purposes = ", ".join(sorted(used))
        rows.append(f"| {name} | {count} | {count - len(found)} | {len(found)} | {purposes} |\n")
    rows.append(f"\n{len(results)} configurations, {total:,} requests.\n\n")
    rows.append("| on purpose | times | what it is |\n|---|--:|---|\n")
    rows += [f"| {name} | {met[name]:,} | {ALLOWED[name]} |\n" for name in sorted(met)]
    return HEAD + "".join(rows)


def main() -> int:
    """Look at all of them, or at those that are named."""
    names = sys.argv[1:]
    paths = [path for path in sorted(CONFIGS.glob("*.conf")) if path.stem in names or not names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = {path.stem: one for path, one in zip(paths, pool.map(tried, paths), strict=True)}
    wrong = any(found for _, found, _ in results.values())
    if not names and not wrong:
        PAGE.write_text(page(results))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
