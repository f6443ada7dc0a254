"""Sources at work: bursts, failures, and what is looked at afterwards."""

import asyncio

from rawproxy.discovery import watching
from rawproxy.discovery.source import Fragment, FragmentSource
from tests.process import PATIENCE


class Scripted(FragmentSource):
    """A source that does what a test says."""

    def __init__(self, name="s"):
        self.name, self.runs, self.report = name, 0, None

    def now(self):
        return {}

    async def run(self, report):
        self.runs += 1
        self.report = report
        if self.runs == 1 and self.name == "fails":
            raise OSError("no")
        await asyncio.Event().wait()


class Good:
    """What is asked of a `LastGood`."""

    def __init__(self, *sources):
        self.sources, self.good, self.taken = list(sources), {}, []

    def take(self, wanted):
        self.taken.append({name: one.text for name, one in wanted.items()})
        return bool(wanted)


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def fragment(text):
    return {"a": Fragment("a", text)}


def test_a_burst_is_one_change_and_what_comes_meanwhile_the_next(monkeypatch):
    async def test():
        source, other = Scripted(), Scripted("o")
        good = Good(source, other)
        good.good["o", "old"] = Fragment("old", "known")
        gate, calls = asyncio.Event(), []

        async def changed(another):
            calls.append(another)
            await gate.wait()

        task = asyncio.create_task(watching.watch(good, changed))
        await until(lambda: source.report and other.report)
        for n in range(5):
            source.report(fragment(str(n)))
        await until(lambda: calls)
        assert good.taken == [{("s", "a"): "4", ("o", "old"): "known"}]
        source.report(fragment("5"))
        source.report(fragment("6"))
        await asyncio.sleep(0.3)
        assert len(good.taken) == 1, "one change is under way"
        gate.set()
        await until(lambda: len(good.taken) == 2)
        other.report({})
        await until(lambda: len(good.taken) == 3)
        assert good.taken[1:] == [
            {("s", "a"): "6", ("o", "old"): "known"}, {("s", "a"): "6"},
        ]  # fmt: skip
        source.report({})
        await until(lambda: len(calls) == 4)
        assert calls == [True, True, True, False]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())


def test_a_source_that_never_rests_is_taken_all_the_same(monkeypatch):
    async def test():
        source = Scripted()
        good = Good(source)

        async def changed(another):
            pass

        task = asyncio.create_task(watching.watch(good, changed))
        await until(lambda: source.report)
        began = asyncio.get_running_loop().time()
        while not good.taken:
            source.report(fragment("x"))
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 10 * watching.LONGEST
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())


def test_a_source_that_fails_is_run_again_and_the_others_go_on(monkeypatch, caplog):
    monkeypatch.setattr(watching, "PAUSE", 0.01)

    async def test():
        source, other = Scripted("fails"), Scripted()
        good = Good(source, other)

        async def changed(another):
            pass

        task = asyncio.create_task(watching.watch(good, changed))
        await until(lambda: source.runs == 2)
        other.report(fragment("x"))
        await until(lambda: good.taken)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
    assert "fails failed, and is run again in 0.01 s" in caplog.text
