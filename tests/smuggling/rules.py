"""The rules: what each says, where it is from, and the tests outside the corpus that show it.

Numbers in brackets are sections: 9110 semantics, 9112 HTTP/1.1, 9113 HTTP/2, 6455 WebSocket, 8441
WebSocket over HTTP/2. The corpus (`requests_h1`, `requests_h2`, `responses`) has cases for most;
what takes time, two connections or a tunnel is tested where the pointers lead.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """One line of the list."""

    number: int
    text: str
    tests: str = ""  # pointers, below `tests/`


HEAD = "unit/protocol/http/test_head.py::"
BODY = "unit/protocol/http1/test_body.py::"
H2 = "wire/test_h2_rfc9113.py::"
FIELDS = "unit/protocol/http2/test_fields.py::"
HTTP = "wire/test_http.py::"
TUNNEL = "wire/test_tunnel.py::"
FAULTS = "wire/test_faults.py::"
REWRITE = "unit/protocol/http/test_rewrite.py::"

RULES = (
    Rule(1, "Content-Length with Transfer-Encoding is refused, and the connection closed (9112 6.1, 6.3)",
         f"{HEAD}test_refused"),
    Rule(2, "Transfer-Encoding in HTTP/1.0 is refused, and the connection closed (9112 6.1)", f"{HEAD}test_refused"),
    Rule(3, "a Transfer-Encoding other than exactly `chunked` is refused (9112 6.1, 6.3)", f"{HEAD}test_framing"),
    Rule(4, "Content-Length is 1*DIGIT; different ones are refused, equal ones are one (9110 8.6, 9112 6.3)",
         f"{HEAD}test_equal_lengths_collapse {BODY}test_length"),
    Rule(5, "a chunk size is hexadecimal digits and nothing else, and cannot overflow (9112 7.1)",
         f"{BODY}test_broken_chunks_are_refused_at_every_split"
         " property/test_body.py::test_a_broken_body_is_never_read_otherwise_than_h11_reads_it"),
    Rule(6, "chunk extensions: no bare CR, bare LF or NUL; bounded each and in total (9112 7.1.1)",
         f"{BODY}test_extensions_are_bounded_in_total"),
    Rule(7, "exactly CRLF behind chunk data, the last chunk and trailers (9112 7.1)",
         f"{BODY}test_chunked_at_every_split"),
    Rule(8, "a bare LF ends no line (9112 2.2)", "property/test_head.py::test_requests_fast_lane_agrees_with_h11"),
    Rule(9, "NUL, bare CR and other control characters in a field are refused (9110 5.5)",
         "property/test_head.py::test_an_accepted_block_reads_as_itself"),
    Rule(10, "no blank before a colon, none before the first field (9112 2.2, 5.1)", f"{HEAD}test_refused"),
    Rule(11, "a folded line is refused: 400, and 502 from an upstream (9112 5.2)",
         f"{FAULTS}test_broken_upstreams_are_502_with_the_cause_in_the_log"),
    Rule(12, "Host is there once in HTTP/1.1, and a valid uri-host[:port] (9112 3.2)", f"{HEAD}test_http_1_0_without_host"),
    Rule(13, "the absolute form is accepted, and its authority replaces Host (9112 3.2.2)",
         f"{HEAD}test_rule_13_and_23_targets"),
    Rule(14, "the origin form begins with a slash; `*` only with OPTIONS; no fragment, nothing but ASCII (9112 3.2)",
         f"{HEAD}test_rule_13_and_23_targets"),
    Rule(15, "CONNECT is refused, in HTTP/2 too unless it is for a WebSocket (9110 9.3.6)", f"{FIELDS}test_refused"),
    Rule(16, "HTTP/1.0 and 1.1 only; an HTTP/2 preface is no request (9110 2.5, 9112 2.3)",
         f"{FAULTS}test_refused_and_closed {H2}test_3_4_a_wrong_preface"),
    Rule(17, "a few empty lines, CRLF each, may come before a request (9112 2.2)", f"{FAULTS}test_refused_and_closed"),
    Rule(18, "sizes are judged before anything is parsed: start line, head, number of fields (9110 5.4, 9112 3)",
         f"{HEAD}test_rule_18_limits_of_a_request {HEAD}test_find_request unit/protocol/http2/test_header_reader.py"),
    Rule(19, "an answer before the request's body was read: drained within a bound, or closed (9112 9.3)",
         f"{FAULTS}test_rule_19_an_answer_before_the_body_was_read {FAULTS}test_a_chunked_body_too_long_to_drain"),
    Rule(20, "a GET's or HEAD's body is framed like any other (CL.0, 0.CL, TE.0); TRACE is refused unless allowed, and"
         " Max-Forwards counts for OPTIONS and TRACE (9110 7.6.2, 9.3.1, 9.3.8)",
         f"{FAULTS}test_the_client_closes_within_its_body {HTTP}test_pipelined_requests_are_answered_in_order"),
    Rule(21, "what Connection names goes first, then the fields of the hop, and only then ours come (9110 7.6.1)",
         f"{REWRITE}test_rules_21_and_22_what_an_upstream_never_sees {REWRITE}test_rule_21_connection_names_fields"),
    Rule(22, "forwarding fields of an untrusted peer never pass, nor their twins with underscores; the client is the"
         " rightmost hop that is not trusted",
         f"{REWRITE}test_rule_22_the_client_is_the_rightmost_untrusted_hop {REWRITE}test_a_trusted_peer_is_believed"
         " wire/test_trusted_hops.py"),
    Rule(23, "path, query and the order of fields stay byte by byte; Host keeps its port (9110 5.3, 7.7)",
         "peers/test_nginx.py::test_what_the_upstream_sees peers/test_django.py::test_login"),
    Rule(24, "1xx pass, but not to HTTP/1.0 (9110 15.2)",
         f"{HTTP}test_rule_24_interim_responses_pass_but_not_to_http_1_0 wire/test_h2_front.py::test_interim_chunked_and_trailers"),
    Rule(25, "Expect is forwarded; behind an early answer the upstream connection is not used again (9110 10.1.1)",
         f"{HTTP}test_rule_25_expect_is_forwarded {HTTP}test_rule_25_a_final_answer_instead_of_continue_ends_both_connections"),
    Rule(26, "trailers are never merged into the head; those that frame, route or prove are dropped (9110 6.5.1)",
         f"{FIELDS}test_trailers {BODY}test_chunked_at_every_split"),
    Rule(27, "messages are framed by us, never twice; no chunks to HTTP/1.0 (9112 6.2)",
         f"{REWRITE}test_rule_27_the_message_is_framed_by_us {HTTP}test_http_1_0_clients"
         f" {HTTP}test_a_body_until_close_is_framed_for_the_client"),
    Rule(28, "nothing is buffered that need not be",
         "peers/test_nginx.py::test_server_sent_events_arrive_unbuffered peers/test_memory.py"
         f" {HTTP}test_uploads peers/test_django.py::test_uploads_stream"),
    Rule(29, "a response's bad length is 502; HEAD, 1xx, 204 and 304 have no body (9112 6.3)",
         f"{HEAD}test_rule_29_refused_responses {HEAD}test_bodyless_responses {HTTP}test_responses_without_a_body"),
    Rule(30, "bytes behind a response or while idle end that upstream connection (9112 9.2)",
         f"{HTTP}test_rule_30_bytes_behind_a_response_end_the_connection {HTTP}test_bytes_while_idle_end_the_connection"),
    Rule(31, "a truncated response never ends cleanly (9112 8)",
         f"{HTTP}test_rule_31_a_truncated_body_never_ends_cleanly wire/test_h2_front.py::test_a_broken_response_is_a_reset"),
    Rule(32, "response heads up to 64 KiB pass", f"{HEAD}test_rule_32_large_response_heads_pass peers/test_nginx.py::test_large_heads"),
    Rule(33, "an upgrade needs Connection, HTTP/1.1, GET and no body; only to websocket, never to h2c; one with a"
         " body goes on, on purpose, as the plain request that it is without Upgrade (9110 7.8)",
         f"{HEAD}test_rule_33_upgrade {REWRITE}test_rule_33_upgrade {TUNNEL}test_rule_33_426_keeps_its_upgrade"),
    Rule(34, "raw bytes flow only behind the upstream's own, matching 101 (9110 7.8, 6455 4.1)",
         f"{TUNNEL}test_leftovers_first_then_everything {TUNNEL}test_rule_34_a_refusal_is_an_ordinary_response"
         f" {TUNNEL}test_rule_34_a_101_that_is_not_ours_is_502 unit/test_small.py::test_rule_34_only_the_upgrade_that_was_asked_for"),
    Rule(35, "a tunnel's fields pass as they came; half-close and backpressure work both ways; it is never pooled (6455)",
         f"{TUNNEL}test_rule_35_half_close_passes_both_ways {TUNNEL}test_backpressure_in_a_tunnel"
         f" {TUNNEL}test_an_idle_tunnel_ends {TUNNEL}test_a_cut_is_passed_on"),
    Rule(36, "HTTP/2: lower-case names, clean values, no fields of the connection, TE only `trailers` (9113 8.2)",
         f"{H2}test_malformed_requests {FIELDS}test_kinds {FIELDS}test_a_line_is_one_line"),
    Rule(37, "HTTP/2: pseudo-fields first, once, known and clean; :authority is the Host (9113 8.3)",
         f"{H2}test_malformed_requests {H2}test_8_3_1_what_can_be_answered_is_answered {FIELDS}test_malformed"),
    Rule(38, "HTTP/2: Content-Length is the sum of DATA, or the upstream's request is not completed (9113 8.1.1)",
         f"{H2}test_stream_errors"),
    Rule(39, "HTTP/2: crumbs of a cookie are joined (9113 8.2.3)", f"{FIELDS}test_a_plain_request"),
    Rule(40, "WebSocket over HTTP/2: the setting is sent, the key is ours, 101 is 200, FIN and RST pass (8441)",
         "wire/test_h2_front.py::test_a_websocket_inside wire/test_h2_front.py::test_a_websocket_refused"
         f" wire/test_h2_front.py::test_resets_of_a_websocket_travel_both_ways {FIELDS}test_a_websocket"),
    Rule(41, "names with an underscore are dropped; where they pass, twins of what frames, forwards or identifies are not",
         f"{REWRITE}test_rule_41_underscores wire/test_identity.py::test_rule_41_underscores"),
    Rule(42, "1xx, 204 and 304 end with their head, whatever framing fields they carry: these are dropped, and the"
         " connection is not used again; a 101 with them becomes a tunnel all the same (9112 6.3)",
         f"{HEAD}test_rule_42_what_has_no_body_ends_with_its_head"
         f" {HTTP}test_rule_42_what_has_no_body_is_relayed_and_its_connection_left"
         f" {TUNNEL}test_rule_42_a_101_that_is_framed_becomes_a_tunnel"),
    Rule(43, "blanks behind a chunk's size are tolerated in a response, and nowhere else (9112 7.1)",
         f"{BODY}test_rule_43_blanks_behind_a_size_where_they_are_tolerated {BODY}test_rule_43_no_others"
         f" {HTTP}test_rule_43_padded_chunk_sizes_of_a_response"),
    Rule(46, "connection-bound authentication: an upstream connection that a client has proved itself to is its own",
         "wire/test_bound.py::test_nobody_gets_another_ones_session unit/protocol/http/test_connection_auth.py::test_rule_46_offers"),
    Rule(47, "the port of a Host is 1 to 65535, or absent (9110 4.2.1, 9112 3.2)", f"{HEAD}test_rule_47_ports"),
    Rule(48, "other upgrades are tunnels where they are listed, whatever the method and the body; h2c never is",
         "wire/test_upgrades.py::test_what_is_listed_is_a_tunnel unit/config/test_option_values.py::test_upgrade_tokens"),
    Rule(49, "Via is off unless asked for", f"{REWRITE}test_rule_49_via"),
    Rule(50, "a chunked request goes on with a length where the route gathers it, and else as it came (9112 6.1)",
         "wire/test_gather.py::test_a_body_within_the_bound_has_a_length"
         " wire/test_gather.py::test_a_longer_body_goes_on_in_chunks unit/protocol/http/test_rewrite.py::test_rule_50_measured"),
    Rule(51, "Forwarded and X-Forwarded-* never contradict each other, whoever is trusted",
         "unit/protocol/http/test_forwarding.py::test_never_a_contradiction"),
)  # fmt: skip
