"""The corpus of HTTP/2: frames of one stream, and whether they are refused or what the upstream sees.

RFC 9113 by section stands in `wire/test_h2_rfc9113.py`; here is what could come out of the other
side as another request (H2.CL, H2.TE, lines and requests hidden in fields).
"""

from .cases import (
    CHUNKED,
    END,
    EVIL,
    Case,
    passed_h2,
    pseudo,
    refused_h2,
    saw_h2,
    stream,
)
from .requests_h1 import IDENTITY, PATH, TRAILERS, TWINS

POST = pseudo(b"POST")
SOCKET = (*pseudo(b"CONNECT"), (b":protocol", b"websocket"))
POSTED = b"POST / HTTP/1.1"
REQUEST = b"/ HTTP/1.1\r\nHost: h\r\n\r\nGET /evil"


def one(name: bytes, value: bytes) -> bytes:
    """A GET with one more field."""
    return stream((name, value))


def path(text: bytes, method: bytes = b"GET") -> bytes:
    """A request for another path."""
    return stream(start=pseudo(method, path=text))


def length(value: bytes, *data: bytes) -> bytes:
    """A POST with a Content-Length."""
    return stream((b"content-length", value), start=POST, data=data)


LENGTHS = [
    refused_h2(1, "TE beside CL", stream((b"content-length", b"5"), (b"transfer-encoding", b"chunked"),
                                        start=POST, data=(b"hello",))),
    refused_h2(3, "TE (H2.TE)", stream((b"transfer-encoding", b"chunked"), start=POST, data=(END + EVIL,))),
    refused_h2(3, "TE identity", stream((b"transfer-encoding", b"identity"), start=POST, data=(b"x",))),
    *(
        refused_h2(4, f"CL {value!r}", length(value, b"hello"))
        for value in (b"+5", b"-5", b"0x5", b"5_0", b"", b"5 5", b"5,5", b"5;", b"9" * 19, b"\xb2")
    ),
    refused_h2(4, "CL twice", stream((b"content-length", b"5"), (b"content-length", b"6"), start=POST,
                                     data=(b"hello",))),
    passed_h2(20, "GET with a body", stream(data=(b"hello",)),
              saw_h2(last=(CHUNKED,), body=b"5\r\nhello\r\n" + END)),
    passed_h2(20, "a body that looks like a request (H2.CL 0)", stream(start=POST, data=(EVIL,)),
              saw_h2(start=POSTED, last=(CHUNKED,), body=b"%x\r\n%b\r\n" % (len(EVIL), EVIL) + END)),
    passed_h2(20, "a body that looks like chunks", stream(start=POST, data=(END + EVIL,)),
              saw_h2(start=POSTED, last=(CHUNKED,),
                     body=b"%x\r\n%b\r\n" % (len(END + EVIL), END + EVIL) + END)),
    refused_h2(38, "CL 0 with DATA (H2.CL)", length(b"0", EVIL)),
    refused_h2(38, "less DATA than CL", length(b"6", b"hello")),
    refused_h2(38, "more DATA than CL", length(b"4", b"hello")),
    refused_h2(38, "more DATA than CL, in two frames", length(b"5", b"hello", EVIL)),
    refused_h2(38, "CL without DATA", stream((b"content-length", b"5"), start=POST)),
    passed_h2(38, "as much DATA as CL", length(b"5", b"he", b"llo"),
              saw_h2(b"content-length: 5", start=POSTED, body=b"hello")),
    passed_h2(38, "CL 0 and no DATA", stream((b"content-length", b"0"), start=POST),
              saw_h2(b"content-length: 0", start=POSTED)),
    passed_h2(38, "CL 0 and an empty DATA", length(b"0", b""),
              saw_h2(b"content-length: 0", start=POSTED)),
]  # fmt: skip

FIELDS = [
    *(
        refused_h2(rule, f"{what} in a value", one(b"x", b"a" + char + b"b"))
        for rule, what, char in (
            (36, "CRLF", b"\r\n"), (36, "CRLF and TE", b"\r\nTransfer-Encoding: chunked\r\n"),
            (36, "two CRLF and a request", b"\r\n\r\n" + EVIL), (36, "CR", b"\r"), (36, "LF", b"\n"),
            (36, "NUL", b"\0"), (9, "SOH", b"\1"), (9, "ESC", b"\x1b"), (9, "DEL", b"\x7f"),
        )
    ),
    *(
        refused_h2(36, f"name {name!r}", one(name, b"a"))
        for name in (
            b"X-Upper", b"x y", b"x:", b"x: y", b"x\r\ny", b"x\0", b"", b"\xc3\xa4", b"x\x7f", b"x(",
            b"transfer-encoding: chunked\r\nx",
        )
    ),
    *(refused_h2(36, f"value {value!r}", one(b"x", value)) for value in (b" a", b"a ", b"\ta", b"a\t")),
    *(
        refused_h2(36, f"{name.decode()}: {value.decode()}", one(name, value))
        for name, value in (
            (b"connection", b"close"), (b"connection", b"x-forwarded-proto"), (b"keep-alive", b"5"),
            (b"proxy-connection", b"x"), (b"upgrade", b"websocket"), (b"te", b"gzip"),
        )
    ),
    refused_h2(33, "upgrade to h2c", stream((b"upgrade", b"h2c"), (b"http2-settings", b"AAMAAABkAAQ"))),
    passed_h2(36, "te: trailers", one(b"te", b"trailers"), saw_h2()),
    passed_h2(36, "a tab and high bytes in a value", one(b"x", b"a\tb\xc3\xa4"), saw_h2(b"x: a\tb\xc3\xa4")),
    passed_h2(39, "crumbs of a cookie", stream((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2; c=3")),
              saw_h2(b"x: y", b"cookie: a=1; b=2; c=3")),
    *(
        passed_h2(22, name.decode(), one(name, b"6.6.6.6"), saw_h2())
        for name in (
            b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port",
            b"x_forwarded_for", b"x-forwarded_proto", b"x-real-ip", b"x_real_ip", b"forwarded",
        )
    ),
    *(
        passed_h2(22, f"{name.decode()} (identity)", one(name, value), saw_h2())
        for name, _, value in (line.lower().partition(b": ") for line in IDENTITY)
    ),
    *(passed_h2(41, name.decode(), one(name.lower(), b"6"), saw_h2()) for name in TWINS),
    passed_h2(41, "content_length beside a length",
              stream((b"content_length", b"50"), (b"content-length", b"5"), start=POST, data=(b"hello",)),
              saw_h2(b"content-length: 5", start=POSTED, body=b"hello")),
    passed_h2(49, "via passes as it came, and none is added", one(b"via", b"1.0 x"), saw_h2(b"via: 1.0 x")),
    passed_h2(21, "proxy-authorization", one(b"proxy-authorization", b"x"), saw_h2()),
    passed_h2(21, "proxy (httpoxy)", one(b"proxy", b"evil"), saw_h2()),
    passed_h2(25, "expect", stream((b"expect", b"100-continue"), (b"content-length", b"5"), start=POST,
                                   data=(b"hello",)),
              saw_h2(b"expect: 100-continue", b"content-length: 5", start=POSTED, body=b"hello")),
    refused_h2(25, "an expectation nobody knows", one(b"expect", b"tea"), 417),
    refused_h2(18, "200 fields", stream(*[(b"x", b"a")] * 200), 431),
    refused_h2(18, "a field of 70 KiB", one(b"x", b"a" * 70000), 431),
    refused_h2(18, "a path of 17 KiB", path(b"/" + b"a" * 17000), 414),
]  # fmt: skip

TARGETS = [
    *(
        refused_h2(37, f":path {text!r}", path(text), how)
        for text, how in (
            (b"/ HTTP/1.1\r\nHost: evil\r\n\r\n", "PROTOCOL_ERROR"), (b"/\r\nx", "PROTOCOL_ERROR"),
            (b"/\0", "PROTOCOL_ERROR"), (b"/\x7f", "PROTOCOL_ERROR"), (b"", "PROTOCOL_ERROR"),
            (b"/a b", 400), (b"/ HTTP/1.1", 400), (b"/\xc3\xa4", 400),
        )
    ),
    refused_h2(14, "a path without its slash", path(b"x"), 400),
    refused_h2(14, "an absolute path", path(b"http://evil/"), 400),
    refused_h2(14, "an asterisk without OPTIONS", path(b"*"), 400),
    refused_h2(14, "a fragment", path(b"/a#b"), 400),
    passed_h2(14, "OPTIONS *", path(b"*", b"OPTIONS"), saw_h2(start=b"OPTIONS * HTTP/1.1"),
              defence="RFC 9113 8.3.1: an asterisk is the :path of OPTIONS for the whole server"),
    *(
        refused_h2(37, f":method {method!r}", stream(start=pseudo(method)))
        for method in (b"G T", b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET", b"", b"G\0T", b"G(T", b"GET\r\n")
    ),
    refused_h2(37, "a whole request in :path", path(REQUEST)),
    *(
        refused_h2(12, f":authority {host!r}", stream(start=pseudo(authority=host)), how)
        for host, how in (
            (b"u@h", 400), (b"h/x", 400), (b"h x", 400), (b"h:8o", 400), (b"[::1", 400), (b"a,b", 400),
            (b"[::::]", 400), (b"h\r\nx: y", "PROTOCOL_ERROR"), (b"h\0", "PROTOCOL_ERROR"), (b"", 400),
        )
    ),
    *(
        refused_h2(47, f":authority {host.decode()}", stream(start=pseudo(authority=host)), 400)
        for host in (b"h:0", b"h:65536", b"h:99999", b"[::1]:99999")
    ),
    refused_h2(47, "host h:99999", stream((b"host", b"h:99999"), start=pseudo(authority=None)), 400),
    passed_h2(47, ":authority h:65535", stream(start=pseudo(authority=b"h:65535")), saw_h2(host=b"h:65535")),
    refused_h2(12, "no :authority and no host", stream(start=pseudo(authority=None)), 400),
    passed_h2(12, ":authority with a port", stream(start=pseudo(authority=b"h:8443")), saw_h2(host=b"h:8443")),
    passed_h2(37, "host alone", stream((b"host", b"h"), start=pseudo(authority=None)), saw_h2()),
    passed_h2(37, "host as :authority", one(b"host", b"h"), saw_h2(),
              defence="RFC 9113 8.3.1: only a Host that differs makes a request malformed"),
    refused_h2(37, "host unlike :authority", one(b"host", b"evil"), 400),
    refused_h2(37, "two hosts", stream((b"host", b"h"), (b"host", b"evil"), start=pseudo(authority=None)), 400),
    refused_h2(37, "a pseudo-field twice", stream((b":path", b"/evil"))),
    refused_h2(37, "a pseudo-field behind a field", stream((b"x", b"y"), (b":path", b"/"), start=pseudo(path=None))),
    refused_h2(37, "an unknown pseudo-field", one(b":evil", b"x")),
    refused_h2(37, ":status in a request", one(b":status", b"200")),
    refused_h2(37, "no :method", stream(start=pseudo()[1:])),
    refused_h2(37, "no :scheme", stream(start=pseudo(scheme=None))),
    refused_h2(37, "no :path", stream(start=pseudo(path=None))),
    refused_h2(37, "a :scheme with a request in it", stream(start=pseudo(scheme=b"https://h/ HTTP/1.1\r\nx: ")), "PROTOCOL_ERROR"),
    refused_h2(37, "a :scheme nobody serves", stream(start=pseudo(scheme=b"gopher")), 400),
    refused_h2(37, "a :scheme of several words", stream(start=pseudo(scheme=b"https://evil/x?")), 400),
    refused_h2(37, "a pseudo-field in the trailers",
               stream(start=POST, data=(b"hello",), trailers=((b":path", b"/evil"),))),
    refused_h2(20, "TRACE", stream(start=pseudo(b"TRACE")), 405),
    refused_h2(20, "OPTIONS, with Max-Forwards 0",
               stream((b"max-forwards", b"0"), start=pseudo(b"OPTIONS")), 200),
    passed_h2(20, "OPTIONS, with Max-Forwards 5",
              stream((b"max-forwards", b"5"), start=pseudo(b"OPTIONS")),
              saw_h2(start=b"OPTIONS / HTTP/1.1", last=(b"Max-Forwards: 4",))),
    refused_h2(15, "CONNECT", stream(start=pseudo(b"CONNECT", None, b"h:443", None)), 501),
    refused_h2(15, "CONNECT with a path", stream(start=pseudo(b"CONNECT"))),
    refused_h2(40, ":protocol without CONNECT", stream(start=(*pseudo(), (b":protocol", b"websocket")))),
    refused_h2(40, "a :protocol nobody knows",
               stream(start=(*pseudo(b"CONNECT"), (b":protocol", b"connect-udp"))), 501),
    *(
        refused_h2(40, f"a WebSocket with {name.decode()}: {value.decode()}, {len(data[0])} bytes",
                   stream((name, value), start=SOCKET, data=data))
        for name, value, data in (
            (b"content-length", b"5", (b"GET /",)), (b"content-length", b"5", (EVIL,)),
            (b"content-length", b"0", (EVIL,)), (b"transfer-encoding", b"chunked", (END + EVIL,)),
        )
    ),
    *(
        passed_h2(23, f":path {text!r}", path(text), saw_h2(start=b"GET " + text + b" HTTP/1.1"),
                  defence=PATH)
        for text in (b"//x//y", b"/../a", b"/a/../../b", b"/%2e%2e/", b"/%00", b"/a?b?c", b"/\\..\\", b"/%0d%0aX:y")
    ),
    passed_h2(26, "a trailer that no route lists is dropped",
              stream(start=POST, data=(b"hello",), trailers=((b"x-sum", b"1"),)),
              saw_h2(start=POSTED, last=(CHUNKED,), body=b"5\r\nhello\r\n" + END),
              defence=TRAILERS),
    passed_h2(26, "trailers that identify are dropped",
              stream(start=POST, data=(b"hello",), trailers=(
                  (b"ssl-client-verify", b"SUCCESS"), (b"proxy", b"evil"), (b"x_real_ip", b"6.6.6.6"))),
              saw_h2(start=POSTED, last=(CHUNKED,), body=b"5\r\nhello\r\n" + END),
              defence=TRAILERS),
    passed_h2(26, "trailers that frame or route are dropped",
              stream(start=POST, data=(b"hello",), trailers=(
                  (b"content-length", b"9"), (b"host", b"evil"), (b"x-forwarded-for", b"6"),
                  (b"authorization", b"x"), (b"cookie", b"x"), (b"x-sum", b"1"))),
              saw_h2(start=POSTED, last=(CHUNKED,), body=b"5\r\nhello\r\n" + END),
              defence=TRAILERS),
    refused_h2(26, "a line end in a trailer",
               stream(start=POST, data=(b"hello",), trailers=((b"x", b"a\r\n\r\n" + EVIL),))),
    refused_h2(26, "transfer-encoding in a trailer",
               stream(start=POST, data=(b"hello",), trailers=((b"transfer-encoding", b"chunked"),))),
]  # fmt: skip

CASES: list[Case] = [*LENGTHS, *FIELDS, *TARGETS]
