"""Which way of asking meets most constraints with the same number of texts: redraft's or mellea's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import mean
from typing import Any

import redraft
from apps_server import serving
from measure import Figure, Goal, Row
from redraft.engines.remote.engine import RemoteEngine
from redraft.evaluate import stats
from redraft.verify.base import demand_of, outcome_of
from redraft.verify.echo import echoes
from wording import PROMPTS, prompts

MEASURE = "constraints of held-out prompts that are met, at most four texts a prompt"
TOKENS, TEXTS, PARALLEL = 128, 4, 4
HOW = (
    "{prompts} IFEval prompts whose constraints are checks of redraft, without the 30 that the wording of "
    "redraft's requests was chosen on; the default model behind one llama.cpp server, temperature 0.7, at "
    "most {tokens} new tokens a text and {texts} texts a prompt, the same seeds. An answer counts if it "
    "passes all checks and is no echo (of what was demanded, or talk about the answer). The prompts state "
    "their constraints already. `told` means that the demands of the checks are listed below the prompt. "
    "mellea: instruct with the same sentences as requirements and the same checks as validation, "
    "RepairTemplateStrategy. Rounds with other seeds: {seeds}. Intervals are at 95 %, a bootstrap's over "
    "prompts."
)
SEEDS = 1
"""Rounds over the prompts."""
OURS, THEIRS = "best of 4, told", ("one plain answer", "best of 4", "mellea")
"""The way of redraft that is compared, and with what. It was the best of earlier runs on these prompts."""
OPTIONS: dict[str, dict[str, Any]] = {
    "one plain answer": {"max_revisions": 0, "tell_checks": False},
    "one answer, told": {"max_revisions": 0},
    "best of 4": {"mode": "best-of", "drafts": TEXTS, "tell_checks": False},
    "best of 4, told": {"mode": "best-of", "drafts": TEXTS},
    "revised, not told": {"max_revisions": TEXTS - 1, "tell_checks": False},
    "revised, told": {"max_revisions": TEXTS - 1},
    "best of 2 revised, told": {"drafts": 2, "max_revisions": TEXTS - 2},
}
Asked = tuple[str, list[str], int]


@dataclass(frozen=True)
class Made:
    """An answer: whether it counts, whether the first text did, and the new tokens of all texts."""

    passed: bool
    first: bool
    tokens: int


def held_out(most: int, round_: int) -> list[Asked]:
    """Returns prompts that the wording was not chosen on, with their checks and the seeds of a round."""
    asked = prompts(PROMPTS + most)[PROMPTS:]
    return [
        (prompt, checks, random.Random(f"apps/{round_}/{i}").randrange(2**31))
        for i, (prompt, checks) in enumerate(asked)
    ]


async def counts(answer: str, prompt: str, checks: Sequence[str]) -> bool:
    """Returns whether an answer passes and is no echo."""
    parsed = [redraft.parse_check(check) for check in checks]
    if not answer.strip() or echoes(answer, [demand_of(check) for check in parsed], prompt):
        return False
    return all(
        [(await outcome_of(check, answer, redraft.Prompt(instruction=prompt))).passed for check in parsed]
    )


async def ours(url: str, options: dict[str, Any], asked: Sequence[Asked]) -> list[Made]:
    """Makes the chains of one way."""
    engine, room = await RemoteEngine.connect(url), asyncio.Semaphore(PARALLEL)

    async def make(prompt: str, checks: list[str], seed: int) -> Made:
        async with room:
            chain = await redraft.arevise(
                prompt, model=engine, checks=checks, max_tokens=TOKENS, seed=seed, **options
            )
        first = (*chain.drafts, *chain.steps)[0].answer
        return Made(
            await counts(chain.answer, prompt, checks),
            await counts(first, prompt, checks),
            chain.usage.completion_tokens,
        )

    made = await asyncio.gather(*(make(*each) for each in asked))
    await engine.aclose()
    return made


async def mellea(url: str, _: dict[str, Any], asked: Sequence[Asked]) -> list[Made]:
    """Makes mellea's answers, in threads of their own."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        loop = asyncio.get_running_loop()
        texts = await asyncio.gather(*(loop.run_in_executor(pool, _instructed, url, *each) for each in asked))
    return [
        Made(await counts(answer, prompt, checks), await counts(first, prompt, checks), tokens)
        for (answer, first, tokens), (prompt, checks, _seed) in zip(texts, asked, strict=True)
    ]


def _instructed(url: str, prompt: str, checks: Sequence[str], seed: int) -> tuple[str, str, int]:
    from mellea import start_session
    from mellea.backends import ModelOption
    from mellea.stdlib.requirements import req, simple_validate
    from mellea.stdlib.sampling import RepairTemplateStrategy

    def validation(check: redraft.Check) -> Callable[[str], tuple[bool, str]]:
        def validate(answer: str) -> tuple[bool, str]:  # in mellea's event loop, so not in this thread
            asked = outcome_of(check, answer, redraft.Prompt(instruction=prompt))
            with ThreadPoolExecutor(1) as aside:
                outcome = aside.submit(asyncio.run, asked).result()
            return outcome.passed, outcome.message

        return validate

    options = {ModelOption.MAX_NEW_TOKENS: TOKENS, ModelOption.TEMPERATURE: 0.7, ModelOption.SEED: seed}
    session = start_session("openai", "default", base_url=url, api_key="none", model_options=options)
    result = session.instruct(
        prompt,
        requirements=[
            req(demand_of(check), validation_fn=simple_validate(validation(check)))
            for check in map(redraft.parse_check, checks)
        ],
        strategy=RepairTemplateStrategy(loop_budget=TEXTS),
        return_sampling_results=True,
    )
    made = result.sample_generations
    tokens = sum(each.generation.usage["completion_tokens"] for each in made)
    return str(result.result), str(made[0].value), tokens


Rounds = list[list[Made]]


async def measure(most: int) -> Row:
    """Measures every way."""
    ways: dict[str, tuple[Callable[..., Awaitable[list[Made]]], dict[str, Any]]] = {
        **{name: (ours, options) for name, options in OPTIONS.items()},
        "mellea": (mellea, {}),
    }
    made: dict[str, Rounds] = {}
    with serving(PARALLEL) as url:
        for name, (make, options) in ways.items():
            made[name] = [await make(url, options, held_out(most, round_)) for round_ in range(SEEDS)]
            print(figure_of(name, made[name]), flush=True)
    figures = [figure_of(name, rounds) for name, rounds in made.items()]
    figures += [against(name, made[OURS], made[name]) for name in THEIRS]
    how = HOW.format(prompts=most, tokens=TOKENS, texts=TEXTS, seeds=SEEDS)
    return Row(MEASURE, how, tuple(figures))


def shares(rounds: Rounds) -> list[float]:
    """Returns the share of seeds, in per cent, for which each prompt's answer counts."""
    return [100 * mean(each.passed for each in made) for made in zip(*rounds, strict=True)]


def against(name: str, ours: Rounds, theirs: Rounds) -> Figure:
    """Returns the lower end of the difference's interval, which is above 0 if redraft's way is better."""
    found = stats.difference(shares(theirs), shares(ours))
    sides = f"{found.value:+.1f} points, {found.low:+.1f} to {found.high:+.1f}"
    return Figure(f"{OURS} less {name}, lower end", (found.low,), "%", Goal("≥", 0.1), sides)


def figure_of(name: str, rounds: Rounds) -> Figure:
    """Returns the share of answers that count, with its interval and cost."""
    found = stats.mean(shares(rounds))
    answers = [each for made in rounds for each in made]
    sides = (
        f"{sum(each.passed for each in answers)} of {len(answers)}, interval {found.low:.0f} to "
        f"{found.high:.0f} %; {sum(each.first for each in answers)} at first; "
        f"{mean(each.tokens for each in answers):.0f} new tokens a prompt"
    )
    return Figure(name, (found.value,), "%", None, sides)
