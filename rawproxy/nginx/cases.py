"""The word of a directive where it depends on what the directive says.

It never looks at a second directive. Invariant: what `words` refuses in general passes only where
what is said means the same here.
"""

from __future__ import annotations

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.words import DIFFERENT, EXACT, HARMLESS, REFUSED, Word, word

# What is refused in general, where it says what happens here anyway.
_OFF = {
    *((name, ("off",)) for name in (
        "auth_basic", "auth_request", "expires", "proxy_intercept_errors", "proxy_cache", "ssl",
        "proxy_store", "proxy_bind", "ssl_early_data", "proxy_ignore_client_abort",
        "proxy_force_ranges",
    )),
    *((name, ("on",)) for name in ("proxy_pass_request_body", "proxy_pass_request_headers")),
    ("limit_rate", ("0",)), ("satisfy", ("all",)),
}  # fmt: skip


def case(one: Directive, block: str = "") -> Word:
    """The word of a directive, as it stands in a `block` of that name."""
    args = one.args
    if block == "upstream":
        two = one.name == "random" and args in (("two",), ("two", "least_conn"))
        return Word(EXACT) if two else word(one.name, block)
    if (one.name, args) in _OFF:
        return Word(EXACT)
    match one.name:
        case "map" if args[:1] == ("$http_upgrade",):
            return Word(HARMLESS, "Connection is written here anyway")
        case "listen" if "quic" in args:
            return Word(DIFFERENT, "HTTP/3 is not spoken here; the same port over TCP is HTTP/2's")
        case "set_real_ip_from" if block == "server":
            return Word(DIFFERENT, "all servers of the file trust it")
        case "set_real_ip_from" if block == "location":
            return Word(REFUSED, "who is believed is asked before any location; type it above")
        case "error_page":
            return _error_page(one)
        case "recursive_error_pages" if args == ("on",):
            return Word(DIFFERENT, "an error of an error page leads nowhere")
        case "add_header" if "always" in args[2:]:
            return Word(EXACT)
        case _:
            return word(one.name)


def _error_page(one: Directive) -> Word:
    codes = {text for text in one.args if text.isdigit()}
    if codes == {"401"}:
        return Word(DIFFERENT, "a guard's 401 sends whoever navigates there; others get the 401")
    if codes == {"497"}:
        return Word(DIFFERENT, "plain HTTP at an https port gets a 400 that says so")
    return word("error_page")
