"""The corpus of responses: raw bytes of an upstream, and what its client gets of them.

Behind every one of them the client asks again on the same connection, and must get that answer and
no byte of the case (response splitting, response queue poisoning). Every case runs over both
parsing lanes and to clients of HTTP/1.1 and HTTP/2.
"""

from .cases import CHUNKED, END, FIVE, OK, Answer, bad, good, got, res
from .requests_h1 import EQUAL

TWO = res(FIVE, body=b"other")  # a response nobody asked for
HELLO = b"5\r\nhello\r\n"
LENGTH = b"Content-Length: "
NO_CONTENT, NOT_MODIFIED = b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"
HINTS = b"HTTP/1.1 103 Early Hints"
BARE = (
    "RFC 9112 6.3: such a response ends with its head; what says otherwise is not sent on, and the"
    " connection is not used again"
)
PADDED = (
    "RFC 9112 7.1: small devices pad sizes; the response is framed anew, so nobody else sees blanks"
)
LARGE = "RFC 9110 5.4: how large is too large is everybody's own limit; ours is 256 KiB"


def same(rule: int, name: str, *lines: bytes, defence: str = "", **more) -> Answer:
    """A response that passes as it came."""
    raw = res(*lines, **more)
    return good(rule, name, raw, raw, defence=defence)


def framed(rule: int, name: str, raw: bytes, body: bytes = HELLO + END, **more) -> Answer:
    """A response of which only the body is left, in chunks of ours."""
    return good(rule, name, raw, got(last=(CHUNKED,), body=body), **more)


def chunked(body: bytes, *lines: bytes) -> bytes:
    """A chunked response."""
    return res(CHUNKED, *lines, body=body)


def broken(rule: int, name: str, body: bytes) -> Answer:
    """A chunked response whose body breaks its framing before anything of it went on."""
    return bad(rule, name, chunked(body))


HEADS = [
    bad(8, "LF behind the status line", OK + b"\n" + FIVE + b"\r\n\r\nhello"),
    bad(8, "LF behind a field", OK + b"\r\nX: y\n" + FIVE + b"\r\n\r\nhello"),
    bad(8, "LF alone everywhere", OK + b"\n" + FIVE + b"\n\nhello", closes=True),
    *(
        bad(9, f"{char!r} in a value", res(b"X: a" + char + b"b", FIVE, body=b"hello"))
        for char in (b"\0", b"\r", b"\n", b"\x01", b"\x0b", b"\x1b", b"\x7f")
    ),
    bad(9, "a NUL in a name", res(b"X\0: a", FIVE, body=b"hello")),
    bad(9, "no colon", res(b"nonsense", FIVE, body=b"hello")),
    bad(10, "blank before the colon", res(b"X : a", FIVE, body=b"hello")),
    bad(10, "blank before CL's colon", res(b"Content-Length : 5", body=b"hello")),
    bad(10, "blank before the first field", res(b" X: a", FIVE, body=b"hello")),
    bad(11, "a folded field", res(b"X: a", b" b", FIVE, body=b"hello")),
    bad(11, "folded by a tab", res(b"X: a", b"\tb", FIVE, body=b"hello")),
    bad(11, "a folded CL", res(b"Content-Length:", b" 5", body=b"hello")),
    bad(16, "another protocol", res(FIVE, start=b"ICY 200 OK", body=b"hello")),
    bad(16, "SSH", b"SSH-2.0-OpenSSH_9.2\r\n", closes=True),
    bad(16, "0.9", b"<html>hello</html>", closes=True),
    bad(16, "HTTP/2.0", res(FIVE, start=b"HTTP/2.0 200 OK", body=b"hello")),
    bad(16, "HTTP/1.2", res(FIVE, start=b"HTTP/1.2 200 OK", body=b"hello")),
    bad(16, "a status of two digits", res(FIVE, start=b"HTTP/1.1 20 OK", body=b"hello")),
    bad(16, "a status of four digits", res(FIVE, start=b"HTTP/1.1 2000 OK", body=b"hello")),
    bad(16, "a status below 100", res(FIVE, start=b"HTTP/1.1 099 OK", body=b"hello")),
    bad(16, "no status", res(FIVE, start=b"HTTP/1.1 OK", body=b"hello")),
    bad(16, "an empty line first", b"\r\n" + res(FIVE, body=b"hello")),
    same(16, "no reason", FIVE, start=b"HTTP/1.1 200 ", body=b"hello"),
    good(16, "no blank behind the status", res(FIVE, start=b"HTTP/1.1 200", body=b"hello"),
         got(FIVE, start=b"HTTP/1.1 200 ", body=b"hello")),
    same(16, "a status nobody knows", FIVE, start=b"HTTP/1.1 299 Fine", body=b"hello"),
    same(9, "a tab and high bytes in a value", b"X: a\tb\xc3\xa4", FIVE, body=b"hello"),
    same(32, "a head of 60 KiB", b"X: " + b"a" * 60000, FIVE, body=b"hello", defence=LARGE),
    same(32, "a head of 15 fields of 4 KiB", *[b"X: " + b"a" * 4000] * 15, FIVE, body=b"hello",
         defence=LARGE),
    bad(32, "a head of 300 KiB", res(b"X: " + b"a" * 300000, FIVE, body=b"hello")),
]  # fmt: skip

LENGTHS = [
    bad(29, "CL with TE", res(FIVE, CHUNKED, body=HELLO + END)),
    bad(29, "TE with CL 0", res(CHUNKED, LENGTH + b"0", body=HELLO + END)),
    bad(29, "TE in 1.0", res(CHUNKED, start=b"HTTP/1.0 200 OK", body=HELLO + END), closes=True),
    *(
        bad(29, f"TE {value!r}", res(b"Transfer-Encoding: " + value, body=HELLO + END), closes=True)
        for value in (b"xchunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"chunked,", b"gzip", b"")
    ),
    bad(29, "TE twice", chunked(HELLO + END, CHUNKED)),
    *(
        bad(29, f"CL {value!r}", res(LENGTH + value, body=b"hello"), closes=True)
        for value in (b"+5", b"-5", b"0x5", b"5_0", b"", b"5 5", b"5,", b"5, 6", b"9" * 19, b"five", b"5.0")
    ),
    bad(29, "CL twice, different", res(FIVE, LENGTH + b"6", body=b"hello!")),
    good(29, "CL twice, equal", res(FIVE, FIVE, body=b"hello"), got(FIVE, body=b"hello"),
         defence=EQUAL),
    good(29, "CL in a list, equal", res(LENGTH + b"5, 5", body=b"hello"), got(FIVE, body=b"hello"),
         defence=EQUAL),
    good(29, "CL in a 204", res(LENGTH + b"0", start=NO_CONTENT), got(start=NO_CONTENT)),
    *(
        good(42, f"{name} in a {start[9:12].decode()}", res(*lines, start=start) + more,
             got(start=start) + more, defence=BARE)
        for start, more in ((NO_CONTENT, b""), (NOT_MODIFIED, b""), (HINTS, TWO))
        for name, lines in (
            ("TE", [CHUNKED]), ("TE nobody knows", [b"Transfer-Encoding: gzip"]), ("CL", [FIVE]),
            ("CL of nonsense", [LENGTH + b"5_0"]), ("CL with TE", [FIVE, CHUNKED]),
            ("CL twice, different", [FIVE, LENGTH + b"6"]),
        )
    ),
    *(
        good(42, f"TE and {name} in a {start[9:12].decode()}", res(CHUNKED, start=start, body=body),
             got(start=start), defence=BARE)
        for start in (NO_CONTENT, NOT_MODIFIED)
        for name, body in (("a chunk", HELLO), ("the last chunk", END))
    ),
    bad(34, "a framed 101 nobody asked for",
        res(b"Connection: Upgrade", b"Upgrade: websocket", CHUNKED, start=b"HTTP/1.1 101 S", body=TWO)),
    good(29, "CL to a HEAD", res(FIVE), got(FIVE), method=b"HEAD"),
    framed(29, "until the connection closes", res(body=b"hello"), closes=True),
    framed(29, "until a 1.0 connection closes", res(start=b"HTTP/1.0 200 OK", body=b"hello"), closes=True),
    framed(27, "chunks are framed anew", chunked(b"005;a=b\r\nhello\r\n" + END)),
    framed(27, "the words of this hop go",
           chunked(HELLO + END, b"Connection: X-Hop, keep-alive", b"X-Hop: 1", b"Keep-Alive: 5",
                   b"Proxy-Connection: x", b"Upgrade: h2c", b"TE: x")),
]  # fmt: skip

BODIES = [
    *(
        broken(5, f"chunk size {size!r}", size + b"\r\nhello\r\n" + END)
        for size in (b"0x5", b"5_", b"+5", b"-5", b" 5", b"5 5", b"\t5", b"5 h", b"5 \0", b"5 \x0b", b"", b"g", b"ffffffffffffffff5", b"5,")
    ),
    *(
        framed(43, f"chunk size {size!r}", chunked(size + b"\r\nhello\r\n0 \r\n\r\n"), defence=PADDED)
        for size in (b"5 ", b"5\t", b"5  \t  ", b"5 ;a=b", b"0005 ")
    ),
    framed(43, "chunk size '5', 300 blanks", chunked(b"5" + b" " * 300 + b"\r\nhello\r\n" + END),
           defence=PADDED),
    broken(43, "chunk size '5', 5000 blanks", b"5" + b" " * 5000 + b"\r\nhello\r\n" + END),
    broken(43, "chunk size '5', a blank, a bare LF", b"5 \nhello\r\n" + END),
    broken(43, "chunk size '5', a blank, CR CR LF", b"5 \r\r\nhello\r\n" + END),
    broken(6, "bare LF in an extension", b"5;a\nhello\r\n" + END),
    broken(6, "NUL in an extension", b"5;a\0\r\nhello\r\n" + END),
    broken(7, "no CRLF behind the data", b"5\r\nhello0\r\n\r\n"),
    broken(7, "two other bytes behind the data", b"5\r\nhelloxx" + END),
    broken(7, "LF behind the data", b"5\r\nhello\n" + END),
    broken(7, "LF behind the size", b"5\nhello\r\n" + END),
    broken(7, "LF behind the last chunk", b"0\n\n"),
    broken(7, "a trailer without a colon", b"0\r\nHTTP/1.1 200 OK\r\n\r\n"),
    broken(7, "a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n"),
    good(26, "a trailer passes", chunked(HELLO + b"0\r\nX-Sum: 1\r\n\r\n"),
         got(last=(CHUNKED,), body=HELLO + b"0\r\nX-Sum: 1\r\n\r\n")),
    framed(26, "trailers that frame or authenticate are dropped",
           chunked(HELLO + b"0\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\nLocation: /evil\r\n\r\n")),
    good(31, "a length that is not reached", res(LENGTH + b"9", body=b"hello"),
         got(LENGTH + b"9", body=b"hello"), cut=True, closes=True),
    good(31, "no last chunk", chunked(HELLO), got(last=(CHUNKED,), body=HELLO), cut=True, closes=True),
    good(31, "half a chunk", chunked(b"9\r\nhello"), got(last=(CHUNKED,), body=HELLO), cut=True, closes=True),
    bad(31, "half a head", OK + b"\r\nContent-Le", closes=True),
    bad(31, "nothing", b"", closes=True),
]  # fmt: skip

SURPLUS = [
    good(30, "bytes behind a length", res(FIVE, body=b"hello" + TWO), got(FIVE, body=b"hello")),
    framed(30, "bytes behind the last chunk", chunked(HELLO + END + TWO)),
    good(30, "a body behind a 304", res(FIVE, start=NOT_MODIFIED, body=b"hello" + TWO),
         got(start=NOT_MODIFIED)),
    good(30, "a body behind a 204", res(start=b"HTTP/1.1 204 No Content", body=TWO),
         got(start=b"HTTP/1.1 204 No Content")),
    good(30, "a body to a HEAD", res(FIVE, body=b"hello" + TWO), got(FIVE), method=b"HEAD"),
    good(30, "an empty line behind a body", res(FIVE, body=b"hello\r\n"), got(FIVE, body=b"hello")),
    same(24, "103 passes", b"Link: </a>", start=b"HTTP/1.1 103 Early Hints", body=res(FIVE, body=b"hello")),
    same(24, "102 passes", start=b"HTTP/1.1 102 Processing", body=res(FIVE, body=b"hello")),
    good(24, "1xx without end of its own", res(FIVE, start=b"HTTP/1.1 103 Early Hints") + TWO,
         got(start=b"HTTP/1.1 103 Early Hints") + TWO),
    bad(34, "a 101 nobody asked for",
        res(b"Connection: Upgrade", b"Upgrade: websocket", start=b"HTTP/1.1 101 Switching Protocols", body=TWO)),
    bad(34, "a 101 to h2c",
        res(b"Connection: Upgrade", b"Upgrade: h2c", start=b"HTTP/1.1 101 Switching Protocols", body=TWO)),
]  # fmt: skip

ANSWERS: list[Answer] = [*HEADS, *LENGTHS, *BODIES, *SURPLUS]
