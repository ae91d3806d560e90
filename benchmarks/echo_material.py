"""Makes revisions of the default model to be labelled: tests/data/echoes.jsonl is chosen from them.

The prompts are permissive (Apache-2.0): Vicuna's 80 questions, IFEval's instructions, Self-Instruct's seed
tasks, from the shared data beside the checkout; or, with `--questions`, a file with one on each line: those
of echo_questions.txt and echo_questions_held_out.txt were written for this. Each gets some sets of checks
in turn, most of them in verified mode and some in prompted mode. Every revision is written with what the
model had been told before it. Labels are not made here: each text is read and decided on
(tests/data/README.md).
A draft is made once and serves several sets of checks, because most of the time goes into drafts.

    python benchmarks/echo_material.py revisions.jsonl --drafts 0 96
    python benchmarks/echo_material.py new.jsonl --questions benchmarks/echo_questions.txt --drafts 0 110
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import chain as joined
from pathlib import Path
from typing import Any

import redraft
from redraft.chain import Chain, Step
from redraft.engines.base import Delta, Engine, Message, Sampling
from redraft.engines.wrapped import MeteredEngine

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("REDRAFT_SHARED", ROOT.parent / "shared"))
SEED = 12
PARALLEL = 4
PER_DRAFT = 4
"""Chains that revise one draft, each for other checks."""
LONGEST_PROMPT = 240
"""Characters. Longer prompts leave the small model's context no room, and readers no patience."""
DRAFT_TOKENS = 100
REVISION_TOKENS = 80
"""The most, so that every text can be read. What is longer is cut, and the writer is told so."""

CHECKS: Sequence[tuple[str, ...]] = (
    ("words<=30",),
    ("words<=10",),
    ("words=20..40",),
    ("words>=80",),
    ("words==12",),
    ("sentences<=1",),
    ("sentences==2",),
    ("characters<=120",),
    ("characters>=400",),
    ("paragraphs<=1", "words<=50"),
    ("contains:{word}",),
    ("contains:for example",),
    ("contains:{word}", "words<=25"),
    ("lacks:the",),
    ("lacks:{word}",),
    ("lacks:and", "sentences<=2"),
    ("starts:In short",),
    ("starts:{word}",),
    ("ends:Thank you.",),
    ("ends:{word}.",),
    ("matches:[0-9]{{4}}",),
    ("matches:^- ",),
    ("json",),
    ("number={number}",),
    ("language:fr",),
    ("language:de", "words<=40"),
    ("all(words<=20; contains:because)",),
    ("any(json; words<=12)",),
    ("command:grep -q -w water",),
    (),
    (),
    (),
)
"""One set for each chain, in turn. Where there is none, the model criticises itself."""
PROMPTED_TOO = 8
"""Every so many chains with checks, the model's own criticism joins them (prompted mode)."""


def prompts(questions: Path | None = None) -> list[tuple[str, str]]:
    """Id and text of each prompt, in an order that the seed decides."""
    found = list(_written(questions) if questions else joined(_vicuna(), _ifeval(), _seed_tasks()))
    short = [(name, text) for name, text in found if len(text) <= LONGEST_PROMPT]
    random.Random(SEED).shuffle(short)
    return short


def _written(questions: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(questions.read_text(encoding="utf-8").splitlines(), start=1):
        yield f"{questions.stem}/{number}", line


def _records(path: str) -> Iterator[dict[str, Any]]:
    with (SHARED / "data" / path).open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _vicuna() -> Iterator[tuple[str, str]]:
    for record in _records("questions/vicuna_80.jsonl"):
        yield f"vicuna_80/{record['question_id']}", record["text"]


def _ifeval() -> Iterator[tuple[str, str]]:
    for record in _records("constraints/ifeval_541.jsonl"):
        yield f"ifeval/{record['key']}", record["prompt"]


def _seed_tasks() -> Iterator[tuple[str, str]]:
    for record in _records("self_instruct/seed_tasks.jsonl"):
        given = record["instances"][0]["input"]
        yield record["id"], f"{record['instruction']}\n\n{given}".strip()


def checks_for(index: int, prompt: str) -> list[str]:
    """The checks of one chain; words and numbers that they ask for come from its prompt and the seed."""
    rng = random.Random(f"{SEED}/{index}")
    words = sorted({word for word in prompt.split() if word.isalpha() and len(word) > 5}) or ["because"]
    filled = {"word": rng.choice(words), "number": rng.randint(2, 99)}
    return [check.format(**filled) for check in CHECKS[index % len(CHECKS)]]


def revisions(made: Chain, checks: list[str]) -> Iterator[dict[str, Any]]:
    """Each revision of a chain, with the draft that it was to revise and all the feedback before it."""
    feedback: list[str] = []
    for number, step in enumerate(made.steps):
        if number and step.answer.strip():
            yield {
                "id": f"{made.id}#{number}",
                "mode": made.model["revision_mode"],
                "checks": checks,
                "prompt": made.prompt.text,
                "draft": made.steps[number - 1].answer,
                "feedback": list(feedback),
                "revision": step.answer,
            }
        if step.feedback is not None:
            feedback.append(step.feedback.text)


class Drafted(MeteredEngine):
    """An engine whose first answer is a draft that it made before."""

    def __init__(self, engine: Engine, draft: Step) -> None:
        super().__init__(engine)
        self.draft = draft

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """The draft where nothing was answered yet; else as the other engine does."""
        if all(message["role"] != "assistant" for message in messages):
            yield Delta(text=self.draft.answer, finish=self.draft.finish)
            return
        async with aclosing(super().chat(messages, sampling, stop)) as deltas:
            async for delta in deltas:
                yield delta


async def make(out: Path, asked: Sequence[tuple[str, str]], numbers: range, threads: int) -> None:
    """Makes the chains and writes their revisions as they come."""
    engine = await redraft.load_engine("default", parallel=PARALLEL, ctx=4096, threads=threads)
    free = asyncio.Semaphore(PARALLEL)
    with out.open("w", encoding="utf-8") as file:

        async def several(number: int, name: str, text: str) -> None:
            async with free:
                options: Any = {"mode": "prompted", "max_tokens": DRAFT_TOKENS, "seed": SEED + number}
                first = await redraft.arevise(text, model=engine, max_revisions=0, **options)
                drafted = Drafted(engine, first.steps[0])
                options["max_tokens"] = REVISION_TOKENS
                for index in range(number * PER_DRAFT, (number + 1) * PER_DRAFT):
                    checks = checks_for(index, text)
                    mode = "prompted" if not checks or index % PROMPTED_TOO == 0 else "verified"
                    options |= {"id": f"{index}/{name}", "checks": checks, "mode": mode}
                    made = await redraft.arevise(text, model=drafted, max_revisions=2, **options)
                    for each in revisions(made, checks):
                        file.write(json.dumps(each, ensure_ascii=False) + "\n")
                    file.flush()

        await asyncio.gather(*(several(number, *asked[number]) for number in numbers))
    await engine.aclose()


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--questions", type=Path, help="one prompt on each line")
    parser.add_argument("--drafts", type=int, nargs=2, default=(0, 96), metavar=("FROM", "TO"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    asyncio.run(make(given.out, prompts(given.questions), range(*given.drafts), given.threads))


if __name__ == "__main__":
    main()
