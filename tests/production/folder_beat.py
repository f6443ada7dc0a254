"""A fragment comes, changes, breaks, is mended and goes, five times a second, under load.

    python -m tests.production.folder_beat      a minute of it

What serves must always be the last good state: an answer counts as wrong if it is that of no state
that was good since the request began, or up to `slack` seconds before: `SLACK`, unless told otherwise.
"""

import asyncio
import pathlib
import sys
import tempfile
import time

from tests.process import RawProxy

from .stage import upstream

SLACK = 1.0  # seconds in which a change has to be in force
BEAT = 0.2  # seconds from one step to the next
NAME = "beat.test"


class FolderBeat:
    """One run in a folder of its own."""

    def __init__(self, folder: pathlib.Path, seconds: float, slack: float = SLACK) -> None:
        self.folder, self.seconds, self.slack = folder, seconds, slack
        # What a request may be answered: the status, and since when; the last is that of now.
        self.states: list[tuple[float, bytes]] = [(0.0, b"421")]
        self.wrong: list[str] = []
        self.failed: list[str] = []
        self.steps = self.asked = 0
        self.late: list[float] = []  # seconds till a change was seen

    def run(self) -> None:
        sites = self.folder / "sites.d"
        sites.mkdir()
        with upstream() as port:
            main = self.folder / "rawproxy.toml"
            main.write_text(
                f'upstream = "http://127.0.0.1:{port}"\nworkers = 2\naccess-log = "off"\n'
                f'[discovery]\nfolder = "{sites}"\n[[site]]\nserver-name = "stable.test"\n'
            )
            with RawProxy("--config", str(main), https=False) as proxy:
                asyncio.run(self.load(proxy, sites / "beat.toml"))
                self.err = proxy.err()

    async def load(self, proxy: RawProxy, fragment: pathlib.Path) -> None:
        await asyncio.sleep(2)  # until somebody watches the folder
        over = asyncio.Event()
        clients = [
            asyncio.create_task(self.client(proxy.http, name, over))
            for name in ("stable.test", NAME, NAME)
        ]
        await self.beat(fragment)
        over.set()
        await asyncio.gather(*clients)

    async def beat(self, fragment: pathlib.Path) -> None:
        end = time.monotonic() + self.seconds
        step = 0
        while time.monotonic() < end:
            kind = step % 5
            status = 200 + step % 90
            good = f'[[site]]\nserver-name = "{NAME}"\n[[site.route]]\n' \
                f"respond = {{ status = {status} }}\n"  # fmt: skip
            if kind in (0, 1, 3):  # it comes, changes, is mended
                self.put(fragment, good)
                self.states.append((time.monotonic(), b"%d" % status))
            elif kind == 2:
                self.put(fragment, good + "nonsense\n")
            else:
                fragment.unlink()
                self.states.append((time.monotonic(), b"421"))
            step += 1
            await asyncio.sleep(BEAT)
        self.steps = step
        await asyncio.sleep(self.slack)

    def put(self, fragment: pathlib.Path, text: str) -> None:
        new = fragment.with_name(".new")
        new.write_text(text)
        new.replace(fragment)

    async def client(self, port: int, name: str, over: asyncio.Event) -> None:
        """Requests over one connection; it may never be closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seen = b""
        while not over.is_set():
            began = time.monotonic()
            writer.write(f"GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                await reader.readexactly(length)
            except (OSError, EOFError) as error:
                self.failed.append(f"{name}: {error!r}")
                return
            self.asked += 1
            status = head[9:12]
            if name == "stable.test":
                if status != b"200":
                    self.wrong.append(f"{name}: {status!r}")
            else:
                self.judge(status, began, changed=status != seen)
                seen = status
            await asyncio.sleep(0.01)
        writer.close()

    def judge(self, status: bytes, began: float, *, changed: bool) -> None:
        """Whether this status was that of the last good state, or of one just before it."""
        good = [at for at, one in self.states if one == status]
        after = [at for at, _ in self.states if good and at > good[-1]]
        if not good or (after and after[0] < began - self.slack):
            self.wrong.append(f"{status!r} at {began:.2f}: {self.states[-3:]}")
        elif changed and good[-1]:  # 0: from before the first step
            self.late.append(began - good[-1])

    def report(self) -> str:
        late = sorted(self.late)
        middle = late[len(late) // 2] if late else 0
        return (
            f"{self.steps} steps in {self.seconds:g} s, {self.asked} requests, wrong"
            f" {len(self.wrong)}, failed {len(self.failed)}; a change was seen within"
            f" {1000 * middle:.0f} ms (median), {1000 * max(late, default=0):.0f} ms (latest)"
        )


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        beat = FolderBeat(pathlib.Path(folder), seconds)
        beat.run()
    print(beat.report(), *beat.wrong[:5], *beat.failed[:5], sep="\n")
    return 1 if beat.wrong or beat.failed else 0


if __name__ == "__main__":
    sys.exit(main())
