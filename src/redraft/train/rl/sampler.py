"""Write responses with the transformers engine, on the weights that are being trained.

The engine takes the model as it is in memory, without peft for the time of a rollout batch. A
chunk of prompts begins together and ends before the next begins, so that a chunk that is repeated after a
stop is computed in the same batches, and gives the same responses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.load import ends_of


@dataclass(frozen=True)
class Response:
    """What the policy wrote.

    Attributes:
        tokens: The ids that were drawn, the stop token too.
        text: Their text, without the stop token.
        ended: Whether it ended by itself.
        log_probs: What the sampler said of each token at the temperature, in nats; none if it does not say.
    """

    tokens: Tokens
    text: str
    ended: bool
    log_probs: tuple[float, ...] = ()


DIGITS = 6
"""Decimal places of a sampler's log-probability: less than what 32 bits round of −10."""


def ends_of_model(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a response, as when the model is used. Turns may end otherwise than texts.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
    """
    return ends_of(tokenizer, model.config.to_dict(), model.generation_config.to_dict())


class Sampler:
    """Writes responses to prompts that are given as tokens.

    Args:
        model: A causal language model without peft (`policy.unwrapped`).
        tokenizer: Its tokenizer.
        ctx: The most tokens of prompt and response.
        parallel: Responses at once.
        least: Tokens that a response has at least.
    """

    def __init__(self, model: Any, tokenizer: Any, *, ctx: int, parallel: int, least: int = 0) -> None:
        ends = ends_of_model(model, tokenizer)
        self._engine = HfEngine(
            model,
            tokenizer,
            name="policy",
            ctx=ctx,
            parallel=parallel,
            ends=ends,
            least=least,
            tempered=True,
        )

    async def chunk(self, prompts: Sequence[Tokens], samplings: Sequence[Sampling]) -> list[Response]:
        """Write a response to each prompt, all in the same batches."""
        async with self._engine.paused():  # the cache is empty, and none begins before all are there
            pairs = zip(prompts, samplings, strict=True)
            begun = [asyncio.ensure_future(self._one(*pair)) for pair in pairs]
            await asyncio.sleep(0)
        return await asyncio.gather(*begun)

    async def _one(self, prompt: Tokens, sampling: Sampling) -> Response:
        tokens: list[int] = []
        texts: list[str] = []
        log_probs: list[float] = []
        ended = False
        async with aclosing(self._engine.stream(prompt, replace(sampling, logprobs=True))) as deltas:
            async for delta in deltas:
                tokens += delta.tokens
                texts.append(delta.text)
                log_probs += delta.logprobs
                ended = delta.finish == "stop"
        said = tuple(round(each, DIGITS) for each in log_probs)
        return Response(tuple(tokens), "".join(texts), ended, said)

    async def aclose(self) -> None:
        """End the engine's thread."""
        await self._engine.aclose()
