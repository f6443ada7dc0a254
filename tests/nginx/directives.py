"""The directives of nginx's modules, by name, as its sources of 1.31 register them.

They were read from the tables of commands in `src/http/modules/` and `src/http/ngx_http_upstream.c`
(nginx/nginx at 3f6f7824d, April 2026). Only names are here.
"""

BY_MODULE = {
    "proxy": (
        "proxy_bind proxy_buffer_size proxy_buffering proxy_buffers proxy_busy_buffers_size"
        " proxy_cache proxy_cache_background_update proxy_cache_bypass proxy_cache_convert_head"
        " proxy_cache_key proxy_cache_lock proxy_cache_lock_age proxy_cache_lock_timeout"
        " proxy_cache_max_range_offset proxy_cache_methods proxy_cache_min_uses proxy_cache_path"
        " proxy_cache_revalidate proxy_cache_use_stale proxy_cache_valid proxy_connect_timeout"
        " proxy_cookie_domain proxy_cookie_flags proxy_cookie_path proxy_force_ranges"
        " proxy_headers_hash_bucket_size proxy_headers_hash_max_size proxy_hide_header"
        " proxy_http_version proxy_ignore_client_abort proxy_ignore_headers proxy_intercept_errors"
        " proxy_limit_rate proxy_max_temp_file_size proxy_method proxy_next_upstream"
        " proxy_next_upstream_timeout proxy_next_upstream_tries proxy_no_cache proxy_pass"
        " proxy_pass_header proxy_pass_request_body proxy_pass_request_headers proxy_pass_trailers"
        " proxy_read_timeout proxy_redirect proxy_request_buffering proxy_send_lowat"
        " proxy_send_timeout proxy_set_body proxy_set_header proxy_socket_keepalive"
        " proxy_socket_rcvbuf proxy_socket_sndbuf proxy_ssl_certificate"
        " proxy_ssl_certificate_cache proxy_ssl_certificate_key proxy_ssl_ciphers"
        " proxy_ssl_conf_command proxy_ssl_crl proxy_ssl_name proxy_ssl_password_file"
        " proxy_ssl_protocols proxy_ssl_server_name proxy_ssl_session_reuse"
        " proxy_ssl_trusted_certificate proxy_ssl_verify proxy_ssl_verify_depth proxy_store"
        " proxy_store_access proxy_temp_file_write_size proxy_temp_path"
    ),
    "headers": "expires add_header add_trailer add_header_inherit add_trailer_inherit",
    "rewrite": "rewrite return break if set rewrite_log uninitialized_variable_warn",
    "map": "map map_hash_max_size map_hash_bucket_size",
    "access": "allow deny",
    "auth_basic": "auth_basic auth_basic_user_file",
    "auth_request": "auth_request auth_request_set",
    "limit_req": "limit_req_zone limit_req limit_req_log_level limit_req_status limit_req_dry_run",
    "limit_conn": (
        "limit_conn_zone limit_conn limit_conn_log_level limit_conn_status limit_conn_dry_run"
    ),
    "realip": "set_real_ip_from real_ip_header real_ip_recursive",
}
# Of an `upstream` block; `upstream` itself is one of them.
OF_UPSTREAM = (
    "upstream server resolver resolver_timeout hash ip_hash keepalive keepalive_requests"
    " keepalive_time keepalive_timeout least_conn least_time random sticky zone queue state ntlm"
)
