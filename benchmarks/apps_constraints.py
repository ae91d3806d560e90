"""The held-out prompts of `steer.py`, and the peers that answer them: mellea and instructor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from material import records
from redraft.chain import Prompt, Usage
from redraft.checks.base import Check, demand_of, run_checks

TOKENS = 128
TUNED = 30  # the shortest prompts, on which the wording of requests was chosen
MOST_WORDS, WORDS_IN = 80, {"words": 1, "sentences": 12}
"""Limits of a short answer. Prompts that require longer ones are left out, because answers would be cut."""


@dataclass(frozen=True)
class Text:
    """A peer's text, with its usage. The text is empty if the peer's reply could not be read."""

    answer: str
    usage: Usage


Peer = Callable[[str, Prompt, Sequence[Check], int, int], list[Text]]
"""Answers a prompt with at most the given number of texts, and returns these texts in order."""


SHORT = (
    *("punctuation:no_comma", "keywords:forbidden_words", "keywords:existence", "startend:quotation"),
    *("startend:end_checker", "detectable_content:postscript", "detectable_format:json_format"),
)
"""Constraints that a short answer can meet. It can also meet some length constraints: see `is_short`."""


def is_short(name: str, values: Mapping[str, Any]) -> bool:
    kind, _, unit = name.partition(":number_")
    if kind != "length_constraints" or unit not in ("words", "sentences"):
        return name in SHORT
    return values["relation"] != "at least" or values[f"num_{unit}"] * WORDS_IN[unit] <= MOST_WORDS


def held_out(most: int) -> list[dict[str, Any]]:
    found = [each for each in records() if all(map(is_short, each["instruction_id_list"], each["kwargs"]))]
    return sorted(found, key=lambda each: len(each["prompt"]))[TUNED : TUNED + most]


def found_by(checks: Sequence[Check], answer: str, prompt: Prompt) -> tuple[bool, str]:
    """Run checks in another thread, because a peer's event loop may be running. Return verdict and faults."""
    with ThreadPoolExecutor(1) as aside:
        results = aside.submit(asyncio.run, run_checks(checks, answer, prompt)).result()
    failed = [result.message for result in results if not result.passed]
    return not failed, "\n".join(failed)


def by_mellea(url: str, prompt: Prompt, checks: Sequence[Check], seed: int, most: int) -> list[Text]:
    from mellea import start_session
    from mellea.backends import ModelOption
    from mellea.stdlib.requirements import req, simple_validate
    from mellea.stdlib.sampling import RepairTemplateStrategy

    def validation(check: Check) -> Callable[[str], tuple[bool, str]]:
        return lambda answer: found_by([check], answer, prompt)

    options = {ModelOption.MAX_NEW_TOKENS: TOKENS, ModelOption.TEMPERATURE: 0.7, ModelOption.SEED: seed}
    result = start_session("openai", "default", base_url=url, api_key="none", model_options=options).instruct(
        prompt.text,
        requirements=[
            req(demand_of(check), validation_fn=simple_validate(validation(check))) for check in checks
        ],
        strategy=RepairTemplateStrategy(loop_budget=most),
        return_sampling_results=True,
    )
    return [Text(str(each), _usage(each.generation.usage)) for each in result.sample_generations]


def by_instructor(url: str, prompt: Prompt, checks: Sequence[Check], seed: int, most: int) -> list[Text]:
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
    with contextlib.suppress(InstructorError):  # no tries left, or the reply was cut
        client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": f"{prompt.text}\n\n{demands}"}],
            response_model=Answer,
            max_retries=most - 1,
            max_tokens=TOKENS,
            temperature=0.7,
            seed=seed,
        )
    return texts


def _usage(used: Any) -> Usage:
    return Usage(prompt_tokens=used["prompt_tokens"], completion_tokens=used["completion_tokens"])


PEERS: dict[str, Peer] = {"mellea": by_mellea, "instructor": by_instructor}
