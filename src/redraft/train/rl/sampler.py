"""Write responses with the transformers engine, on the weights that are being trained.

The engine takes the model as it is in memory, with the adapter merged for the time of a rollout batch. A
chunk of prompts begins together and ends before the next begins, so that a chunk that is repeated after a
stop is computed in the same batches, and gives the same responses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine


@dataclass(frozen=True)
class Response:
    """What the policy wrote.

    Attributes:
        tokens: The ids that were drawn, the stop token too.
        text: Their text, without the stop token.
        ended: Whether it ended by itself.
    """

    tokens: Tokens
    text: str
    ended: bool


class Sampler:
    """Writes responses to prompts that are given as tokens.

    Args:
        model: A causal language model without adapters (`policy.merged`).
        tokenizer: Its tokenizer.
        ctx: The most tokens of prompt and response.
        parallel: Responses at once.
        least: Tokens that a response has at least.
    """

    def __init__(self, model: Any, tokenizer: Any, *, ctx: int, parallel: int, least: int = 0) -> None:
        end = int(tokenizer.eos_token_id)
        self._engine = HfEngine(
            model, tokenizer, name="policy", ctx=ctx, parallel=parallel, ends=frozenset({end}), least=least
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
        ended = False
        async with aclosing(self._engine.stream(prompt, sampling)) as deltas:
            async for delta in deltas:
                tokens += delta.tokens
                texts.append(delta.text)
                ended = delta.finish == "stop"
        return Response(tuple(tokens), "".join(texts), ended)

    async def aclose(self) -> None:
        """End the engine's thread."""
        await self._engine.aclose()
