"""The corpus of HTTP/1.1: raw bytes, and whether they are refused or what the upstream sees.

Rule numbers are those of `rules.py`. Every case runs over both parsing lanes.
"""

from .cases import (
    CHUNKED,
    END,
    EVIL,
    FIVE,
    GET,
    UPSTREAM,
    Case,
    answered,
    chunks,
    get,
    passed,
    refused,
    req,
    saw,
    seen,
    seen_chunks,
)

# Why some of what another refuses is forwarded.
BLANKS = "RFC 9110 5.5: blanks around a value are no part of it; the line is sent on without them"
EQUAL = "RFC 9112 6.3: equal lengths may be taken for one, and one is what is sent on"
EMPTY = "RFC 9112 2.2: an empty line before a request line should be ignored; none is sent on"
TRAILERS = "RFC 9110 6.5.1 and RFC 9112 7.1.2: such trailers are dropped, so nobody can merge them"
PATH = (
    "RFC 9110 7.7: a path is forwarded as it came; it is no file of ours, so the upstream judges it"
)

# Who a client is by its certificate, as those say it who speak TLS in front of applications.
IDENTITY = (
    b"SSL-Client-Verify: SUCCESS", b"ssl-client-cert: x", b"X-SSL-Client-S-DN: CN=root",
    b"X-SSL-Cert: x", b"TLS-Client-Subject: x", b"Client-Cert: :x:", b"CLIENT-CERT-CHAIN: :x:",
    b"X-Client-Cert: x", b"X-Client-Cert-DN: x", b"X-ARR-ClientCert: x", b"X-Forwarded-Client-Cert: x",
    b"X-Forwarded-TLS-Client-Cert: x", b"X-Amzn-Mtls-Clientcert: x",
)  # fmt: skip
# Names that are others to whoever takes `_` for `-`, and one that means nothing.
TWINS = (
    b"Transfer_Encoding", b"Content_Length", b"X_Forwarded_For", b"x-forwarded_proto", b"SSL_Client_Verify",
    b"SSL-Client_Verify", b"X_Request_ID", b"Client_Cert", b"Proxy_Authorization", b"X_Anything", b"_", b"a_",
)  # fmt: skip
ASKING = b"OPTIONS / HTTP/1.1"
PLAIN = (
    "RFC 9110 7.8: an upgrade may be ignored; the body would have to be read to its end first, and no"
    " browser sends one, so the upstream sees a plain GET whose body is framed"
)


def socket(*lines: bytes, body: bytes = b"") -> bytes:
    """A WebSocket's request."""
    return req(b"Connection: Upgrade", b"Upgrade: websocket", *lines, start=GET, body=body)


LENGTHS = [
    refused(1, "CL then TE", req(FIVE, CHUNKED, body=END)),
    refused(1, "TE then CL", req(CHUNKED, FIVE, body=END)),
    refused(1, "CL 0 with TE", req(b"Content-Length: 0", CHUNKED, body=END + EVIL)),
    refused(1, "CL with TE in other case", req(FIVE, b"transfer-ENCODING: chunked", body=END)),
    *(
        refused(1, f"CL with TE {value!r}", req(FIVE, b"Transfer-Encoding: " + value, body=b"hello"))
        for value in (b"x", b"identity", b"gzip, chunked", b"chunked, gzip", b"chunked,", b"")
    ),
    refused(1, "CL with two TEs", req(b"Transfer-Encoding: a", FIVE, b"Transfer-Encoding: b", body=END)),
    refused(1, "two CLs with TE", req(FIVE, FIVE, CHUNKED, body=END)),
    refused(2, "TE in 1.0", req(CHUNKED, start=b"POST / HTTP/1.0", body=END)),
    refused(2, "TE in 1.0, kept alive",
            req(CHUNKED, b"Connection: keep-alive", start=b"POST / HTTP/1.0", body=END)),
    *(
        refused(3, f"TE {value!r}", req(b"Transfer-Encoding: " + value, body=END + EVIL), status)
        for value, status in (
            (b"xchunked", 501), (b"identity", 501), (b"chunked,", 501), (b",chunked", 501),
            (b"chunked, chunked", 501), (b"gzip, chunked", 501), (b"chunked, identity", 400),
            (b"chunked, gzip", 400), (b"chunked,,gzip", 400), (b"Chunked , x", 400),
            (b"chunked;q=1", 501), (b'"chunked"', 501), (b"cow", 501), (b"", 501), (b"gzip", 501),
            (b"\x0bchunked", 400), (b"chunked\x0c", 400), (b"chunked\0", 400), (b"\x1fchunked", 400),
            (b"chunked\xa0", 501), (b"\xffchunked", 501), (b"chunked\r", 400),
        )
    ),
    refused(3, "TE twice", req(CHUNKED, CHUNKED, body=END), 501),
    refused(3, "TE chunked, then identity", req(CHUNKED, b"Transfer-Encoding: identity", body=END)),
    refused(3, "TE identity, then chunked", req(b"Transfer-Encoding: identity", CHUNKED, body=END), 501),
    passed(3, "Transfer_Encoding is not Transfer-Encoding",
           req(FIVE, b"Transfer_Encoding: chunked", body=b"hello"), seen(FIVE, body=b"hello")),
    passed(3, "TE Chunked", req(b"Transfer-Encoding: Chunked", body=END), seen_chunks(END)),
    passed(3, "TE with a tab", req(b"Transfer-Encoding:\tchunked", body=END), seen_chunks(END),
           defence=BLANKS),
    passed(3, "TE with blanks behind", req(CHUNKED + b" \t", body=END), seen_chunks(END),
           defence=BLANKS),
    *(
        refused(4, f"CL {value!r}", req(b"Content-Length: " + value, body=b"hello" + EVIL))
        for value in (
            b"+5", b"-5", b"0x5", b"5_0", b"", b"5 5", b"5,", b",5", b"5;", b"5.0", b"5e0", b"five",
            b"5\0", b"5\x0b", b"\xb2", b"5, 6", b"5, +5", b"9" * 19, b"18446744073709551621", b"5\r",
        )
    ),
    refused(4, "CL twice, different", req(FIVE, b"Content-Length: 6", body=b"hello!")),
    refused(4, "CL twice, other case", req(b"Content-Length: 0", b"content-length: 5", body=b"hello")),
    refused(4, "CL five and zero-five", req(FIVE, b"Content-Length: 05", body=b"hello")),
    passed(4, "CL twice, equal", req(FIVE, FIVE, body=b"hello"), seen(FIVE, body=b"hello"),
           defence=EQUAL),
    passed(4, "CL in a list, equal", req(b"Content-Length: 5, 5", body=b"hello"), seen(FIVE, body=b"hello"),
           defence=EQUAL),
    passed(4, "CL with zeros in front", req(b"Content-Length: 0005", body=b"hello"),
           seen(b"Content-Length: 0005", body=b"hello"),
           defence="RFC 9110 8.6: Content-Length is 1*DIGIT, zeros in front included"),
    passed(4, "CL with blanks", req(b"Content-Length: \t 5 ", body=b"hello"), seen(FIVE, body=b"hello"),
           defence=BLANKS),
]  # fmt: skip

CHUNK_SIZES = [
    *(
        refused(5, f"chunk size {size!r}", chunks(size + b"\r\nhello\r\n" + END + EVIL))
        for size in (
            b"0x5", b"5_", b"+5", b"-5", b" 5", b"\t5", b"5 ", b"5\t", b"", b"g", b"5h", b"\0005",
            b"5\0", b"\xb2", b"ffffffffffffffff5", b"10000000000000005", b"5,", b"5\x0b", b"5=",
        )
    ),
    passed(5, "chunk sizes with zeros and capitals",
           chunks(b"0005\r\nhello\r\n00A\r\n0123456789\r\n" + END),
           seen_chunks(b"f\r\nhello0123456789\r\n" + END)),
    refused(6, "bare CR in an extension", chunks(b"5;a\rb\r\nhello\r\n" + END)),
    refused(6, "bare LF in an extension", chunks(b"5;a\nhello\r\n" + END)),
    refused(6, "NUL in an extension", chunks(b"5;a\0\r\nhello\r\n" + END)),
    refused(6, "CR CR LF", chunks(b"5;\r\r\nhello\r\n" + END)),
    refused(6, "an extension of 5000 bytes", chunks(b"5;" + b"a" * 5000 + b"\r\nhello\r\n" + END)),
    refused(6, "extensions of 80000 bytes", chunks((b"1;" + b"a" * 4000 + b"\r\nx\r\n") * 20 + END)),
    passed(6, "an extension is dropped", chunks(b'5;a="b c";d\r\nhello\r\n' + END),
           seen_chunks(b"5\r\nhello\r\n" + END)),
    passed(6, "an extension of the last chunk", chunks(b"5\r\nhello\r\n0;a=b\r\n\r\n"),
           seen_chunks(b"5\r\nhello\r\n" + END)),
    refused(7, "no CRLF behind the data", chunks(b"5\r\nhello0\r\n\r\n")),
    refused(7, "LF behind the data", chunks(b"5\r\nhello\n" + END)),
    refused(7, "CR behind the data", chunks(b"5\r\nhello\r" + END)),
    *(
        refused(7, f"{end!r} behind the data", chunks(b"5\r\nhello" + end + END + EVIL))
        for end in (b"xx", b"\n\n", b"\r\r", b"\n\r", b"0;", b"\r\0")
    ),
    refused(7, "two bytes too many", chunks(b"5\r\nhelloxx\r\n" + END)),
    refused(7, "LF behind the size", chunks(b"5\nhello\r\n" + END)),
    refused(7, "LF behind the last chunk", chunks(b"5\r\nhello\r\n0\n\n")),
    refused(7, "LF behind a trailer", chunks(b"0\r\nX: y\n\r\n")),
    refused(7, "bare CR in a trailer", chunks(b"0\r\nX: a\rb\r\n\r\n")),
    refused(7, "NUL in a trailer", chunks(b"0\r\nX: a\0b\r\n\r\n")),
    refused(7, "a trailer without a colon", chunks(b"0\r\nGET / HTTP/1.1\r\n\r\n")),
    refused(7, "a blank before a trailer's colon", chunks(b"0\r\nX : y\r\n\r\n")),
    refused(7, "a folded trailer", chunks(b"0\r\nX: y\r\n z\r\n\r\n")),
    refused(7, "trailers of 17 KiB", chunks(b"0\r\nX: " + b"y" * 17000 + b"\r\n\r\n")),
]  # fmt: skip

SYNTAX = [
    refused(8, "LF behind the request line", b"GET / HTTP/1.1\nHost: h\r\n\r\n"),
    refused(8, "LF behind a field", b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"),
    refused(8, "LF alone everywhere", b"GET / HTTP/1.1\nHost: h\n\n"),
    refused(8, "LF within a value", get(b"X: a\nContent-Length: 5")),
    refused(8, "an LF that hides TE", req(b"X: a\nTransfer-Encoding: chunked", FIVE, body=b"hello")),
    *(
        refused(9, f"{char!r} in a value", get(b"X: a" + char + b"b"))
        for char in (b"\0", b"\r", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x1f", b"\x7f")
    ),
    *(
        refused(9, f"{char!r} in a name", get(b"X" + char + b"Y: a"))
        for char in (b"\0", b"\x01", b"\x7f", b"\x80", b"(", b'"', b"@", b"/", b"[", b"\xc3\xa4")
    ),
    refused(9, "a NUL at the end", get(b"X: a\0")),
    refused(9, "a CR at the end", get(b"X: a\r")),
    refused(9, "an empty name", get(b": a")),
    passed(9, "a tab and high bytes in a value", get(b"X: a\tb\xc3\xa4"), saw(b"X: a\tb\xc3\xa4")),
    refused(10, "blank before the colon", get(b"X : a")),
    refused(10, "tab before the colon", get(b"X\t: a")),
    refused(10, "blank before CL's colon", req(b"Content-Length : 5", body=b"hello")),
    refused(10, "blank before TE's colon", req(FIVE, b"Transfer-Encoding : chunked", body=END)),
    refused(10, "blank before the first field", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n"),
    refused(10, "a line of blanks", b"GET / HTTP/1.1\r\nHost: h\r\n \r\n\r\n"),
    refused(10, "no colon", get(b"nonsense")),
    refused(11, "a folded field", get(b"X: a", b" b")),
    refused(11, "folded by a tab", get(b"X: a", b"\tb")),
    refused(11, "a folded TE", req(b"Transfer-Encoding:", b" chunked", body=END)),
    refused(11, "a folded CL", req(b"Content-Length:", b" 5", body=b"hello")),
    refused(11, "a folded Host", get(b"Host: h", b" x", host=None)),
]  # fmt: skip

TARGETS = [
    refused(12, "no Host", get(host=None)),
    refused(12, "two Hosts", get(b"Host: h")),
    refused(12, "two Hosts that differ", get(b"HOST: evil")),
    *(
        refused(12, f"Host {host!r}", get(host=host))
        for host in (
            b"", b"h/x", b"u@h", b"h:8o", b"a, b", b"a b", b"[::1", b"::1", b"h:1:2", b"h?x", b"h#x",
            b"h\\x", b"<h>", b'"h"', b"h:999999", b"\xc3\xa4", b"http://h", b"h%", b"h%zz", b"h%4",
            b"[]", b"[h]", b"[::::]", b"[1.2.3.4]", b"[::1]x", b"[::1]:x", b"[12345::]", b"[:1]",
            b"[1:2:3:4:5:6:7]", b"[1:2:3:4:5:6:7:8:9]", b"[::1.2.3]", b"[::1.2.3.400]", b"[::1%lo]",
            b"a[::1]", b":80", b"h:-1", b"h: 80", b"h,", b"h\tx",
        )
    ),
    passed(12, "Host with a port", get(host=b"h:8443"), saw(host=b"h:8443")),
    passed(12, "Host is IPv6", get(host=b"[::1]:8443"), saw(host=b"[::1]:8443")),
    *(
        passed(12, f"Host {host!r}", get(host=host), saw(host=host))
        for host in (
            b"h:", b"H.EXAMPLE.", b"127.0.0.1:80", b"a_b", b"h%41", b"[::]", b"[1:2:3:4:5:6:7:8]",
            b"[1::8]", b"[::ffff:127.0.0.1]:80", b"[fe80::1:2]", b"[2001:db8::]",
            b"[1:2:3:4:5:6:127.0.0.1]", b"[1:2:3:4:5:6:7::]", b"[::2:3:4:5:6:7:8]",
        )
    ),
    passed(12, "no Host in 1.0", get(start=b"GET / HTTP/1.0", host=None),
           saw(host=UPSTREAM)),
    passed(13, "absolute form replaces Host", get(start=b"GET http://real/x HTTP/1.1", host=b"fake"),
           saw(start=b"GET /x HTTP/1.1", host=b"real"),
           defence="RFC 9112 3.2.2: the Host received is ignored and replaced by the target's, so that"
           " the upstream sees one authority"),
    passed(13, "absolute form without a path", get(start=b"GET http://h HTTP/1.1"), saw()),
    passed(13, "absolute form, query alone", get(start=b"GET http://h?a=b HTTP/1.1"),
           saw(start=b"GET /?a=b HTTP/1.1"),
           defence="RFC 9110 4.2.3: an empty path is the same as a slash, and the slash is sent on"),
    passed(13, "absolute form of OPTIONS", get(start=b"OPTIONS http://h HTTP/1.1"),
           saw(start=b"OPTIONS * HTTP/1.1"),
           defence="RFC 9112 3.2.4 says how it is sent on"),
    refused(13, "absolute form without Host", get(start=b"GET http://h/ HTTP/1.1", host=None)),
    passed(13, "absolute form with a port", get(start=b"GET HTTP://Real:81/x HTTP/1.1", host=b"Real:81"),
           saw(start=b"GET /x HTTP/1.1", host=b"Real:81")),
    passed(13, "absolute form, IPv6", get(start=b"GET http://[::1]:81/x HTTP/1.1", host=b"[::1]:81"),
           saw(start=b"GET /x HTTP/1.1", host=b"[::1]:81")),
    refused(13, "absolute form and two Hosts", get(b"Host: h", start=b"GET http://h/ HTTP/1.1")),
    refused(13, "absolute form and a bad Host", get(start=b"GET http://h/ HTTP/1.1", host=b"u@h")),
    refused(13, "one slash", get(start=b"GET http:/h/ HTTP/1.1")),
    refused(13, "a backslash in the authority", get(start=b"GET http://h\\@evil/ HTTP/1.1")),
    refused(13, "two ports", get(start=b"GET http://h:80:81/ HTTP/1.1")),
    refused(13, "a fragment", get(start=b"GET http://h/#x HTTP/1.1")),
    refused(13, "userinfo", get(start=b"GET http://u@h/ HTTP/1.1")),
    refused(13, "no authority", get(start=b"GET http:///x HTTP/1.1")),
    refused(13, "a scheme nobody serves", get(start=b"GET ftp://h/ HTTP/1.1")),
    refused(13, "a scheme alone", get(start=b"GET http: HTTP/1.1")),
    refused(14, "no slash", get(start=b"GET index HTTP/1.1")),
    refused(14, "an asterisk without OPTIONS", get(start=b"GET * HTTP/1.1")),
    refused(14, "a fragment", get(start=b"GET /a#b HTTP/1.1")),
    refused(14, "not ASCII", get(start=b"GET /\xc3\xa4 HTTP/1.1")),
    refused(14, "a blank", get(start=b"GET /a b HTTP/1.1")),
    refused(14, "a tab", get(start=b"GET /a\tb HTTP/1.1")),
    refused(14, "a NUL", get(start=b"GET /a\0b HTTP/1.1")),
    refused(14, "a control character", get(start=b"GET /a\x01 HTTP/1.1")),
    refused(14, "two blanks before the version", get(start=b"GET /  HTTP/1.1")),
    refused(14, "two blanks before the target", get(start=b"GET  / HTTP/1.1")),
    refused(14, "a tab before the target", get(start=b"GET\t/ HTTP/1.1")),
    refused(14, "a method that is no token", get(start=b"G(T / HTTP/1.1")),
    refused(14, "no method", get(start=b" / HTTP/1.1")),
    passed(14, "OPTIONS *", get(start=b"OPTIONS * HTTP/1.1"), saw(start=b"OPTIONS * HTTP/1.1"),
           defence="RFC 9112 3.2.4: asterisk-form"),
    passed(14, "a method nobody knows", get(start=b"BREW / HTTP/1.1"), saw(start=b"BREW / HTTP/1.1")),
    refused(15, "CONNECT", get(start=b"CONNECT h:443 HTTP/1.1"), 501),
    refused(15, "CONNECT to a path", get(start=b"CONNECT / HTTP/1.1"), 501),
    refused(16, "an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused(16, "0.9 in words", get(start=b"GET / HTTP/0.9"), 505),
    refused(16, "0.9", b"GET /\r\n\r\n"),
    refused(16, "1.2", get(start=b"GET / HTTP/1.2"), 505),
    refused(16, "2", get(start=b"GET / HTTP/2"), 505),
    refused(16, "1.10", get(start=b"GET / HTTP/1.10")),
    *(
        refused(16, version, get(start=b"GET / HTTP/" + version.encode()))
        for version in ("1", "01.1", "01.01", "1.01", "1.1.1", "1.", ".1", "1.1.", "1,1", "+1.1")
    ),
    refused(16, "lower case", get(start=b"GET / http/1.1")),
    refused(16, "another protocol", get(start=b"GET / ICAP/1.0")),
    refused(16, "a blank behind it", get(start=b"GET / HTTP/1.1 ")),
    passed(17, "an empty line first", b"\r\n" + get(), saw(), defence=EMPTY),
    passed(17, "two empty lines first", b"\r\n\r\n" + get(), saw(), defence=EMPTY),
    refused(17, "five empty lines first", b"\r\n" * 5 + get()),
    refused(17, "a bare LF first", b"\n" + get()),
    refused(17, "a bare CR first", b"\r" + get()),
    refused(17, "CR CR LF first", b"\r\r\n" + get()),
    refused(17, "CRLF LF first", b"\r\n\n" + get()),
    refused(17, "a blank first", b" " + get()),
    refused(17, "a NUL first", b"\0" + get()),
    passed(17, "empty lines between two requests",
           get() + b"\r\n" + get(start=b"GET /next HTTP/1.1"), saw(), saw(start=b"GET /next HTTP/1.1")),
    refused(18, "a request line of 17 KiB", get(start=b"GET /" + b"a" * 17000 + b" HTTP/1.1"), 414),
    refused(18, "a field of 70 KiB", get(b"X: " + b"a" * 70000), 431),
    refused(18, "a head of 70 KiB", get(*[b"X: " + b"a" * 7000] * 10), 431),
    refused(18, "200 fields", get(*[b"X: a"] * 200), 431),
    passed(18, "100 fields", get(*[b"X: a"] * 100), saw(*[b"X: a"] * 100),
           defence="RFC 9110 5.4: how many are too many is everybody's own limit; ours is 128"),
]  # fmt: skip

BODIES = [
    passed(20, "GET with a length", req(FIVE, start=GET, body=b"hello"), saw(FIVE, body=b"hello")),
    passed(20, "GET in chunks", req(CHUNKED, start=GET, body=b"5\r\nhello\r\n" + END),
           saw(last=(CHUNKED,), body=b"5\r\nhello\r\n" + END)),
    passed(20, "HEAD with a length", req(FIVE, start=b"HEAD / HTTP/1.1", body=b"hello"),
           saw(FIVE, start=b"HEAD / HTTP/1.1", body=b"hello")),
    passed(20, "a body that looks like a request (CL.0)",
           req(b"Content-Length: %d" % len(EVIL), body=EVIL),
           seen(b"Content-Length: %d" % len(EVIL), body=EVIL)),
    passed(20, "a chunk that looks like a request",
           chunks(b"%x\r\n%b\r\n" % (len(EVIL), EVIL) + END),
           seen_chunks(b"%x\r\n%b\r\n" % (len(EVIL), EVIL) + END)),
    passed(20, "length 0, then another request (0.CL)",
           req(b"Content-Length: 0") + EVIL.replace(b"evil", b"next"),
           seen(b"Content-Length: 0"), saw(start=b"GET /next HTTP/1.1")),
    *(
        passed(20, f"{method.decode()} with a length",
               req(FIVE, start=method + b" / HTTP/1.1", body=b"hello"),
               seen(FIVE, start=method + b" / HTTP/1.1", body=b"hello"), defence=defence)
        for method, defence in (
            (b"DELETE", ""), (b"OPTIONS", ""), (b"BREW", ""),
        )
    ),
    answered(20, "TRACE", get(start=b"TRACE / HTTP/1.1"), 405),
    answered(20, "TRACE, with Max-Forwards 0", get(b"Max-Forwards: 0", start=b"TRACE / HTTP/1.1"), 405),
    answered(20, "TRACE with a length", req(FIVE, start=b"TRACE / HTTP/1.1", body=b"hello"), 405),
    answered(20, "OPTIONS, with Max-Forwards 0", get(b"Max-Forwards: 0", start=ASKING), 200),
    answered(20, "OPTIONS with a length and Max-Forwards 0",
             req(FIVE, b"Max-Forwards: 0", start=ASKING, body=b"hello"), 200),
    answered(20, "OPTIONS, with two Max-Forwards", get(*[b"Max-Forwards: 5"] * 2, start=ASKING), 400),
    answered(20, "OPTIONS, with Max-Forwards x", get(b"Max-Forwards: x", start=ASKING), 400),
    passed(20, "OPTIONS, with Max-Forwards 5", get(b"Max-Forwards: 5", b"X: y", start=ASKING),
           saw(b"X: y", start=ASKING, last=(b"Max-Forwards: 4",))),
    passed(20, "GET, with Max-Forwards 0", get(b"Max-Forwards: 0"), saw(b"Max-Forwards: 0")),
    passed(20, "nothing behind Connection: close", get(b"Connection: close") + EVIL, saw()),
    passed(20, "nothing behind HTTP/1.0", get(start=b"GET / HTTP/1.0") + EVIL, saw()),
    passed(20, "GET, then another request", get() + get(start=b"GET /next HTTP/1.1"),
           saw(), saw(start=b"GET /next HTTP/1.1")),
    passed(20, "chunks, then another request", chunks(END) + get(start=b"GET /next HTTP/1.1"),
           seen_chunks(END), saw(start=b"GET /next HTTP/1.1")),
    refused(20, "a length that is never met", req(b"Content-Length: 50", body=b"hello"), eof=True),
    passed(26, "a trailer that no route lists is dropped", chunks(b"0\r\nX-Sum: 1\r\n\r\n"),
           seen_chunks(END)),
    passed(26, "trailers that frame or route are dropped",
           chunks(b"0\r\nContent-Length: 5\r\nHost: evil\r\n"
                  b"X-Forwarded-For: 6.6.6.6\r\nAuthorization: x\r\nX-Sum: 1\r\n\r\n"),
           seen_chunks(END), defence=TRAILERS),
    passed(26, "trailers that identify are dropped",
           chunks(b"0\r\nSSL-Client-Verify: SUCCESS\r\nProxy: evil\r\nX_Real_IP: 6.6.6.6\r\n\r\n"),
           seen_chunks(END)),
    refused(26, "a trailer that is a Transfer-Encoding",
            chunks(b"0\r\nTransfer-Encoding: x\r\n\r\n")),
    passed(27, "chunks are framed anew", chunks(b"1\r\na\r\n1;x=y\r\nb\r\n" + END),
           seen_chunks(b"1\r\na\r\n1\r\nb\r\n" + END)),
]  # fmt: skip

FORWARDING = [
    *(
        passed(21, f"Connection: {name}", get(b"Connection: " + name), saw())
        for name in (b"X-Forwarded-Proto", b"X-Forwarded-For", b"x-forwarded-host", b"Via", b"Host")
    ),
    passed(21, "Connection names a field", get(b"X-A: 1", b"Connection: x-a", b"X-B: 2"),
           saw(b"X-B: 2")),
    passed(21, "Connection cannot unframe", req(b"Connection: Content-Length", FIVE, body=b"hello"),
           seen(FIVE, body=b"hello")),
    passed(21, "Connection cannot unframe chunks", chunks(END, b"Connection: Transfer-Encoding"),
           seen_chunks(END)),
    passed(21, "hop-by-hop fields",
           get(b"Keep-Alive: 5", b"Proxy-Connection: x", b"Proxy-Authorization: x", b"TE: trailers",
               b"Upgrade: foo", b"X: y"),
           saw(b"X: y")),
    passed(21, "Proxy-*", get(b"Proxy-Authenticate: x", b"Proxy-Foo: x"), saw()),
    passed(21, "Proxy (httpoxy, CVE-2016-5385)", get(b"Proxy: evil", b"X: y"), saw(b"X: y")),
    passed(21, "a name that begins like one of those", get(b"Proxying: 1", b"Hosts: 2", b"Tea: 3"),
           saw(b"Proxying: 1", b"Hosts: 2", b"Tea: 3")),
    passed(21, "Connection names a field twice", get(b"Connection: x-a, x-a", b"X-A: 1", b"X-A: 2"), saw()),
    passed(21, "two Connections", get(b"Connection: x-a", b"X-A: 1", b"Connection: x-b", b"X-B: 2"), saw()),
    *(
        passed(22, line.partition(b":")[0].decode(), get(line), saw())
        for line in (
            b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: gopher", b"X-Forwarded-Host: evil",
            b"X-Forwarded-Port: 1", b"X_Forwarded_For: 6.6.6.6", b"X-Forwarded_Proto: gopher",
            b"X_Forwarded-Host: evil", b"X-Real-IP: 6.6.6.6", b"X_Real_IP: 6.6.6.6",
            b"Forwarded: for=6.6.6.6", b"x-forwarded-FOR: 6.6.6.6",
        )
    ),
    *(
        passed(22, f"{line.partition(b':')[0].decode()} (identity)", get(line, b"X: y"), saw(b"X: y"))
        for line in IDENTITY
    ),
    passed(22, "names that begin like those",
           get(b"SSL-Client: 1", b"Sslx: 2", b"Client-Certs: 3", b"X-Client: 4", b"Auth: 5"),
           saw(b"SSL-Client: 1", b"Sslx: 2", b"Client-Certs: 3", b"X-Client: 4", b"Auth: 5")),
    *(
        passed(41, name.decode(), get(name + b": 6", b"X: y"), saw(b"X: y"))
        for name in TWINS
    ),
    passed(41, "Content_Length beside a length", req(b"Content_Length: 50", FIVE, body=b"hello"),
           seen(FIVE, body=b"hello")),
    passed(41, "Content_Length beside chunks", req(b"Content_Length: 5", CHUNKED, body=END),
           seen_chunks(END)),
    passed(49, "Via passes as it came, and none is added", get(b"Via: 1.0 x"), saw(b"Via: 1.0 x")),
    *(
        passed(23, f"target {target!r}", get(start=b"GET " + target + b" HTTP/1.1"),
               saw(start=b"GET " + target + b" HTTP/1.1"),
               defence=PATH)
        for target in (
            b"//x//y", b"/../a", b"/a/../../b", b"/./a", b"/a%2fb", b"/%2e%2e/", b"/%00", b"/a?b?c&d=",
            b"/a;b=c", b"/\\..\\", b"/a|{}^`\"<>", b"/%zz", b"/?", b"/a%0d%0aX:y",
        )
    ),
    passed(23, "repeated fields keep their order", get(b"A: 1", b"B: 2", b"A: 3", b"a: 4"),
           saw(b"A: 1", b"B: 2", b"A: 3", b"a: 4")),
    passed(23, "Host keeps its letters and port", get(host=b"Auth.Example:09000"),
           saw(host=b"Auth.Example:09000")),
    passed(25, "Expect is forwarded", req(FIVE, b"Expect: 100-continue", body=b"hello"),
           seen(FIVE, b"Expect: 100-continue", body=b"hello")),
    passed(25, "Expect in 1.0",
           req(FIVE, b"Expect: 100-continue", start=b"POST / HTTP/1.0", body=b"hello"),
           seen(FIVE, body=b"hello")),
    refused(25, "Expect twice", req(FIVE, *[b"Expect: 100-continue"] * 2, body=b"hello")),
    refused(25, "an expectation nobody knows", req(FIVE, b"Expect: tea", body=b"hello"), 417),
    passed(33, "h2c is not upgraded to",
           get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"),
           saw()),
    passed(33, "an upgrade nobody lists", get(b"Connection: Upgrade", b"Upgrade: TLS/1.0"), saw()),
    passed(33, "websocket without Connection", get(b"Upgrade: websocket"), saw()),
    passed(33, "websocket by POST", req(b"Connection: Upgrade", b"Upgrade: websocket"), seen(),
           defence="RFC 9110 7.8: an upgrade may be ignored; the upstream sees a plain POST"),
    passed(33, "websocket with a body", socket(FIVE, body=b"hello"), saw(FIVE, body=b"hello"),
           defence=PLAIN),
    passed(33, "websocket with a body in chunks", socket(CHUNKED, body=b"5\r\nhello\r\n" + END),
           saw(last=(CHUNKED,), body=b"5\r\nhello\r\n" + END), defence=PLAIN),
    passed(33, "websocket with a body that looks like a request",
           socket(b"Content-Length: %d" % len(EVIL), body=EVIL),
           saw(b"Content-Length: %d" % len(EVIL), body=EVIL), defence=PLAIN),
    *(
        refused(47, f"port {port.decode()}", get(host=b"h:" + port))
        for port in (b"0", b"00000", b"65536", b"65537", b"99999", b"065536", b"131152")
    ),
    *(
        passed(47, f"port {port.decode()}", get(host=b"h:" + port), saw(host=b"h:" + port))
        for port in (b"1", b"00080", b"59999", b"60000", b"65535")
    ),
    refused(47, "port 99999 behind an IPv6 address", get(host=b"[::1]:99999")),
    refused(47, "port 99999 in the absolute form", get(start=b"GET http://h:99999/ HTTP/1.1")),
    refused(47, "port 0 in the absolute form", get(start=b"GET http://h:0/ HTTP/1.1")),
    passed(33, "websocket in 1.0",
           get(b"Connection: Upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.0"),
           saw(),
           defence="RFC 9110 7.8: Upgrade in HTTP/1.0 is ignored; the upstream sees a plain GET"),
]  # fmt: skip

CASES: list[Case] = [*LENGTHS, *CHUNK_SIZES, *SYNTAX, *TARGETS, *BODIES, *FORWARDING]
