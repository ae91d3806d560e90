"""Measure the effect of steering by checks: passing first answers, their tokens, and their language.

python benchmarks/steer.py          about an hour; writes results/steer.json
python benchmarks/steer.py --only held-out
python benchmarks/steer.py --quick  a few prompts, nothing written
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from operator import or_
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import regex
import torch

import redraft
from apps_constraints import PEERS, held_out
from apps_server import serving
from material import records as ifeval
from measure import Figure, Goal, Row, Unit
from redraft.chain import Chain, Feedback, Prompt, Step, loop
from redraft.checks.base import Check, demand_of, run_checks
from redraft.checks.echo import is_echo
from redraft.checks.ifeval import Constraint
from redraft.checks.parse import parse_check
from redraft.engines.base import Engine
from redraft.engines.llamacpp.default_model import fetch_default
from redraft.engines.load import load_engine
from redraft.evaluation.stats import difference
from report import main

PARALLEL, TEXTS, TRIED = 8, 4, 16
BEST_OF: dict[str, Any] = {"mode": "best-of", "drafts": TEXTS}
WAYS: dict[str, dict[str, Any]] = {
    "best of N": {**BEST_OF, "steer": False},
    "auto": {"max_revisions": TEXTS - 1},
    "one steered text": {"max_revisions": 0},
}
COMPARED = ("best of N", "auto")
HOW = (
    "{prompts}, the default model behind llama.cpp, temperature 0.7, at most {tokens} new tokens a text and "
    "{texts} texts a prompt, seeds {seeds}. All methods have the same checks, and the model is told their "
    "demands. An answer counts if it passes all checks and is no echo. A method ends at its first text that "
    "passes; one text of best of N is plain sampling. auto: steered. Differences are paired by prompt, at "
    "the new tokens of our method: the share of the other method is interpolated between its points, and "
    "beyond its first and last points it is constant. Intervals are at 95 %."
)


@dataclass(frozen=True)
class Made:
    """A method's results for a prompt after each of `TEXTS` texts: whether one passes, and the new tokens."""

    passed: tuple[bool, ...]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, chain: Chain) -> Made:
        texts = [(_passes(step), step.usage.completion_tokens) for step in (*chain.drafts, *chain.steps)]
        good, spent = zip(*texts, strict=True)
        passed, tokens = list(accumulate(good, or_))[:TEXTS], list(accumulate(spent))[:TEXTS]
        more = TEXTS - len(passed)
        return cls((*passed, *passed[-1:] * more), (*tokens, *tokens[-1:] * more))


@dataclass(frozen=True)
class Curve:
    runs: Sequence[Sequence[Made]]

    def share(self, texts: int) -> tuple[float, ...]:
        return tuple(100 * fmean(made.passed[texts - 1] for made in run) for run in self.runs)

    def tokens(self, texts: int) -> tuple[float, ...]:
        return tuple(fmean(made.tokens[texts - 1] for made in run) for run in self.runs)

    def at(self, tokens: float) -> list[float]:
        points = [fmean(self.tokens(texts)) for texts in range(1, TEXTS + 1)]
        by_text = [
            [100 * fmean(run[n].passed[k] for run in self.runs) for n in range(len(self.runs[0]))]
            for k in range(TEXTS)
        ]
        return [float(np.interp(tokens, points, shares)) for shares in zip(*by_text, strict=True)]


async def chains(
    engine: Engine, records: Sequence[dict[str, Any]], way: str, tokens: int, seed: int
) -> list[Made]:
    slots = asyncio.Semaphore(PARALLEL)

    async def make(number: int, record: dict[str, Any]) -> Made:
        options = {"max_tokens": tokens, "seed": seed * 10_000 + number, **WAYS[way]}
        async with slots:
            chain = await redraft.arevise(record["prompt"], model=engine, checks=checks_in(record), **options)
        return Made.of(chain)

    return await asyncio.gather(*(make(number, record) for number, record in enumerate(records)))


def _passes(step: Step) -> bool:
    """Return whether a step passes all checks and is no echo. Texts that were cut off may pass too."""
    return bool(step.checks) and all(each.passed for each in step.checks) and not step.echo


def checks_in(record: Mapping[str, Any]) -> list[Check]:
    if "checks" in record:
        return [*map(parse_check, record["checks"])]
    pairs = zip(record["instruction_id_list"], record["kwargs"], strict=True)
    return [Constraint.of(kind, given) for kind, given in pairs]


async def peers(records: Sequence[dict[str, Any]], name: str, seed: int, texts: int = TEXTS) -> list[Chain]:
    running = asyncio.get_running_loop()

    async def make(number: int, record: dict[str, Any]) -> Chain:
        prompt, checks, steps = Prompt(instruction=record["prompt"]), checks_in(record), []
        asked = (url, prompt, checks, seed * 10_000 + number, texts)
        for text in await running.run_in_executor(pool, PEERS[name], *asked):
            results = tuple(await run_checks(checks, text.answer, prompt))
            found = Feedback(text="", verdict="unknown", by="checks", checks=results)
            echo = is_echo(text.answer, prompt, [demand_of(check) for check in checks])
            steps.append(Step(answer=text.answer, feedback=found, usage=text.usage, echo=echo))
        return Chain(prompt=prompt, steps=tuple(steps or [Step(answer="")]))

    with ThreadPoolExecutor(PARALLEL) as pool, serving(PARALLEL) as url:
        return await asyncio.gather(*(make(number, record) for number, record in enumerate(records)))


async def curves(
    records: Sequence[dict[str, Any]], ways: Iterable[str], tokens: int, seeds: Iterable[int]
) -> dict[str, Curve]:
    runs: dict[str, list[list[Made]]] = {way: [] for way in ways}
    async with aclosing(await load_engine("default", engine="llamacpp", parallel=PARALLEL)) as model:
        for seed in seeds:
            for way, made in runs.items():
                if way in PEERS:
                    made.append([*map(Made.of, await peers(records, way, seed))])
                else:
                    made.append(await chains(model, records, way, tokens, seed))
    return {way: Curve(made) for way, made in runs.items()}


def points(found: Mapping[str, Curve]) -> list[Figure]:
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
    lines = Path(__file__).with_name("derive_prompts.jsonl").read_text("utf-8").splitlines()
    fit = [row for row in map(json.loads, lines) if row["checks"] and all(map(PLAIN.match, row["checks"]))]
    return [row for row in fit if row["prompt"].isascii()][::3][: count or 100]


def ends_whole(text: str) -> bool:
    """Return whether a text ends like a complete one.

    It may end with a sentence, code, an emoji, a link, a hashtag, a name below a letter, a quotation, closed
    JSON, or a line of a list or poem that is as long as the others. It may also be a title. This holds for
    95.5 % of people's answers (OASST1), and for 4.8 % of the same answers cut within a sentence.
    """
    text = text.strip()
    if re.match(r'\{\s*"|\[\s*[\[{"]|\[\d+,', text):
        return text[-1] in "]}`"
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
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = fetch_default()
    given: Any = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    return AutoModelForCausalLM.from_pretrained(**given), AutoTokenizer.from_pretrained(**given)


def likelihood(prompt: str, text: str) -> float:
    model, tokenizer = base()
    message = {"role": "user", "content": prompt}
    before = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([*before, *tokenizer(text or ".", add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        chances = model(ids[None]).logits[0, len(before) - 1 : -1].log_softmax(-1)
    return float(chances.gather(1, ids[len(before) :, None]).mean())


async def first_texts(
    records: Sequence[Any], seed: int, ref: str = "default", kind: str | None = "llamacpp", **options: Any
) -> list[tuple[float, ...]]:
    async def one(number: int, record: dict[str, Any]) -> Chain:
        checks = checks_in(record)
        given = {"max_tokens": 128, "seed": seed * 10_000 + number, "max_revisions": 0, **options}
        async with slots:
            return await redraft.arevise(record["prompt"], model=model, checks=checks, **given)

    slots = asyncio.Semaphore(PARALLEL)
    async with aclosing(await load_engine(ref, engine=kind, parallel=PARALLEL)) as model:
        made = await asyncio.gather(*(one(number, record) for number, record in enumerate(records)))
    return [*map(parts, made)]


def parts(chain: Chain) -> tuple[float, ...]:
    """Return `PARTS` of the first passing text (or the last), and whether it ends without a cut or loop."""
    from wordfreq import zipf_frequency

    made = [*chain.drafts, *chain.steps]
    step, prompt = next(filter(_passes, made), made[-1]), chain.prompt.text
    words = {*WORD.findall(step.answer.replace("’", "'").lower())} - {*WORD.findall(prompt.lower())}
    odd = not all(zipf_frequency(word, "en") for word in words)
    asked = any(re.search(r":end_checker|ends:", check.name) for check in step.checks)
    found = _passes(step), odd, asked or ends_whole(step.answer)
    said = likelihood(prompt, step.answer), step.usage.completion_tokens
    return *(100.0 * each for each in found), *said, step.finish == "stop" and loop(step.answer) is None


def less_likely(
    what: str, runs: Sequence[Sequence[Sequence[float]]], chance: Mapping[int, Any], goal: Goal | None
) -> Figure:
    """Compare the likelihood of steered texts with that of unsteered texts that pass by chance, by prompt."""
    steered = [fmean(run[n][3] for run in runs) for n in chance]
    plain = [each[3] for each in chance.values()]
    found = difference(plain, steered)
    by_seed = tuple(fmean(run[n][3] - each[3] for n, each in chance.items()) for run in runs)
    return Figure(what, by_seed, "nats", goal, f"{found.low:+.2f} to {found.high:+.2f}, {len(plain)} prompts")


def natural(*, quick: bool) -> Row:
    seeds, count, figures = ((0,), 8, []) if quick else ((0, 1, 2), None, [])
    for name, records in (("IFEval", held_out(100)[:count]), ("everyday", plain_demands(count))):
        steered = [asyncio.run(first_texts(records, seed)) for seed in seeds]
        likely = [asyncio.run(first_texts(records, 0, top_p=0.95))]  # the default of the peers' server
        plain = [asyncio.run(first_texts(records, 0, steer=False))]
        chance = asyncio.run(first_texts(records, 0, steer=False, mode="best-of", drafts=TRIED))
        others = [(peer, [[*map(parts, asyncio.run(peers(records, peer, 0, 1)))]]) for peer in PEERS]
        for way, runs in (("steered", steered), ("steered, top_p 0.95", likely), ("plain", plain), *others):
            of_runs = zip(*([fmean(part) for part in zip(*run, strict=True)] for run in runs), strict=True)
            for what, unit, goal, values in zip(PARTS, UNITS, GOALS, of_runs, strict=False):
                figures.append(
                    Figure(f"{name}, {way}: {what}", values, unit, goal if steered is runs else None)
                )
        passing = {n: each for n, each in enumerate(chance) if each[0]}
        whole = {n: each for n, each in passing.items() if each[5]}
        what = f"{name}: log-likelihood beside plain that pass"
        more = f"{what}, end by themselves and repeat nothing"
        for each, found, goal in ((what, passing, Goal("≥", -0.05)), (more, whole, None)):
            figures += [less_likely(each, steered, found, goal)] if found else []
    how = (
        "100 IFEval prompts as below, and 100 everyday ones with demands (`derive_prompts.jsonl`); the "
        "default model behind llama.cpp, at most 128 new tokens, seeds 0, 1, 2 (plain, peers: 0). The checks "
        "that count are those that steer. A word of no list is neither in the prompt nor in "
        "wordfreq's English, like many names and hashtags. A text ends whole if it ends as requested, or as "
        "complete texts do: 95.5 % of people's answers, and 4.8 % of the same cut within a sentence. "
        "Likelihoods are those of the unsteered model after the bare prompt. Plain that pass: the first "
        f"unsteered text of the same prompt, of at most {TRIED}, that passes the same checks."
    )
    return Row("first texts, and how they read", how, tuple(figures))


def other_engines(*, quick: bool) -> Row:
    records, figures = held_out(100)[: 8 if quick else 50], []
    with TemporaryDirectory() as folder, serving(PARALLEL) as url:
        command = [sys.executable, "-m", "redraft", "weights", "from-gguf", str(fetch_default())]
        subprocess.run([*command, "-o", folder, "--force"], check=True)
        for name, *how in (("llama.cpp's server", url, None), ("transformers", folder, "hf")):
            for way, steer in (("steered", True), ("plain", False)):
                made = zip(*asyncio.run(first_texts(records, 0, *how, steer=steer)), strict=True)
                for what, unit, goal, values in zip(
                    PARTS, UNITS, (*GOALS[:3], None, None), made, strict=False
                ):
                    says = f"{name}, {way}: {what}"
                    figures.append(Figure(says, (fmean(values),), unit, goal if steer else None))
    how_ = "The first 50 IFEval prompts as below; `default-base`, at most 128 new tokens, seed 0."
    return Row("first texts on other engines", how_, tuple(figures))


def held_out_prompts(*, quick: bool) -> Row:
    records, seeds = held_out(100)[: 8 if quick else None], (0,) if quick else (0, 1, 2)
    found = asyncio.run(curves(records, (*COMPARED, *PEERS), 128, seeds))
    figures = [
        Figure("one steered text: share that passes", found["auto"].share(1), "%", Goal("≥", 80)),
        Figure("one steered text: new tokens a prompt", found["auto"].tokens(1), "tokens", Goal("≤", 120)),
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
    records = ifeval(8 if quick else None)
    found = asyncio.run(curves(records, ("best of N", "one steered text"), 256, (0,)))
    plain, steered = found.values()
    more = difference([100.0 * made.passed[-1] for made in plain.runs[0]], steered.at(0))
    sides = f"{more.value:+.1f} points, {more.low:+.1f} to {more.high:+.1f}"
    what = f"one steered text less best of {TEXTS}, lower end"
    figures = (*points(found)[: TEXTS + 1], Figure(what, (more.low,), "%", Goal("≥", 0), sides))
    how = HOW.format(prompts=f"all {len(records)} prompts", tokens=256, texts=TEXTS, seeds="0")
    return Row("prompts of IFEval that pass", how, figures)


def read_blind(*, quick: bool) -> Row:  # noqa: ARG001  (nothing is made)
    pairs = json.loads(Path(__file__).with_name("steer_pairs.json").read_text("utf-8"))
    readings = list(zip(*(pair["worse"] for pair in pairs), strict=True))
    figures = [
        Figure(
            f"{side} read worse",
            tuple(100 * fmean(each == side for each in one) for one in readings),
            "%",
            goal,
        )
        for side, goal in {"steered texts": Goal("≤", 55), "plain texts": None, "neither": None}.items()
    ]
    how = (
        "50 IFEval prompts and 50 everyday ones, each with a steered and an unsteered text of at most 128 "
        "new tokens. Two readers, who did not know which was which, judged only the language."
    )
    return Row("pairs, read blind", how, tuple(figures))


ROWS = {
    "natural": natural, "engines": other_engines, "blind": read_blind, "held-out": held_out_prompts,
    "all": all_prompts,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main("benchmarks/steer.py", __doc__, ROWS))
