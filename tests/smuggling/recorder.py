"""An upstream that writes down, byte by byte, what it is asked, and answers every whole request.

Where a request ends is decided here by h11, whatever the proxy in front thought of it. A proxy
that forwards something which h11 does not take for one whole request has been smuggled through.
"""

import asyncio
import contextlib

import h11

CASE = b"/case"  # the target that is answered by the bytes of a case


class Recorder:
    """A listening upstream. `requests`: whole ones in order; `broken`: what never was one."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.partial: list[bytes] = []  # what came of requests that then broke off
        self.broken: list[bytes] = []
        self.answer = b""  # to `CASE`
        self.closes = False  # behind that answer
        self.port = 0
        self._unfinished: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Recorder":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Before the next case."""
        self.requests, self.partial, self.broken = [], [], []

    async def quiet(self, patience: float) -> bool:
        """Whether no connection holds an unfinished request any more; waits for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._quiet.wait()
        return self._quiet.is_set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        raw = b""
        try:
            while True:
                self._note(task, bool(raw))
                size, last = whole(raw)
                if not size:
                    more = await reader.read(65536)
                    if not more:
                        break
                    raw += more
                    continue
                request, raw = raw[:size], raw[size:]
                self.requests.append(request)
                if self._reply(writer, request.split(b" ", 2)[1]) or last:
                    break
        except h11.RemoteProtocolError:
            self.broken.append(raw)
            raw = b""
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            if raw:
                self.partial.append(raw)
            self._note(task, False)
            self._tasks.discard(task)
            writer.close()

    def _reply(self, writer: asyncio.StreamWriter, target: bytes) -> bool:
        """Answer; whether the connection is to be closed."""
        if target == CASE:
            writer.write(self.answer)
            return self.closes
        line = b"Seen: " + target if target.isascii() else b"Seen: ?"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n\r\n" % line)
        return False

    def _note(self, task: asyncio.Task[None], unfinished: bool) -> None:
        (self._unfinished.add if unfinished else self._unfinished.discard)(task)
        (self._quiet.clear if self._unfinished else self._quiet.set)()


def whole(raw: bytes) -> tuple[int, bool]:
    """Bytes of the request at the beginning of `raw`, 0 if it is not whole; whether it is the last.

    Raises `h11.RemoteProtocolError`.
    """
    if not raw:
        return 0, False
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(raw)
    while True:
        event = parser.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED):
            return 0, False
        if isinstance(event, h11.EndOfMessage):
            left = len(parser.trailing_data[0])
            return len(raw) - left, parser.their_state is h11.MUST_CLOSE
