"""Measures what steering by checks brings: passing first answers, their tokens, and what a grammar costs.

python benchmarks/steer.py          about an hour; writes results/steer.json
python benchmarks/steer.py --only held-out
python benchmarks/steer.py --quick  a few prompts, nothing written
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from operator import or_
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import regex
import torch

import redraft
from apps_constraints import PEERS, held_out
from apps_server import serving
from material import records as ifeval
from measure import Figure, Goal, Row, Unit, alternate
from redraft.chain import Chain, Prompt, Step
from redraft.checks.base import demand_of, run_checks
from redraft.checks.echo import is_echo
from redraft.checks.ifeval import Constraint
from redraft.engines.base import Engine, Sampling
from redraft.engines.llamacpp.default_model import fetch_default
from redraft.engines.load import EngineName, load_engine
from redraft.engines.steering.form import Form
from redraft.evaluation.stats import difference
from report import main

PARALLEL, TEXTS = 8, 4
BEST_OF: dict[str, Any] = {"mode": "best-of", "drafts": TEXTS}
WAYS: dict[str, dict[str, Any]] = {
    "best of N": {**BEST_OF, "steer": False},
    "steered": BEST_OF,
    "auto": {"max_revisions": TEXTS - 1},
    "one steered text": {"max_revisions": 0},
}
COMPARED = ("best of N", "steered", "auto")
HOW = (
    "{prompts}, the default model behind llama.cpp, temperature 0.7, at most {tokens} new tokens a text and "
    "{texts} texts a prompt, seeds {seeds}. All ways have the same checks and are told their demands. An "
    "answer counts if it passes all of them and is no echo. A way ends at its first text that passes; one "
    "text of best of N is plain sampling. steered: best of N with `--steer`. Differences are paired by "
    "prompt, at the new tokens of ours: the other way's share is on the line between its own points, or that "
    "of its first or last point, where it takes more than ours from the start, or fewer to the end. "
    "Intervals are at 95 %."
)


@dataclass(frozen=True)
class Made:
    """What a way made of a prompt, after each of `TEXTS` texts: whether one passes, and the new tokens."""

    passed: tuple[bool, ...]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, texts: Sequence[tuple[bool, int]]) -> Made:
        """Adds up texts. A way that ended early stays where it was."""
        good, spent = zip(*(texts or [(False, 0)]), strict=True)
        passed, tokens = list(accumulate(good, or_))[:TEXTS], list(accumulate(spent))[:TEXTS]
        more = TEXTS - len(passed)
        return cls((*passed, *passed[-1:] * more), (*tokens, *tokens[-1:] * more))


@dataclass(frozen=True)
class Curve:
    """The runs of a way, by seed and prompt."""

    runs: Sequence[Sequence[Made]]

    def share(self, texts: int) -> tuple[float, ...]:
        """Returns the percentage that passes, by seed."""
        return tuple(100 * fmean(made.passed[texts - 1] for made in run) for run in self.runs)

    def tokens(self, texts: int) -> tuple[float, ...]:
        """Returns the mean of new tokens, by seed."""
        return tuple(fmean(made.tokens[texts - 1] for made in run) for run in self.runs)

    def at(self, tokens: float) -> list[float]:
        """Returns the percentage that passes at so many new tokens, by prompt."""
        points = [fmean(self.tokens(texts)) for texts in range(1, TEXTS + 1)]
        by_text = [
            [100 * fmean(run[n].passed[k] for run in self.runs) for n in range(len(self.runs[0]))]
            for k in range(TEXTS)
        ]
        return [float(np.interp(tokens, points, shares)) for shares in zip(*by_text, strict=True)]


async def chains(
    engine: Engine, records: Sequence[dict[str, Any]], way: str, tokens: int, seed: int
) -> list[Made]:
    """Makes a chain of each record."""
    slots = asyncio.Semaphore(PARALLEL)

    async def make(number: int, record: dict[str, Any]) -> Made:
        options = {"max_tokens": tokens, "seed": seed * 10_000 + number, **WAYS[way]}
        async with slots:
            chain = await redraft.arevise(record["prompt"], model=engine, checks=checks_in(record), **options)
        made = [*chain.drafts, *chain.steps]
        return Made.of([(_passes(step), step.usage.completion_tokens) for step in made])

    return await asyncio.gather(*(make(number, record) for number, record in enumerate(records)))


def _passes(step: Step) -> bool:
    """A text that was cut may pass: peers' texts may, too."""
    return bool(step.checks) and all(each.passed for each in step.checks) and not step.echo


def checks_in(record: Mapping[str, Any]) -> list[Constraint]:
    """Returns the checks of a record of IFEval."""
    pairs = zip(record["instruction_id_list"], record["kwargs"], strict=True)
    return [Constraint.of(kind, given) for kind, given in pairs]


async def peers(records: Sequence[dict[str, Any]], name: str, seed: int) -> list[Made]:
    """Makes a peer's texts of each record."""
    loop = asyncio.get_running_loop()

    async def make(number: int, record: dict[str, Any]) -> Made:
        prompt, checks = Prompt(instruction=record["prompt"]), checks_in(record)
        texts = await loop.run_in_executor(pool, PEERS[name], url, prompt, checks, seed * 10_000 + number)
        demands = [demand_of(check) for check in checks]
        results = [await run_checks(checks, text.answer, prompt) for text in texts]
        return Made.of(
            [
                (
                    all(r.passed for r in found) and not is_echo(text.answer, prompt, demands),
                    text.usage.completion_tokens,
                )
                for text, found in zip(texts, results, strict=True)
            ]
        )

    with ThreadPoolExecutor(PARALLEL) as pool, serving(PARALLEL) as url:
        return await asyncio.gather(*(make(number, record) for number, record in enumerate(records)))


async def curves(
    records: Sequence[dict[str, Any]],
    ways: Iterable[str],
    tokens: int,
    seeds: Iterable[int],
    engine: EngineName = "llamacpp",
) -> dict[str, Curve]:
    """Runs ways with seeds. Peers have llama.cpp's server."""
    runs: dict[str, list[list[Made]]] = {way: [] for way in ways}
    async with aclosing(await load_engine("default", engine=engine, parallel=PARALLEL)) as model:
        for seed in seeds:
            for way, made in runs.items():
                made.append(
                    await (
                        peers(records, way, seed)
                        if way in PEERS
                        else chains(model, records, way, tokens, seed)
                    )
                )
    return {way: Curve(made) for way, made in runs.items()}


def points(found: Mapping[str, Curve]) -> list[Figure]:
    """Returns each way's share of passing answers, with the tokens that it took."""
    return [
        Figure(
            f"{way}, {k} texts",
            curve.share(k),
            "%",
            None,
            f"{fmean(curve.tokens(k)):.0f} new tokens a prompt",
        )
        for way, curve in found.items()
        for k in range(1, TEXTS + 1)
    ]


def gain(ours: Curve, theirs: Curve, texts: int) -> tuple[float, str]:
    """Returns the lower end by which ours is better after so many texts, and the difference in words."""
    spent = fmean(ours.tokens(texts))
    found = difference(theirs.at(spent), ours.at(spent))
    return (
        found.low,
        f"{found.value:+.1f} points, {found.low:+.1f} to {found.high:+.1f}, at {spent:.0f} tokens",
    )


PARTS = ("pass", "have a word of no list", "end whole", "log-likelihood a token", "new tokens a text")
UNITS: tuple[Unit, ...] = ("%", "%", "%", "nats", "tokens")
GOALS = (Goal("≥", 80), None, Goal("≥", 99), None, Goal("≤", 90))
COUNTED = r"(?!words[>=]+\d{3})(words|sentences|bullets|items|lines|paragraphs|characters)[<>=]"
PLAIN = re.compile(rf"{COUNTED}|(lacks|contains|starts|ends):|(upper|lower)case|json")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
END = regex.compile(
    r"(?:[.!?。！？…][\"'”’)*_\]\s]*|[}\]]|```|\p{So}[\p{Mn}\p{Sk}\u200d]*|(?<!\S)(?:https?://\S+|#\w+|\S+@\S+)"
    r"|,\s*\n\s*[^\W\d_][^\n,]{0,40}|(?:\A|[:.!?\n]\s*)[\"“«][^\"”»]+[\"”»])\Z"
)
OPEN = re.compile(
    r"(?:[,;:(–—-]|\b(?:an?|the|and|or|but|of|to|in|on|at|by|for|from|with|as|is|are|was|were|be|that|which|who|if"
    r"|than|not|has|have|had|will|can|would|should|may|must|into|about|your|my|their|his|her|its|our|this|these"
    r"|more|most|such|so))\Z",
    re.IGNORECASE,
)
ITEM = re.compile(r"\s*(?:[-*•]|\d+[.):])\s+\S")


def plain_demands(count: int | None) -> list[dict[str, Any]]:
    """Returns prompts of people's own demands, labelled for `derive.py`, that checks of forms have."""
    lines = Path(__file__).with_name("derive_prompts.jsonl").read_text("utf-8").splitlines()
    fit = [row for row in map(json.loads, lines) if row["checks"] and all(map(PLAIN.match, row["checks"]))]
    return [row for row in fit if row["prompt"].isascii()][::3][: count or 100]


def ends_whole(text: str) -> bool:
    """Returns whether a text ends as people's do.

    That is with a sentence, an object, code, an emoji, a link, a hashtag, a name below a letter, a quotation,
    a line of a list or poem that is as long as the others; or the text is a title. Of people's answers
    (OASST1) 95.5 % do, of the same cut within a sentence 4.8 %.
    """
    text = text.strip()
    if END.search(text) or OPEN.search(text) or not text:
        return bool(END.search(text))
    lines = re.split(r"\n\s*\n", text)[-1].splitlines()
    if ITEM.match(lines[-1]):
        others = [line for line in text.splitlines()[:-1] if ITEM.match(line)]
    elif len(lines) > 1:
        others = [line for line in lines[:-1] if not ITEM.match(line)]
        if any(len(line.split()) > 14 for line in others):
            return False
    else:
        named = all(word[0].isupper() for word in re.findall(r"[^\W\d_]{4,}", text)) or text.islower()
        words = len(lines[-1].split())
        return named and words <= 6 if lines == [text] else words <= 3 and lines[-1].istitle()
    if not others or others[-1].rstrip().endswith((".", "!", "?")):
        return False
    return 2 * len(lines[-1].split()) >= min(len(line.split()) for line in others)


@cache
def base() -> tuple[Any, Any]:
    """Returns the default model without its adapters, by transformers, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = fetch_default()
    given: Any = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    return AutoModelForCausalLM.from_pretrained(**given), AutoTokenizer.from_pretrained(**given)


def likelihood(prompt: str, text: str) -> float:
    """Returns the mean log-likelihood of the tokens of an answer."""
    model, tokenizer = base()
    message = {"role": "user", "content": prompt}
    before = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([*before, *tokenizer(text or ".", add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        chances = model(ids[None]).logits[0, len(before) - 1 : -1].log_softmax(-1)
    return float(chances.gather(1, ids[len(before) :, None]).mean())


async def first_texts(records: Sequence[Any], seed: int, *, steer: bool) -> list[tuple[float, ...]]:
    """Returns the `PARTS` of each prompt's first text."""
    from wordfreq import zipf_frequency

    async def one(number: int, record: dict[str, Any]) -> Chain:
        checks = record.get("checks") or checks_in(record)
        options: dict[str, Any] = {"max_tokens": 128, "seed": seed * 10_000 + number, "max_revisions": 0}
        async with slots:
            return await redraft.arevise(record["prompt"], model=model, checks=checks, steer=steer, **options)

    def parts(chain: Chain) -> tuple[float, ...]:
        prompt, checks = chain.prompt.text, chain.steps[0].checks
        text = chain.steps[0].answer.replace("’", "'").lower()
        words = {*WORD.findall(text)} - {*WORD.findall(prompt.lower())}
        odd = not all(zipf_frequency(word, "en") for word in words)
        asked = any(re.search(r":end_checker|ends:", check.name) for check in checks)
        found = _passes(chain.steps[0]), odd, asked or ends_whole(chain.steps[0].answer)
        likely = likelihood(prompt, chain.steps[0].answer)
        return *(100.0 * each for each in found), likely, chain.usage.completion_tokens

    slots = asyncio.Semaphore(PARALLEL)
    async with aclosing(await load_engine("default", engine="llamacpp", parallel=PARALLEL)) as model:
        made = await asyncio.gather(*(one(number, record) for number, record in enumerate(records)))
    return [*map(parts, made)]


def means(texts: Sequence[Sequence[float]]) -> list[float]:
    """Returns the mean of each part."""
    return [fmean(part) for part in zip(*texts, strict=True)]


def natural(*, quick: bool) -> Row:
    """Measures whether first texts pass, and read as if nothing had steered them."""
    seeds, count, figures = ((0,), 8, []) if quick else ((0, 1, 2), None, [])
    for name, records in (("IFEval", held_out(100)[:count]), ("plain demands", plain_demands(count))):
        for way, steer in (("steered", True), ("plain", False)):
            runs = [
                asyncio.run(first_texts(records, seed, steer=steer)) for seed in seeds[: None if steer else 1]
            ]
            for what, unit, goal, values in zip(
                PARTS, UNITS, GOALS, zip(*map(means, runs), strict=True), strict=True
            ):
                figures.append(Figure(f"{name}, {way}: {what}", values, unit, goal if steer else None))
    how = (
        "100 IFEval prompts as below, and 100 everyday ones with demands (`derive_prompts.jsonl`); the "
        "default model behind llama.cpp, at most 128 new tokens, seeds 0, 1, 2 (plain: 0). The checks "
        "that count are those that steer. A word of no list is in neither the prompt nor wordfreq's "
        "English: names and hashtags count. A text ends whole as was asked, or as people's do: 95.5 % of "
        "their answers, and 4.8 % of the same cut within a sentence. Likelihoods are those of the unsteered "
        "model behind the bare prompt."
    )
    return Row("first texts, and how they read", how, tuple(figures))


def held_out_prompts(*, quick: bool) -> Row:
    """Measures the prompts that the wording was not chosen on, beside the peers."""
    records, seeds = held_out(100)[: 8 if quick else None], (0,) if quick else (0, 1, 2)
    found = asyncio.run(curves(records, (*COMPARED, *PEERS), 128, seeds))
    figures = [
        Figure("one steered text: share that passes", found["steered"].share(1), "%", Goal("≥", 80)),
        Figure("one steered text: new tokens a prompt", found["steered"].tokens(1), "tokens", Goal("≤", 120)),
        *points(found),
    ]
    for other in ("best of N", *PEERS):
        for texts in range(1, TEXTS + 1):
            low, sides = gain(found["auto"], found[other], texts)
            name = f"auto less {other} at {texts} texts, lower end"
            figures.append(Figure(name, (low,), "%", Goal("≥", 20), sides))
    prompts = f"{len(records)} IFEval prompts whose constraints short answers can meet (`apps.py`)"
    how = HOW.format(prompts=prompts, tokens=128, texts=TEXTS, seeds=", ".join(map(str, seeds)))
    return Row("held-out prompts that pass", how, tuple(figures))


def all_prompts(*, quick: bool) -> Row:
    """Measures all prompts of IFEval, with one seed: a run takes an hour."""
    records = ifeval(8 if quick else None)
    found = asyncio.run(curves(records, ("best of N",), 256, (0,), "openvino"))
    found |= asyncio.run(curves(records, ("one steered text",), 256, (0,)))
    plain, steered = found.values()
    times = steered.share(1)[0] / max(plain.share(1)[0], 0.1)
    figures = [
        *points(found)[: TEXTS + 1],
        Figure("one steered text over plain", (times,), "×", Goal("≥", 2)),
    ]
    more = difference([100.0 * made.passed[-1] for made in plain.runs[0]], steered.at(0))
    sides = f"{more.value:+.1f} points, {more.low:+.1f} to {more.high:+.1f}"
    spent = steered.tokens(1)[0] / plain.tokens(TEXTS)[0]
    figures += [
        Figure(f"one steered text less best of {TEXTS}, lower end", (more.low,), "%", Goal("≥", 0), sides),
        Figure("its tokens over those", (spent,), "×", Goal("≤", 1 / 3)),
    ]
    how = HOW.format(prompts=f"all {len(records)} prompts", tokens=256, texts=TEXTS, seeds="0")
    how += " Best of N had OpenVINO, which reads the same file and is faster; steering needs llama.cpp."
    return Row("prompts of IFEval that pass", how, tuple(figures))


def speed(*, quick: bool) -> Row:
    """Measures tokens a second with and without a grammar."""
    form = Form(has=("lighthouse", "storm"), lacks=("sea", "boat"), closing="Good night.")
    rounds, tokens = (1, 40) if quick else (6, 160)

    async def written(engine: Engine, form: Form | None, streams: int) -> tuple[int, float]:
        """Counts the tokens that came while all streams wrote."""

        async def one(seed: int) -> list[float]:
            sampling = Sampling(max_tokens=tokens, seed=seed, form=form)
            message: Any = {"role": "user", "content": "Write a long story about a lighthouse in a storm."}
            async with aclosing(engine.chat([message], sampling)) as deltas:
                return [time.perf_counter() async for delta in deltas for _ in delta.tokens]

        came = await asyncio.gather(*map(one, range(streams)))
        begin, end = max(each[0] for each in came), min(each[-1] for each in came)
        return sum(begin < moment <= end for each in came for moment in each), end - begin

    async def measured() -> list[Figure]:
        figures = []
        async with aclosing(await load_engine("default", parallel=PARALLEL)) as engine:
            for streams in (1, 8):
                work = [partial(written, engine, each, streams) for each in (form, None)]
                rates = await alternate(rounds, work[0], work[1])
                goal = Goal("≥", 0.9) if streams == 8 else None
                figures.append(rates.figure(f"{streams} streams", goal, "steered", "plain"))
        return figures

    how = (
        "The default model behind llama.cpp; a story that has two words, lacks two, and ends as given. The "
        "tokens that come while all streams write are counted: the grammar is compiled before."
    )
    return Row("tokens/s with a grammar, over those without", how, tuple(asyncio.run(measured())))


ROWS = {
    "natural": natural,
    "held-out": held_out_prompts,
    "all": all_prompts,
    "speed": speed,
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/steer.py", __doc__, ROWS))
