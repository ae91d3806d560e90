"""Measure speculation from the earlier draft, on and off, for revisions that copy most of the draft."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from material import QUESTIONS, copied_share, default_model
from measure import Figure, Goal, NotMeasured, Row, Size, alternate, blocks
from redraft.engines.base import Engine
from redraft.engines.load import load_engine
from redraft.revision.api import arevise
from taps import Request, Tap, ask, replay_one

MEASURE = "revisions that copy at least 70 % of the draft, speculation on vs off, tokens/s"
HOW = (
    "Real revisions of the default model in verified chains, greedy. Drafts for everyday questions get the "
    "checks {checks}. A first revision is used if at least 70 % of its tokens lie in four-token runs of the "
    "draft, and at least 70 % of the draft's tokens in such runs of the revision. Both sides have the same "
    "engine, with the text before the draft in its cache, as in a chain. At eight streams, the engine turns "
    "speculation off by default (`speculate=None`), so it is also measured with speculation forced on. "
    "Fresh text is the answer to each of the same questions."
)
CHECKS = ("ends:Thank you.", "contains:[end]")
SHORTEST = 32  # the fewest tokens of a draft and of a revision, because short times are noisy


@dataclass(frozen=True)
class Revision:
    request: Request  # the request that makes it
    of_revision: float  # the share of its tokens that are copied from the draft, 0 to 1
    of_draft: float  # the share of the draft's tokens that are in the revision
    tokens: int  # the length of the revision

    @property
    def copies(self) -> bool:
        return min(self.of_revision, self.of_draft) >= 0.7


@dataclass(frozen=True)
class Case:
    what: str
    streams: int  # parallel requests
    ours: bool | None  # `speculate` of our engine; the other engine has speculation off
    goal: Goal | None
    fresh: bool = False  # answers without a draft before them, in place of revisions


CASES = (
    Case("copying, one stream", 1, ours=True, goal=Goal("≥", 1.4)),
    Case("copying, eight streams, as the engine chooses", 8, ours=None, goal=Goal("≥", 0.95)),
    Case("copying, eight streams, forced on", 8, ours=True, goal=None),
    Case("fresh text, one stream", 1, ours=True, goal=None, fresh=True),
    Case("fresh text, eight streams, forced on", 8, ours=True, goal=None, fresh=True),
)


def run(size: Size) -> Row:
    return asyncio.run(_row(size))


async def _row(size: Size) -> Row:
    how = HOW.format(checks=" and ".join(f"`{check}`" for check in CHECKS))
    engine = await _engine(size, 1, speculate=True)
    found: list[Revision] = []
    for question in QUESTIONS:
        for check in CHECKS:
            found += await first_revision(engine, question, check, max(size.tokens // 2, 2 * SHORTEST))
        if sum(revision.copies for revision in found) >= size.questions:
            break
    await engine.aclose()
    if not (kept := [revision for revision in found if revision.copies]):
        raise NotMeasured(f"none of {len(found)} revisions copied enough.")
    figures = [await _figure(case, [revision.request for revision in kept], size) for case in CASES]
    return Row(MEASURE, how, tuple(figures), (_note(found, kept),))


def _note(found: Sequence[Revision], kept: Sequence[Revision]) -> str:
    tokens = statistics.median(revision.tokens for revision in kept)
    of_revision = statistics.median(revision.of_revision for revision in kept)
    of_draft = statistics.median(revision.of_draft for revision in kept)
    return (
        f"{len(kept)} of {len(found)} revisions copied enough; medians of those: {tokens:.0f} tokens, "
        f"{of_revision:.0%} of the revision copied, {of_draft:.0%} of the draft kept."
    )


async def _engine(size: Size, parallel: int, *, speculate: bool | None) -> Engine:
    return await load_engine(
        str(default_model()), engine="llamacpp", threads=size.threads, parallel=parallel, speculate=speculate
    )


async def first_revision(engine: Engine, question: str, check: str, tokens: int) -> list[Revision]:
    tap = Tap(engine)
    chain = await arevise(
        question, model=tap, checks=[check], steer=False, max_revisions=1, max_tokens=tokens, temperature=0.0
    )
    if len(chain.steps) < 2:
        return []
    draft, revision = [await engine.encode(step.answer) for step in chain.steps]
    if min(len(draft), len(revision)) < SHORTEST:
        return []
    shares = copied_share(revision, draft), copied_share(draft, revision)
    return [Revision(tap.requests[1], *shares, len(revision))]


async def _figure(case: Case, requests: Sequence[Request], size: Size) -> Figure:
    if case.fresh:
        requests = [replace(request, messages=request.messages[:1]) for request in requests]
    async with AsyncExitStack() as stack:
        engines = []
        for speculate in (case.ours, False):
            engines.append(await _engine(size, case.streams, speculate=speculate))
            stack.push_async_callback(engines[-1].aclose)
        on, off = engines
        rates = await alternate(
            size.rounds, lambda: timed(on, requests, case), lambda: timed(off, requests, case)
        )
    return rates.figure(case.what, case.goal, "on" if case.ours else "as chosen", "off")


async def timed(engine: Engine, requests: Sequence[Request], case: Case) -> tuple[int, float]:
    tokens, seconds = 0, 0.0
    for group in blocks(requests, case.streams, math.ceil(len(requests) / case.streams)):
        await asyncio.gather(*(_warm(engine, request) for request in group))
        made = await asyncio.gather(*(replay_one(engine, request) for request in group))
        seconds += max(r.ended or r.started for r in made) - min(r.started for r in made)
        tokens += sum(r.generated for r in made)
    return tokens, seconds


async def _warm(engine: Engine, request: Request) -> None:
    before = request.messages[:-1] or request.messages
    sampling = replace(request.sampling, max_tokens=1)
    async for _ in ask(engine, replace(request, messages=before, sampling=sampling)):
        pass
