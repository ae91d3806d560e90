"""An enforced step of a native chain at 1,700 tokens of context: what it takes to rewind, force and go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from material import default_model
from measure import Figure, Goal, Row, Size
from redraft.chain import Prompt
from redraft.chain.selfee import (
    DONE_PHRASES,
    REVISE_PHRASE,
    feedback_heading,
    render_prompt,
    revision_heading,
)
from redraft.engines.base import Engine
from redraft.engines.load import load_engine
from redraft.revision.api import arevise
from taps import Request, Tap

MEASURE = "native enforced step at 1,700 tokens of context"
HOW = (
    "An instruction with many worked examples makes the default model write the headings and a phrase "
    "that ends the chain all by itself. Timed through the real loop and engine: from the phrase arriving "
    "to the first token that the model writes after `Revision is needed`. In between, the phrase is cut "
    "off, the cache is rewound, and the forced tokens are computed. The tokens of that request's prompt "
    "that had to be computed are counted too: if the prompt were computed again, they would be all of it."
)
CONTEXT = 1_700
GOALS = Goal("≤", 100.0)
RECOMPUTED = 32
"""Most tokens that count as going on: a forced phrase and the pieces around it, far below any prompt."""

FACTS = (
    ("capital of France", "Paris"),
    ("capital of Italy", "Rome"),
    ("largest planet", "Jupiter"),
    ("colour of grass", "green"),
    ("opposite of hot", "cold"),
    ("first month of the year", "January"),
    ("language of Brazil", "Portuguese"),
    ("metal in a steel bridge", "iron"),
    ("animal that gives wool", "the sheep"),
    ("star nearest to the Earth", "the Sun"),
)
LAST = (
    "capital of Spain",
    "capital of Greece",
    "colour of snow",
    "opposite of big",
    "last month of the year",
)


@dataclass(frozen=True)
class Enforced:
    """One enforced step."""

    milliseconds: float  # from the phrase to the next token
    processor: float  # milliseconds of processor time of all processes, meanwhile
    context: int  # tokens of the prompt with which the model went on
    recomputed: int | None  # how many of those were not in the cache; None if the engine does not tell


def run(size: Size) -> Row:
    """Measures the row."""
    steps = asyncio.run(_measure(size))
    if not steps:
        return Row(MEASURE, HOW, (), ("Not measured: the model never wrote the phrase.",))
    times = Figure("phrase to next token", tuple(s.milliseconds for s in steps), "ms", GOALS, _side(steps))
    busy = Figure("processor time meanwhile", tuple(s.processor for s in steps), "ms")
    return Row(MEASURE, HOW, (times, busy), (_computed(steps),))


def _computed(steps: Sequence[Enforced]) -> str:
    told = [step.recomputed for step in steps if step.recomputed is not None]
    if len(told) < len(steps):
        return "The engine does not tell how many tokens of the prompt it computed."
    verdict = "no re-prefill" if max(told) <= RECOMPUTED else "RE-PREFILLED"
    return f"Prompt tokens computed: at most {max(told)}; {verdict}."


def _side(steps: Sequence[Enforced]) -> str:
    contexts = [step.context for step in steps]
    return f"context {min(contexts):,} to {max(contexts):,} tokens"


async def _measure(size: Size) -> list[Enforced]:
    engine = await load_engine(str(default_model()), engine="llamacpp", threads=size.threads)
    instructions = [await instruction_of(engine, asked, CONTEXT) for asked in LAST[: size.questions]]
    steps: list[Enforced] = []
    for _ in range(size.rounds):
        for instruction in instructions:
            steps += await enforced_steps(engine, instruction)
    await engine.aclose()
    return steps


async def instruction_of(engine: Engine, asked: str, context: int) -> str:
    """Worked examples and a last question, so many that the whole comes close to a context in tokens."""
    examples: list[str] = []
    whole = last = f"What is the {asked}?"
    while len(await engine.encode(render_prompt(Prompt(instruction=whole)), special=True)) < context:
        examples.append(example(len(examples)))
        whole = "".join([*examples, last])
    return whole


def example(number: int) -> str:
    """A worked example, up to where the next one begins. In every fourth the answer is revised."""
    what, answer = FACTS[number % len(FACTS)]
    good = f"The {what} is {answer}."
    if number % 4 == 3:
        steps = (
            f"{answer}.{feedback_heading(1)}This is no sentence. {REVISE_PHRASE}.{revision_heading(1)}{good}"
        )
    else:
        steps = f"{good}{feedback_heading(1)}The answer is right and clear. {DONE_PHRASES[0]}."
    return f"What is the {what}?\n\n### Answer:\n{steps}\n\n### Instruction:\n"


async def enforced_steps(engine: Engine, instruction: str) -> list[Enforced]:
    """The enforced steps of one chain: none where the model did not write the phrase by itself."""
    tap = Tap(engine)
    await arevise(
        instruction,
        model=tap,
        mode="native",
        min_revisions=1,
        max_revisions=1,
        max_tokens=120,
        temperature=0.0,
    )
    pairs = zip(tap.requests, tap.requests[1:], strict=False)
    return [step for before, after in pairs if (step := _step(before, after))]


def _step(before: Request, after: Request) -> Enforced | None:
    """The time between two requests, if a phrase in the feedback ended the first and the second went on."""
    if before.last.stop_text not in DONE_PHRASES or before.ended is None or after.first is None:
        return None
    prompt, cached = after.last.prompt_tokens or 0, after.last.cached_tokens
    busy = after.busy[0] - before.busy[-1]
    computed = None if cached is None else prompt - cached
    return Enforced((after.first - before.ended) * 1000, busy * 1000, prompt, computed)
