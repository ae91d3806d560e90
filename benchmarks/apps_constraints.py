"""Which way of asking meets most constraints for its tokens: redraft's ways, mellea's or instructor's.

`redraft diagnose --run` makes redraft's runs, and the peers' answers are put beside them as other ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from apps_server import serving
from material import records
from measure import Figure, Goal, Row
from redraft.chain import Chain, Prompt, Step, Usage, write_jsonl
from redraft.evaluation.diagnosis.equal_tokens import Curves, curves_in, named
from redraft.evaluation.tasks.tasks import asked, checks_of, scored, task_named
from redraft.formats.read.records import read_records
from redraft.ids import derived_seed
from redraft.verify.base import Check, demand_of, run_checks
from redraft.verify.echo import is_echo

MEASURE = "constraints of held-out prompts that are met"
TOKENS, TEXTS, PARALLEL, SEED = 128, 4, 4, 0
TUNED = 30
"""The shortest prompts, on which the wording of requests was chosen."""
MOST_WORDS, WORDS_IN = 80, {"words": 1, "sentences": 12}
"""Prompts that want longer answers are left out: they would be cut."""
OURS, THEIRS = ("best-of", "revise", "auto"), ("mellea", "instructor")
HOW = (
    "{prompts} IFEval prompts whose constraints short answers can meet, without the {tuned} that the wording "
    "of redraft's requests was chosen on; the default model behind one llama.cpp server, temperature 0.7, at "
    "most {tokens} new tokens a text and {texts} texts a prompt. An answer counts if it passes IFEval's "
    "checks and is no echo. All ways have the same checks and are told their demands. redraft: `redraft "
    "diagnose --run ifeval`. mellea: instruct with requirements, the checks as validation, "
    "RepairTemplateStrategy. instructor: a model with one text, the checks as its validator, retried with "
    "the validation error. Differences are at equal new tokens, on the line between a way's own points, but "
    "for those from one answer, which takes fewer; intervals are at 95 %, a bootstrap's over prompts."
)


@dataclass(frozen=True)
class Text:
    """A text of a peer, empty if it gave none that could be read, and what it took."""

    answer: str
    usage: Usage


Peer = Callable[[str, Prompt, Sequence[Check], int], list[Text]]
"""Asks for an answer, and returns the texts that the peer made of it, in order."""


SHORT = (
    *("punctuation:no_comma", "keywords:forbidden_words", "keywords:existence", "startend:quotation"),
    *("startend:end_checker", "detectable_content:postscript", "detectable_format:json_format"),
)
"""Constraints that a short answer can meet; so can it some lengths."""


def is_short(name: str, values: Mapping[str, Any]) -> bool:
    """Returns whether a short answer can meet a constraint."""
    kind, _, unit = name.partition(":number_")
    if kind != "length_constraints" or unit not in ("words", "sentences"):
        return name in SHORT
    return values["relation"] != "at least" or values[f"num_{unit}"] * WORDS_IN[unit] <= MOST_WORDS


def held_out(most: int) -> list[dict[str, Any]]:
    """Returns the IFEval records with the shortest prompts that suit, without those of `TUNED`."""
    found = [each for each in records() if all(map(is_short, each["instruction_id_list"], each["kwargs"]))]
    return sorted(found, key=lambda each: len(each["prompt"]))[TUNED : TUNED + most]


def found_by(checks: Sequence[Check], answer: str, prompt: Prompt) -> tuple[bool, str]:
    """Runs the checks from a thread of a peer, whose event loop may be running."""
    with ThreadPoolExecutor(1) as aside:
        results = aside.submit(asyncio.run, run_checks(checks, answer, prompt)).result()
    failed = [result.message for result in results if not result.passed]
    return not failed, "\n".join(failed)


def by_mellea(url: str, prompt: Prompt, checks: Sequence[Check], seed: int) -> list[Text]:
    """Asks mellea to instruct, validate and repair."""
    from mellea import start_session
    from mellea.backends import ModelOption
    from mellea.stdlib.requirements import req, simple_validate
    from mellea.stdlib.sampling import RepairTemplateStrategy

    def validation(check: Check) -> Callable[[str], tuple[bool, str]]:
        return lambda answer: found_by([check], answer, prompt)

    options = {ModelOption.MAX_NEW_TOKENS: TOKENS, ModelOption.TEMPERATURE: 0.7, ModelOption.SEED: seed}
    session = start_session("openai", "default", base_url=url, api_key="none", model_options=options)
    result = session.instruct(
        prompt.text,
        requirements=[
            req(demand_of(check), validation_fn=simple_validate(validation(check))) for check in checks
        ],
        strategy=RepairTemplateStrategy(loop_budget=TEXTS),
        return_sampling_results=True,
    )
    return [Text(str(each), _usage(each.generation.usage)) for each in result.sample_generations]


def by_instructor(url: str, prompt: Prompt, checks: Sequence[Check], seed: int) -> list[Text]:
    """Asks instructor for an object with one text, retried with the validation error."""
    import instructor
    from instructor.core.exceptions import InstructorError
    from openai import OpenAI
    from pydantic import BaseModel, field_validator

    class Answer(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def _meets(cls, text: str) -> str:
            texts[-1] = replace(texts[-1], answer=text)
            passed, message = found_by(checks, text, prompt)
            if not passed:
                raise ValueError(message)
            return text

    texts: list[Text] = []
    client = instructor.from_openai(OpenAI(base_url=url, api_key="none"), mode=instructor.Mode.JSON_SCHEMA)
    client.on("completion:response", lambda reply: texts.append(Text("", _usage(reply.usage.model_dump()))))
    demands = "\n".join(f"- {demand_of(check)}" for check in checks)
    with contextlib.suppress(InstructorError):  # tries used up, or a reply that was cut
        client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": f"{prompt.text}\n\n{demands}"}],
            response_model=Answer,
            max_retries=TEXTS - 1,
            max_tokens=TOKENS,
            temperature=0.7,
            seed=seed,
        )
    return texts


def _usage(used: Any) -> Usage:
    return Usage(prompt_tokens=used["prompt_tokens"], completion_tokens=used["completion_tokens"])


PEERS: dict[str, Peer] = {"mellea": by_mellea, "instructor": by_instructor}


async def chains_of(peer: Peer, url: str, records: Sequence[Chain]) -> list[Chain]:
    """Makes a peer's answers in threads of their own, as chains with truth."""
    loop = asyncio.get_running_loop()

    async def make(record: Chain) -> Chain:
        checks = checks_of(task_named("ifeval"), record)
        seed = derived_seed(SEED, record.id)
        texts = await loop.run_in_executor(pool, peer, url, record.prompt, checks, seed)
        answer = texts[-1].answer
        echo = is_echo(answer, record.prompt, [demand_of(check) for check in checks])
        usage = sum((text.usage for text in texts), Usage())
        step = Step(answer=answer, echo=echo, usage=usage)
        chain = record.model_copy(update={"steps": (step,), "best": 0, "usage": usage})
        return await scored(chain, "ifeval", checks)

    with ThreadPoolExecutor(PARALLEL) as pool:
        return await asyncio.gather(*map(make, records))


async def measure(most: int) -> Row:
    """Measures every way."""
    with TemporaryDirectory() as folder, serving(PARALLEL) as url:
        file, runs = Path(folder, "held_out.jsonl"), Path(folder, "runs")
        await asyncio.to_thread(_run, most, file, runs, url)
        records = list(asked(task_named("ifeval"), read_records(file)))
        for name, peer in PEERS.items():
            write_jsonl(runs / f"seed-{SEED}" / f"{name}-{TEXTS}.jsonl", await chains_of(peer, url, records))
        found = curves_in(runs)
    how = HOW.format(prompts=most, tuned=TUNED, tokens=TOKENS, texts=TEXTS)
    return Row(MEASURE, how, (*map(_point, found.points), *_differences(found)))


def _run(most: int, file: Path, runs: Path, url: str) -> None:
    """Writes the records, and makes redraft's runs of them."""
    file.write_text("".join(json.dumps(record) + "\n" for record in held_out(most)), encoding="utf-8")
    numbers = {"--seeds": 1, "--samples": TEXTS, "--max-revisions": TEXTS - 1, "--max-tokens": TOKENS}
    options = [
        str(each) for pair in {**numbers, "--seed": SEED, "--parallel": PARALLEL}.items() for each in pair
    ]
    command = ["diagnose", "--run", "ifeval", str(file), "-o", str(runs), "-m", f"{url}#default", *options]
    subprocess.run(
        [sys.executable, "-m", "redraft", *command, "--json"], check=True, stdout=subprocess.DEVNULL
    )


def _point(point: Any) -> Figure:
    score = point.score.times(100)
    sides = f"interval {score.low:.0f} to {score.high:.0f} %; {point.tokens:.0f} new tokens a prompt"
    return Figure(f"{named(point.way.kind)}, {point.way.texts} texts", (score.value,), "%", None, sides)


def _differences(found: Curves) -> list[Figure]:
    """Returns the lower ends of differences, which are above 0 if redraft's way is better.

    One answer never takes as many tokens, so that difference is marked as one at fewer tokens.
    """
    figures = []
    for ours in OURS:
        for theirs in (*THEIRS, *(kind for kind in ("plain", "best-of") if kind != ours)):
            each = found.against(ours, theirs)
            gain = each.decision.gain.times(100)
            at = (
                f"at {each.at:.0f} new tokens"
                if each.basis == "equal"
                else f"{each.basis} tokens: {each.at:.0f}"
            )
            sides = f"{gain.value:+.1f} points, {gain.low:+.1f} to {gain.high:+.1f}, {at}"
            name = f"{named(ours)} less {named(theirs)}, lower end"
            figures.append(Figure(name, (gain.low,), "%", Goal("≥", 0.1), sides))
    return figures
