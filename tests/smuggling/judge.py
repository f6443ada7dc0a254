"""One case against one proxy in front of a recorder."""

from typing import NamedTuple

from . import client
from .cases import H2, Answer, Case
from .recorder import Recorder
from .verdict import Facts


class Target(NamedTuple):
    """A proxy that runs."""

    name: str
    port: int  # plain HTTP/1.1
    tls: int  # HTTP/2
    recorder: Recorder


async def request(case: Case, target: Target, patience: float, pieces: int = 1) -> Facts:
    """Send a case's bytes; then a probe, so that what is still on its way has arrived."""
    recorder = target.recorder
    recorder.forget()
    if case.front == H2:
        outcome, _ = await client.h2(target.tls, case.raw, patience, pieces)
    else:
        outcome = await client.h1(target.port, case.raw, patience, case.eof, pieces)
    await recorder.quiet(patience)
    if not outcome.probed:
        fresh = await client.h1(target.port, client.PROBE_H1, patience)
        assert fresh.probed, f"{target.name} no longer serves: {fresh}"
    return Facts(outcome, recorder.requests, recorder.partial, recorder.broken)


async def answer(case: Answer, target: Target, patience: float) -> client.Outcome:
    """Let the upstream answer by a case's bytes; what an HTTP/1.1 client sees, and the next one."""
    target.recorder.forget()
    target.recorder.answer, target.recorder.closes = case.raw, case.closes
    raw = b"%b /case HTTP/1.1\r\nHost: h\r\n\r\n" % case.method
    outcome = await client.h1(target.port, raw, patience)
    if not outcome.probed:
        fresh = await client.h1(target.port, client.PROBE_H1, patience)
        assert fresh.probed, f"{target.name} no longer serves: {fresh}"
    return outcome


async def answer_h2(case: Answer, target: Target, patience: float) -> tuple[client.Outcome, list]:
    """The same for a client of HTTP/2."""
    target.recorder.forget()
    target.recorder.answer, target.recorder.closes = case.raw, case.closes
    return await client.h2(target.tls, client.ASK_H2[case.method], patience)
