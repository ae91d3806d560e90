r"""mellea as a way of `redraft arbiter`: instruct with requirements, validate, repair.

pip install mellea
redraft arbiter DIR --models http://127.0.0.1:8321/v1#default-base --tasks count \
    --ways one,revise,with_mellea:mellea_repair
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from mellea import start_session
from mellea.backends import ModelOption
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.sampling import RepairTemplateStrategy

import redraft
from redraft.evaluation.arbiter.peers import server_of
from redraft.integrations.judged import judged, wait

TEXTS = 2  # at most: an answer and a repair, as one revision of redraft
OPTIONS = {"temperature": ModelOption.TEMPERATURE, "max_tokens": ModelOption.MAX_NEW_TOKENS}


def mellea_repair(
    prompt: str, checks: Sequence[redraft.Check], *, model: str, seed: int, **sampling: Any
) -> tuple[str, int]:
    """Requirements are told in the first request too: that is mellea's way."""

    def validated(check: redraft.Check, answer: str) -> tuple[bool, str]:
        found = wait(judged([check], answer, prompt))
        return found.passed, found.feedback

    server = server_of(model)
    session = start_session(
        "openai",
        server.model,
        base_url=server.url,
        api_key=server.key,
        model_options={ModelOption.SEED: seed} | {OPTIONS[name]: value for name, value in sampling.items()},
    )
    result = session.instruct(
        prompt,
        requirements=[
            req(
                getattr(check, "demand", "") or "The answer is right.",  # a name may hold the right answer
                validation_fn=simple_validate(partial(validated, check)),
            )
            for check in checks
        ],
        strategy=RepairTemplateStrategy(loop_budget=TEXTS),
        return_sampling_results=True,
    )
    tokens = sum(each.generation.usage["completion_tokens"] for each in result.sample_generations)
    return str(result.result), tokens
