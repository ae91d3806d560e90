"""Measure revisions that rewrite only the failed parts, beside revisions of the whole answer.

python benchmarks/patch.py           about two hours; writes results/patch.json
python benchmarks/patch.py --quick   a few texts and objects, nothing written

`pip install instructor trustcall langchain-openai` first.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import patch_peers
import redraft
from apps_server import serving
from material import default_model
from measure import Figure, Goal, Row, Unit
from patch_material import Draft, objects, texts
from redraft.chain import Chain
from redraft.checks.base import demand_of
from redraft.checks.parse import parse_check
from redraft.engines.base import Engine, Message, Sampling
from redraft.engines.load import load_engine, token_count
from report import main
from weights_run import weights

Made = dict[str, list[tuple[Chain, Draft]]]  # by method
WAYS: dict[str, dict[str, Any]] = {
    "patch": {},
    "full revision": {"mode": "verified"},
    "without speculation": {"mode": "verified"},
    "fresh draft": {"max_revisions": 0},
    "best of two": {"mode": "best-of", "drafts": 2},
}
REVISING = ("patch", "full revision", "without speculation")  # these begin with the draft
FEW: dict[str, Any] = {"count": 20, "ways": REVISING[:2], "every": 1}
HOW = (
    "{count} drafts have one to three faults. The default model runs behind llama.cpp, its server, or as a "
    "folder on PyTorch: {streams} at once, temperature 0.7, the same seeds and checks, at most {most} new "
    "tokens. Patch and full revision begin with the same draft, which the engine has just read, and revise "
    "once. patch: mode `auto`. full revision: mode `verified`, with speculation up to four streams and the "
    "same steering, of {full} of the drafts, directly before or after the patch; then without speculation. "
    "The other two methods answer anew, with steering. Figures are medians over chains; parallel chains "
    "share their seconds. Other work ran on the machine, so only ratios of seconds count. Are right: have "
    "the right sums or values. Changed outside: the share that lack another {part} of the draft. Lost: the "
    "number of missing ones."
)


async def measured(
    name: str,
    reference: str,
    *,
    streams: int = 1,
    count: int = 200,
    every: int = 7,
    ways: Sequence[str] = (*WAYS,),
    most: int = 600,  # new tokens; no text has more
    part: str = "sentence",
) -> Row:
    """Patch all drafts. Every `every`-th group is also revised or answered by the other methods, in turn."""
    made: Made = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    ratios: dict[str, list[float]] = {"seconds": [], "new tokens": []}
    local = {"ctx": 8192, "parallel": streams, "threads": 1}
    engine = await load_engine(reference, **({} if reference.startswith("http") else local))
    engines = dict.fromkeys(ways, engine)
    if (plain := REVISING[2]) in ways:
        engines[plain] = await load_engine(reference, speculate=False, **local)

    async def read(draft: Draft, engine: Engine) -> None:
        demand = "\n".join(filter(None, (demand_of(parse_check(check)) for check in draft.checks)))
        asked: Message = {"role": "user", "content": f"{draft.prompt}\n\n{demand}".strip()}
        async with aclosing(engine.chat([asked], Sampling(max_tokens=1, begun=draft.answer))) as deltas:
            assert [delta async for delta in deltas]

    async def mended(draft: Draft, way: str, seed: int) -> tuple[Chain, Draft]:
        given: dict[str, Any] = {"given": draft.answer, "max_revisions": 1} if way in REVISING else {}
        given |= {"checks": draft.checks, "max_tokens": most, **WAYS[way]}
        return await redraft.arevise(draft.prompt, model=engines[way], seed=seed, **given), draft

    found = [*islice(objects() if part == "value" else texts(), count)]
    for first in range(0, len(found), streams):
        group, taken, new = found[first : first + streams], dict[str, float](), dict[str, float]()
        turn, rest = divmod(first // streams, every)
        for way in (ways[:1] if rest else ways)[:: -1 if turn % 2 else 1]:
            if way in REVISING:
                await asyncio.gather(*(read(draft, engines[way]) for draft in group))
            began = time.perf_counter()
            tasks = (mended(draft, way, 1000 * (first + place)) for place, draft in enumerate(group))
            made[way] += (pairs := await asyncio.gather(*tasks))
            taken[way] = (time.perf_counter() - began) / len(group)
            seconds[way] += [taken[way]] * len(group)
            new[way] = sum(chain.usage.completion_tokens for chain, _ in pairs)
        if not rest:
            ratios["seconds"].append(taken["full revision"] / taken["patch"])
            ratios["new tokens"].append(new["full revision"] / max(new["patch"], 1))
    for engine in {*engines.values()}:
        await engine.aclose()
    how = HOW.format(count=len(found), full=len(made[REVISING[1]]), streams=streams, most=most, part=part)
    figures = [*_figures(made), *(Figure(f"seconds, {way}", (*each,), "s") for way, each in seconds.items())]
    for (what, each), least in zip(ratios.items(), (5.0, 8.0), strict=True):
        figures.append(Figure(f"a full revision's {what} over a patch's", (*each,), "×", Goal("≥", least)))
    size, patched = token_count("default"), made["patch"]
    shares = (size(draft.answer) / max(chain.usage.completion_tokens, 1) for chain, draft in patched)
    figures.append(Figure("the draft's tokens over a patch's", (*shares,), "×", Goal("≥", 8.0)))
    return Row(f"patch: {name}", how, tuple(figures))


def _figures(made: Made) -> Iterator[Figure]:
    def of(made: Made, what: str, unit: Unit, value: Callable[[Chain, Draft], float], *goal: Goal) -> Any:
        for way, pairs in made.items():
            values = tuple(float(value(chain, draft)) for chain, draft in pairs)
            means = (fmean(values) * (100 if unit == "%" else 1),) if unit != "tokens" else values
            yield Figure(f"{what}, {way}", means, unit, *(goal if way == "patch" else ()))

    def lost(chain: Chain, draft: Draft) -> int:
        return draft.lost(draft.others, chain.answer)

    known = {way: told for way, each in made.items() if (told := [pair for pair in each if pair[1].right])}
    revised = {way: made[way] for way in REVISING if way in made}
    yield from of(made, "pass", "%", lambda chain, _: bool(chain.passed))
    yield from of(known, "are right", "%", lambda chain, draft: not draft.lost(draft.right, chain.answer))
    yield from of(revised, "changed outside", "%", lambda *pair: lost(*pair) > 0, Goal("≤", 0.0))
    yield from of(revised, "lost, mean", "", lost)
    yield from of(made, "new tokens", "tokens", lambda chain, _: chain.usage.completion_tokens)


def run(name: str, reference: str = "default", *, quick: bool, **about: Any) -> Row:
    return asyncio.run(measured(name, reference, **about | ({"count": 3} if quick else {})))


def unpacked(*, quick: bool) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        weights("from-gguf", default_model(), "-o", Path(folder) / "model")
        return run("texts, a folder of transformers", f"{folder}/model", quick=quick, **FEW)


def server(*, quick: bool) -> Row:
    with serving(1) as url:
        return run("texts, llama.cpp's server", url, quick=quick, **FEW)


def able(*, quick: bool) -> Row:
    return asyncio.run(patch_peers.row([*islice(objects(), 3 if quick else None)]))


ROWS = {
    "texts": partial(run, "texts"),
    "eight": partial(run, "texts, eight at once", streams=8, ways=REVISING[:2], every=5),
    "hf": unpacked,
    "server": server,
    "objects": partial(run, "objects", part="value", most=2500, every=20),
    "able": able,
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/patch.py", __doc__, ROWS))
