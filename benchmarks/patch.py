"""Measure a revision that writes only what failed, beside one that writes the whole answer again.

python benchmarks/patch.py           about two hours; writes results/patch.json
python benchmarks/patch.py --quick   a few texts and objects, nothing written

`pip install instructor trustcall langchain-openai` first.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import patch_peers
import redraft
from material import default_model
from measure import Figure, Goal, Row, Unit
from patch_material import Draft, objects, texts
from redraft.chain import Chain
from redraft.checks.base import demand_of
from redraft.checks.parse import parse_check
from redraft.engines.base import Message, Sampling
from redraft.engines.load import load_engine
from report import main
from weights_run import weights

Made = dict[str, list[tuple[Chain, Draft]]]  # by way
WAYS: dict[str, dict[str, Any]] = {
    "patch": {},
    "full revision": {"mode": "verified"},
    "fresh draft": {"max_revisions": 0},
    "best of two": {"mode": "best-of", "drafts": 2},
}
REVISING = ("patch", "full revision")  # these begin with the draft
HOW = (
    "{count} drafts with one to three faults. The default model {model}, temperature 0.7, {streams} at once, "
    "the same seeds and checks in all ways, ≤ {most} new tokens. Patch and full revision begin with the "
    "same draft, which the engine has just read, as behind one that it wrote, and revise once. patch: mode "
    "`auto`. full revision, of {full} of them, back to back with the patch: mode `verified`, steered alike, "
    "with speculation as usual. Fresh draft and best of two answer the prompt anew, steered. New tokens and "
    "seconds are medians over chains; several at once share their seconds. Other work ran on the machine, so "
    "the model has one thread, and seconds are ratios. Are right: have the right sums or values "
    "where the draft failed. Changed outside: the share of answers that lack another {part} of the draft. "
    "Lost: how many they lack."
)


@dataclass(frozen=True)
class Size:
    """What is measured, and how much."""

    streams: int = 1
    count: int = 200  # drafts
    every: int = 20  # which group of drafts takes the other ways, too
    ways: int = len(WAYS)
    most: int = 600  # new tokens; no text has more
    part: str = "sentence"
    unpacked: bool = False  # the model is a folder of transformers

    def how(self, made: Mapping[str, Sequence[Any]]) -> str:
        count, full = len(made["patch"]), len(made["full revision"])
        model = "as a folder on PyTorch, without adapters" if self.unpacked else "behind llama.cpp"
        return HOW.format(
            count=count, full=full, model=model, streams=self.streams, part=self.part, most=self.most
        )


async def measured(about: Size, name: str, folder: Path) -> Row:
    """Patch each draft, and take the other ways with some of them, in turn."""
    ways = [*WAYS][: about.ways]
    made: Made = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    ratios: dict[str, list[float]] = {"seconds": [], "new tokens": []}
    if about.unpacked:
        weights("from-gguf", default_model(), "-o", folder / "model")
    reference = str(folder / "model") if about.unpacked else "default"
    engine = await load_engine(reference, ctx=8192, parallel=about.streams, threads=1)

    async def read(draft: Draft) -> None:
        told = [*filter(None, (demand_of(parse_check(check)) for check in draft.checks))]
        demand = told[0] if len(told) == 1 else "\n".join(f"- {each}" for each in told)
        asked: Message = {"role": "user", "content": f"{draft.prompt}\n\n{demand}".strip()}
        async with aclosing(engine.chat([asked], Sampling(max_tokens=1, begun=draft.answer))) as deltas:
            async for _ in deltas:
                pass

    async def mended(draft: Draft, way: str, seed: int) -> tuple[Chain, Draft]:
        given: dict[str, Any] = {"given": draft.answer, "max_revisions": 1} if way in REVISING else {}
        given |= {"checks": draft.checks, "max_tokens": about.most, **WAYS[way]}
        return await redraft.arevise(draft.prompt, model=engine, seed=seed, **given), draft

    found = [*islice(objects(folder) if about.part == "value" else texts(), about.count)]
    for first in range(0, len(found), about.streams):
        group, taken, new = found[first : first + about.streams], dict[str, float](), dict[str, float]()
        turn, rest = divmod(first // about.streams, about.every)
        for way in (ways[:1] if rest else ways)[:: -1 if turn % 2 else 1]:
            if way in REVISING:
                await asyncio.gather(*map(read, group))
            began = time.perf_counter()
            tasks = (mended(draft, way, 1000 * (first + place)) for place, draft in enumerate(group))
            made[way] += (pairs := await asyncio.gather(*tasks))
            taken[way] = (time.perf_counter() - began) / len(group)
            seconds[way] += [taken[way]] * len(group)
            new[way] = sum(chain.usage.completion_tokens for chain, _ in pairs)
        if not rest:
            ratios["seconds"].append(taken["full revision"] / taken["patch"])
            ratios["new tokens"].append(new["full revision"] / max(new["patch"], 1))
    await engine.aclose()
    return Row(f"patch: {name}", about.how(made), (*_figures(made), *_costs(seconds, ratios)))


def _figures(made: Made) -> Iterator[Figure]:
    def of(made: Made, what: str, unit: Unit, value: Callable[[Chain, Draft], float], *goal: Goal) -> Any:
        for way, pairs in made.items():
            values = tuple(float(value(chain, draft)) for chain, draft in pairs)
            means = (fmean(values) * (100 if unit == "%" else 1),) if unit != "tokens" else values
            yield Figure(f"{what}, {way}", means, unit, *(goal if way == "patch" else ()))

    def lost(chain: Chain, draft: Draft) -> int:
        return draft.lost(draft.others, chain.answer)

    known = {way: told for way, each in made.items() if (told := [pair for pair in each if pair[1].right])}
    revised = {way: made[way] for way in REVISING}
    yield from of(made, "pass", "%", lambda chain, _: bool(chain.passed))
    yield from of(known, "are right", "%", lambda chain, draft: not draft.lost(draft.right, chain.answer))
    yield from of(revised, "changed outside", "%", lambda *pair: lost(*pair) > 0, Goal("≤", 0.0))
    yield from of(revised, "lost, mean", "", lost)
    yield from of(made, "new tokens", "tokens", lambda chain, _: chain.usage.completion_tokens)


def _costs(seconds: dict[str, list[float]], ratios: dict[str, list[float]]) -> Iterator[Figure]:
    for way, each in seconds.items():
        yield Figure(f"seconds, {way}", tuple(each), "s")
    for (what, each), least in zip(ratios.items(), (5.0, 8.0), strict=True):
        yield Figure(f"a full revision's {what} over a patch's", tuple(each), "×", Goal("≥", least))


def run(about: Size, name: str, *, quick: bool) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measured(replace(about, count=3) if quick else about, name, Path(folder)))


def able(*, quick: bool) -> Row:
    """Measure with a model without faults, and the peers."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(patch_peers.row([*islice(objects(Path(folder)), 3 if quick else 100)]))


ROWS = {
    "texts": partial(run, Size(), "texts"),
    "eight": partial(run, Size(streams=8, count=48, every=3, ways=2), "texts, eight at once"),
    "hf": partial(run, Size(count=20, every=10, ways=2, unpacked=True), "texts, a folder of transformers"),
    "objects": partial(run, Size(part="value", count=100, every=17, most=2500), "objects"),
    "able": able,
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/patch.py", __doc__, ROWS))
