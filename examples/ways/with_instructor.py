r"""instructor as a way of `redraft arbiter`: the checks validate a field, and what they say goes back.

pip install instructor
redraft arbiter DIR --models http://127.0.0.1:8321/v1#default-base --tasks count \
    --ways one,revise,with_instructor:instructor_retry
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import instructor
from instructor.core.exceptions import InstructorError
from openai import OpenAI
from pydantic import BaseModel, field_validator

import redraft
from redraft.evaluation.arbiter.peers import server_of
from redraft.integrations.judged import judged, wait

TEXTS = 2  # at most: an answer and a retry, as one revision of redraft


def instructor_retry(
    prompt: str, checks: Sequence[redraft.Check], *, model: str, seed: int, **sampling: Any
) -> tuple[str, int]:
    """A reply that is no JSON of the form counts as an empty answer, and takes its tokens."""
    texts, tokens = [""], []

    class Answer(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def passes(cls, text: str) -> str:
            texts.append(text)
            found = wait(judged(checks, text, prompt))
            if not found.passed:
                raise ValueError(found.feedback)
            return text

    server = server_of(model)
    client = instructor.from_openai(
        OpenAI(base_url=server.url, api_key=server.key), mode=instructor.Mode.JSON_SCHEMA
    )
    client.on("completion:response", lambda reply: tokens.append(reply.usage.completion_tokens))
    with suppress(InstructorError):  # no try is left, or a reply was cut
        client.chat.completions.create(
            model=server.model,
            messages=[{"role": "user", "content": prompt}],
            response_model=Answer,
            max_retries=TEXTS - 1,
            seed=seed,
            **sampling,
        )
    return texts[-1], sum(tokens)
