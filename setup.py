"""Compiles the hot path with mypyc where RAWPROXY_COMPILE asks for it: the same source, faster.

    1          compile
    count      compile so that every run adds to the counts in the folder RAWPROXY_COUNTS
    trained    compile for what those counts say is usual

Without it, as on any `pip install .`, rawproxy is plain Python and no compiler is needed.
`make fast` calls it so, with `bench/train.py` in between. With the hot path goes the engine that
reads heads, `rawproxy/protocol/_pcre2.c`; where PCRE2's header or library is missing it is left
out, with a warning, and `re` reads them. It also turns README.md into the text for a package index.
Everything else about the package stands in pyproject.toml.
"""

import os
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

# Every module that a connection or a request passes; what runs less often stays as it is. Two
# habits of theirs are for the compiler. Constants are `Final`: others it looks up each time. Tuples
# that are indexed are of no stated length: others it makes anew each time.
HOT = {
    "config": "bounds field_names",
    "protocol": "regex",
    "protocol/http1": "recogniser head_limits parser body",
    "protocol/http": (
        "target message head last_head forwarding client_context connection_auth rewrite last_hop"
        " variable_values path_change response_map"
    ),
    "protocol/http2": (
        "frames flow_control budget stream_numbers huffman hpack fields header_reader"
    ),
    "protocol/websocket": "frames",
    "routing": "match conditions route_targets own_answer error_places inner_routes site_routes",
    "balancing": "fair_queue pool health policies",
    "telemetry": "masks counters facts access_log",
    "net": (
        "tls_outbox backpressure poller kernel_relay tls_ends socket_transport tls_transport"
        " tls_handshake"
    ),
    "upstream": (
        "bulk_reader response_handler response_body connection ticket dialling endpoint probe group"
    ),
    "proxy": (
        "recorder tunnel client_side checkout holding timeouts request_relay response_relay"
        " error_places exchange page_exchange guard admission worker_groups service"
    ),
    "access": (
        "address_lists rates questions verdicts answer_cache counts inquiry guarded_exchange "
        "tunnel_rules route_guard"
    ),
    "client": (
        "request_side h1_responder h1_intake h1_body h1_connection h2_writer h2_responder "
        "h2_stream_transport h2_stream h2_intake h2_connection arrival listener"
    ),
}
STEP = os.environ.get("RAWPROXY_COMPILE", "")


def is_gcc() -> bool:
    """Others know other options; they compile without training."""
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    told = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return "Free Software Foundation" in told.stdout


def flags() -> tuple[list[str], list[str]]:
    """For the compiler, and for the linker."""
    # What nobody outside can call may be inlined. Line numbers of the generated C help nobody, and
    # cost a fifth of the time.
    common = ["-fvisibility=hidden", "-g0"]
    if STEP == "1" or not is_gcc():
        return common, []
    folder = os.environ["RAWPROXY_COUNTS"]
    if STEP == "count":
        return [*common, "-fprofile-generate", f"-fprofile-dir={folder}"], ["-fprofile-generate"]
    # What the training never reached is compiled as usual, not for size: it may be somebody's day.
    use = ["-fprofile-use", f"-fprofile-dir={folder}", "-fprofile-partial-training"]
    # Threads count too, now and then one too few; and a file may have been left out altogether.
    return [*common, *use, "-fprofile-correction", "-Wno-missing-profile"], []


def extensions() -> list[object]:
    """What to compile."""
    if STEP not in ("1", "count", "trained"):
        return []
    from mypyc.build import mypycify
    from setuptools import Extension

    found = mypycify(
        [f"rawproxy/{room}/{name}.py" for room, names in HOT.items() for name in names.split()],
        opt_level="3",
    )
    found.append(
        Extension(
            "rawproxy.protocol._pcre2",
            ["rawproxy/protocol/_pcre2.c"],
            extra_compile_args=["-O3"],
            libraries=["pcre2-8"],
            optional=True,
        )
    )
    compile_flags, link_flags = flags()
    for extension in found:
        extension.extra_compile_args += compile_flags
        extension.extra_link_args += link_flags
    return found


def index_page() -> str:
    """README.md for a package index, where relative links and pictures lead nowhere.

    If pyproject.toml names the repository (`Source` in `[project.urls]`), they lead there. If not,
    a link becomes the path of its file in the source distribution, and pictures are left out.
    """
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    source = project.get("urls", {}).get("Source", "").rstrip("/")

    def link(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if "://" in target:
            return found[0]
        if target.startswith("#"):  # an index gives headings no anchors
            return text
        if source:
            return f"{picture}[{text}]({source}/{'raw' if picture else 'blob'}/HEAD/{target})"
        path = target.partition("#")[0]
        if picture:
            return ""
        return f"`{path}`" if text == Path(path).name else f"{text} (`{path}`)"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, (HERE / "README.md").read_text())


setup(
    ext_modules=extensions(),
    long_description=index_page(),
    long_description_content_type="text/markdown",
)
