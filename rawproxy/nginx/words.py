"""What becomes of each directive of nginx: one word, and what to know about it.

    exact       means here what it means there
    different   means something else, on purpose; the note says how it is better
    harmless    says how nginx works inside, or how it does what happens here anyway
    refused     is not done here; nothing is served until it is taken out

Some words depend on what the directive says: the table has the word of the usual case, and the
translation of a file tells each case. docs/from-nginx.md is written from this table. It never reads
a file. Invariant: a directive that is not in the table is refused.
"""

from __future__ import annotations

from typing import Final, NamedTuple

EXACT: Final = "exact"
DIFFERENT: Final = "different on purpose"
HARMLESS: Final = "harmless"
REFUSED: Final = "refused"


class Word(NamedTuple):
    """What becomes of one directive."""

    word: str
    note: str = ""


_INSIDE: Final = "how nginx works inside"
_ALWAYS: Final = "happens here anyway"
_STATIC: Final = "no files are served here: let a web server do that, and proxy to it"
_CACHE: Final = "nothing is cached here: an upstream or a cache in front of it may"

_TABLE: Final[dict[str, dict[str, Word]]] = {
    "core": {
        "http": Word(EXACT),
        "server": Word(EXACT),
        "location": Word(EXACT, "a path that can be read in two ways, for two routes, gets 400"),
        "listen": Word(EXACT, "backlog and the like are settled here; quic: that line is left out"),
        "server_name": Word(EXACT, "beside expressions a wildcard stands for one label"),
        "include": Word(EXACT),
        "client_max_body_size": Word(EXACT),
        "client_body_timeout": Word(DIFFERENT, "a body has to keep a pace instead"),
        "client_header_timeout": Word(DIFFERENT, "30 s from the first byte"),
        "keepalive_timeout": Word(DIFFERENT, "that of the http block alone"),
        "keepalive_requests": Word(DIFFERENT, "100,000, with a drain that loses no request"),
        "send_timeout": Word(DIFFERENT, "a client has to keep a pace instead"),
        "error_page": Word(EXACT, "asked without a body; a page that is a file: one of our own"),
        "resolver": Word(EXACT, "the first address, one for the whole file; names keep their TTL"),
        "resolver_timeout": Word(HARMLESS, _INSIDE),
        "underscores_in_headers": Word(DIFFERENT, "that of the http block alone"),
        "server_tokens": Word(DIFFERENT, "the upstream's Server passes, and none is added"),
        "default_type": Word(EXACT, "of what `return` says"),
        "root": Word(DIFFERENT, "no files are served here; without proxy_pass the answer is 404"),
        "alias": Word(REFUSED, _STATIC),
        "index": Word(HARMLESS, "of files, and none are served"),
        "try_files": Word(REFUSED, _STATIC),
        "internal": Word(EXACT, "rewrites and guards lead there"),
        "satisfy": Word(EXACT, "any: beside lists one of auth_basic and auth_request"),
        "limit_except": Word(REFUSED, "let the upstream look at the method"),
        "merge_slashes": Word(DIFFERENT, "a path with // gets 400 where it matters"),
        "absolute_redirect": Word(DIFFERENT, "redirects of the slash have the host asked for"),
        "port_in_redirect": Word(DIFFERENT, "redirects of the slash have the host asked for"),
        "server_name_in_redirect": Word(DIFFERENT, "redirects have the host asked for"),
        **dict.fromkeys(
            (
                "user worker_processes worker_connections worker_rlimit_nofile events pid"
                " error_log load_module sendfile sendfile_max_chunk tcp_nopush tcp_nodelay"
                " types types_hash_max_size types_hash_bucket_size server_names_hash_bucket_size"
                " server_names_hash_max_size variables_hash_max_size variables_hash_bucket_size"
                " map_hash_bucket_size map_hash_max_size use multi_accept accept_mutex aio"
                " directio thread_pool worker_cpu_affinity worker_priority daemon master_process"
                " client_body_buffer_size client_body_temp_path client_body_in_file_only"
                " client_header_buffer_size large_client_header_buffers connection_pool_size"
                " request_pool_size output_buffers postpone_output reset_timedout_connection"
                " lingering_close lingering_time lingering_timeout open_file_cache"
                " open_file_cache_valid open_file_cache_min_uses open_file_cache_errors"
                " log_not_found log_subrequest recursive_error_pages msie_padding pcre_jit env"
                " if_modified_since etag max_ranges chunked_transfer_encoding"
                " ignore_invalid_headers worker_shutdown_timeout http2_push_preload"
                " http2_max_concurrent_streams http2_idle_timeout http2_chunk_size"
            ).split(),
            Word(HARMLESS, _INSIDE),
        ),
        "http2": Word(DIFFERENT, "every https listener speaks HTTP/2"),
    },
    "rewrite": {
        "return": Word(EXACT),
        "rewrite": Word(EXACT, "a second one that looks at what the first has made: refused"),
        "if": Word(EXACT, "variables and texts or expressions; files: refused"),
        "set": Word(EXACT),
        "break": Word(EXACT),
        "rewrite_log": Word(HARMLESS, _INSIDE),
        "uninitialized_variable_warn": Word(HARMLESS, _INSIDE),
        "map": Word(EXACT, "of what a request says; of what an answer says: refused"),
        "geo": Word(REFUSED, "type one server for each kind of client"),
        "split_clients": Word(REFUSED, "weights of an upstream block may do"),
    },
    "proxy": {
        "proxy_pass": Word(EXACT, "a URI behind a location without a slash at its end: refused"),
        "proxy_set_header": Word(EXACT, "X-Forwarded-* are written here anyway"),
        "proxy_pass_header": Word(HARMLESS, "those headers pass here"),
        "proxy_hide_header": Word(EXACT),
        "proxy_redirect": Word(EXACT),
        "proxy_cookie_path": Word(EXACT, "flags behind a path: refused"),
        "proxy_cookie_domain": Word(EXACT),
        "proxy_http_version": Word(DIFFERENT, "always 1.1"),
        "proxy_connect_timeout": Word(DIFFERENT, "10 s, for dial and TLS handshake together"),
        "proxy_read_timeout": Word(EXACT, "for tunnels too"),
        "proxy_send_timeout": Word(DIFFERENT, "a body has to keep a pace instead"),
        "proxy_next_upstream": Word(DIFFERENT, "only what cannot have been served is asked again"),
        "proxy_next_upstream_tries": Word(DIFFERENT, "each upstream once"),
        "proxy_next_upstream_timeout": Word(DIFFERENT, "the queue's timeout bounds it"),
        "proxy_buffering": Word(DIFFERENT, "responses stream; slow clients hold back the upstream"),
        "proxy_request_buffering": Word(DIFFERENT, "bodies stream"),
        "proxy_max_temp_file_size": Word(HARMLESS, "nothing is written to disk"),
        "proxy_ssl_verify": Word(EXACT),
        "proxy_ssl_trusted_certificate": Word(EXACT),
        "proxy_ssl_certificate": Word(EXACT),
        "proxy_ssl_certificate_key": Word(EXACT),
        "proxy_ssl_name": Word(EXACT),
        "proxy_ssl_server_name": Word(DIFFERENT, "the name is always sent"),
        "proxy_ssl_session_reuse": Word(DIFFERENT, "always"),
        "proxy_ssl_protocols": Word(DIFFERENT, "TLS 1.2 and 1.3"),
        "proxy_ssl_ciphers": Word(DIFFERENT, "Mozilla's intermediate profile"),
        "proxy_ssl_verify_depth": Word(DIFFERENT, "OpenSSL's own"),
        "proxy_ssl_crl": Word(REFUSED, "certificates that are taken back are not looked up"),
        "proxy_ssl_password_file": Word(REFUSED, "type a key without a password"),
        "proxy_ssl_conf_command": Word(DIFFERENT, "Mozilla's intermediate profile"),
        "proxy_pass_trailers": Word(DIFFERENT, "trailers of responses pass"),
        "proxy_intercept_errors": Word(EXACT, "where error_page leads to no file"),
        "proxy_method": Word(REFUSED, "the method passes as it came"),
        "proxy_pass_request_body": Word(
            DIFFERENT, "a guard is asked without; other bodies pass as they came"
        ),
        "proxy_pass_request_headers": Word(REFUSED, "remove headers by name"),
        "proxy_set_body": Word(REFUSED, "the body passes as it came"),
        "proxy_bind": Word(REFUSED, "the system chooses the address"),
        "proxy_store": Word(REFUSED, _CACHE),
        "proxy_cache": Word(REFUSED, _CACHE),
        "proxy_cache_path": Word(HARMLESS, "proxy_cache is what counts"),
        "proxy_limit_rate": Word(REFUSED, "nothing is slowed down here"),
        "proxy_socket_keepalive": Word(HARMLESS, _INSIDE),
        "proxy_ignore_client_abort": Word(DIFFERENT, "a request ends where its client goes"),
        "proxy_ignore_headers": Word(HARMLESS, "what an upstream says in X-Accel-* steers nothing"),
        "proxy_force_ranges": Word(DIFFERENT, "ranges are the upstream's: it says what it has"),
        **dict.fromkeys(
            (
                "proxy_buffers proxy_buffer_size proxy_busy_buffers_size proxy_temp_path"
                " proxy_temp_file_write_size proxy_headers_hash_max_size"
                " proxy_headers_hash_bucket_size"
                " proxy_cache_valid proxy_cache_key proxy_cache_bypass"
                " proxy_no_cache proxy_cache_use_stale proxy_cache_lock proxy_cache_revalidate"
                " proxy_cache_min_uses proxy_cache_methods proxy_cache_background_update"
                " proxy_cache_convert_head proxy_cache_lock_age proxy_cache_lock_timeout"
                " proxy_cache_max_range_offset proxy_store_access proxy_send_lowat"
                " proxy_socket_rcvbuf proxy_socket_sndbuf proxy_ssl_certificate_cache"
            ).split(),
            Word(HARMLESS, _INSIDE),
        ),
        "proxy_cookie_flags": Word(REFUSED, "let the application set its cookies' flags"),
    },
    "headers": {
        "add_header": Word(DIFFERENT, "whatever the status, as with `always`"),
        "expires": Word(DIFFERENT, "Cache-Control says it; @time, modified, variables: refused"),
        "add_trailer": Word(REFUSED, "trailers pass as they came"),
        "add_header_inherit": Word(REFUSED, "type the headers in each block"),
        "add_trailer_inherit": Word(REFUSED, "trailers pass as they came"),
    },
    "upstream": {
        "upstream": Word(EXACT),
        "server": Word(
            EXACT,
            "weight, backup, down, resolve; max_fails, fail_timeout, max_conns (of each worker) and"
            " slow_start where all servers say the same; others: refused",
        ),
        "least_conn": Word(EXACT),
        "ip_hash": Word(DIFFERENT, "over the whole address, where nginx looks at a /24"),
        "hash": Word(EXACT, "of $remote_addr or $binary_remote_addr; another key: refused"),
        "random": Word(DIFFERENT, "always the better of two, as `random two`"),
        "least_time": Word(DIFFERENT, "the fewest connections instead of the shortest time"),
        "keepalive": Word(DIFFERENT, "as many as the last seconds needed, and these at rest"),
        "keepalive_requests": Word(HARMLESS, _INSIDE),
        "keepalive_time": Word(HARMLESS, _INSIDE),
        "keepalive_timeout": Word(EXACT),
        "zone": Word(HARMLESS, _INSIDE),
        "queue": Word(EXACT),
        "sticky": Word(REFUSED, 'type policy = "cookie" for the group'),
        "state": Word(REFUSED, "type the servers"),
        "resolver": Word(EXACT, "the first address, and one for the whole file"),
        "resolver_timeout": Word(HARMLESS, _INSIDE),
        "ntlm": Word(DIFFERENT, _ALWAYS),
    },
    "access and realip": {
        "allow": Word(EXACT),
        "deny": Word(EXACT),
        "auth_basic": Word(DIFFERENT, "after ten wrong passwords an address gets 429 for a while"),
        "auth_basic_user_file": Word(EXACT, "plain text, DES and SHA-1: refused"),
        "auth_request": Word(
            DIFFERENT, "its 401, 403 and redirects pass as they are; else 503, never 500"
        ),
        "auth_request_set": Word(EXACT, "fields of its answer; another variable: refused"),
        "limit_req": Word(
            DIFFERENT, "nobody is delayed: the burst passes at once; 429 and Retry-After"
        ),
        "limit_req_zone": Word(
            DIFFERENT, "IPv6 by /64; $binary_remote_addr, $server_name, $http_…, $cookie_… alone"
        ),
        "limit_req_status": Word(DIFFERENT, "always 429"),
        "limit_req_log_level": Word(HARMLESS, _INSIDE),
        "limit_req_dry_run": Word(REFUSED, "a limit is held here; take it out to try"),
        "limit_conn": Word(DIFFERENT, "of each worker and each location; 429"),
        "limit_conn_zone": Word(EXACT, "$binary_remote_addr; another key: refused"),
        "limit_conn_status": Word(DIFFERENT, "always 429"),
        "limit_conn_log_level": Word(HARMLESS, _INSIDE),
        "limit_conn_dry_run": Word(REFUSED, "a limit is held here; take it out to try"),
        "limit_rate": Word(REFUSED, "nothing is slowed down here"),
        "limit_rate_after": Word(REFUSED, "nothing is slowed down here"),
        "set_real_ip_from": Word(
            EXACT, "of one server: all servers trust it; of a location: refused"
        ),
        "real_ip_header": Word(EXACT, "one for the whole file; X-Real-IP where none is said"),
        "real_ip_recursive": Word(DIFFERENT, "always: the last address that is not trusted"),
    },
    "ssl": {
        "ssl": Word(REFUSED, "gone since nginx 1.25; type listen … ssl"),
        "ssl_certificate": Word(EXACT),
        "ssl_certificate_key": Word(EXACT),
        "ssl_client_certificate": Word(EXACT),
        "ssl_verify_client": Word(EXACT, "optional_no_ca: refused"),
        "ssl_trusted_certificate": Word(HARMLESS, "of stapling, which is not done"),
        "ssl_protocols": Word(DIFFERENT, "TLS 1.3 alone, or Mozilla's intermediate profile"),
        "ssl_ciphers": Word(DIFFERENT, "Mozilla's profile"),
        "ssl_prefer_server_ciphers": Word(DIFFERENT, "Mozilla's profile"),
        "ssl_ecdh_curve": Word(DIFFERENT, "Mozilla's profile"),
        "ssl_conf_command": Word(DIFFERENT, "Mozilla's profile"),
        "ssl_dhparam": Word(DIFFERENT, "no finite-field groups"),
        "ssl_stapling": Word(DIFFERENT, "not done: authorities have given it up"),
        "ssl_stapling_verify": Word(DIFFERENT, "not done: authorities have given it up"),
        "ssl_reject_handshake": Word(REFUSED, "type --strict-sni in its place"),
        "ssl_password_file": Word(REFUSED, "type a key without a password, readable by one user"),
        "ssl_crl": Word(REFUSED, "certificates that are taken back are not looked up"),
        "ssl_early_data": Word(DIFFERENT, "never: what comes early can be played again"),
        **dict.fromkeys(
            (
                "ssl_session_cache ssl_session_timeout ssl_session_tickets ssl_session_ticket_key"
                " ssl_buffer_size ssl_verify_depth ssl_stapling_file ssl_stapling_responder"
            ).split(),
            Word(HARMLESS, _INSIDE),
        ),
    },
    "log and gzip": {
        "access_log": Word(DIFFERENT, "one file for all, that of the http block"),
        "log_format": Word(DIFFERENT, "combined, extended or json: see --log-format"),
        "open_log_file_cache": Word(HARMLESS, _INSIDE),
        **dict.fromkeys(
            (
                "gzip gzip_types gzip_vary gzip_proxied gzip_comp_level gzip_buffers"
                " gzip_http_version gzip_min_length gzip_disable gzip_static gunzip brotli"
                " brotli_types brotli_comp_level brotli_static"
            ).split(),
            Word(DIFFERENT, "bodies pass as they came: let the upstream compress"),
        ),
    },
}

BLOCKS: Final = ("upstream",)  # parts of the table whose directives stand in a block of that name
WORDS: Final[dict[str, Word]] = {
    name: word
    for part, words in _TABLE.items()
    if part not in BLOCKS
    for name, word in words.items()
} | {"upstream": _TABLE["upstream"]["upstream"]}
UNKNOWN: Final = Word(REFUSED, "not known here")


def word(name: str, block: str = "") -> Word:
    """What becomes of the directive called `name`, which stands in a `block` of that name."""
    if block in BLOCKS:
        return _TABLE[block].get(name, UNKNOWN)
    return WORDS.get(name, UNKNOWN)


def tables() -> dict[str, dict[str, Word]]:
    """The whole table, by nginx's modules, for the documents."""
    return _TABLE
