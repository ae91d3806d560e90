r"""DSPy's Refine as a way of `redraft arbiter`: the checks are its reward.

pip install dspy
redraft arbiter DIR --models http://127.0.0.1:8321/v1#default-base --tasks count \
    --ways one,revise,with_dspy:dspy_refine
"""

from collections.abc import Sequence
from typing import Any

import dspy

import redraft
from redraft.evaluation.arbiter.peers import server_of
from redraft.integrations.judged import judged, wait

TEXTS = 2  # answers at most; between two, Refine asks the model for advice, which takes tokens too


def dspy_refine(
    prompt: str, checks: Sequence[redraft.Check], *, model: str, seed: int, **sampling: Any
) -> tuple[str, int]:
    """Refine draws at temperature 1. If no reply can be read, the answer is empty."""
    server = server_of(model)
    lm = dspy.LM(
        f"openai/{server.model}", api_base=server.url, api_key=server.key, cache=False, seed=seed, **sampling
    )

    def reward(_: dict[str, Any], found: dspy.Prediction) -> float:
        return wait(judged(checks, found.answer, prompt)).score

    refine = dspy.Refine(dspy.Predict("question -> answer"), N=TEXTS, reward_fn=reward, threshold=1.0)
    with dspy.context(lm=lm), dspy.track_usage() as tracker:
        try:
            found = refine(question=prompt)
        except Exception as error:  # Refine raises what its last try raised
            if type(error).__module__.partition(".")[0] != "dspy":
                raise
            found = None
    tokens = sum(used["completion_tokens"] for used in tracker.get_total_tokens().values())
    return getattr(found, "answer", None) or "", tokens
