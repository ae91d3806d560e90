"""What the policy writes: records with a score each, the lines of `samples.jsonl`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redraft.chain import Chain, Finish, Step
from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.load import ends_of
from redraft.jobs.lines import LineFile, parse_line, read_lines
from redraft.train import SAMPLES

DIGITS = 6  # decimal places of a sampler's log-probability: less than what 32 bits round of −10


@dataclass(frozen=True)
class Response:
    """What the policy wrote."""

    tokens: Tokens  # the ids that were drawn, the stop token too
    text: str  # their text, without the stop token
    ended: bool
    log_probs: tuple[float, ...] = ()  # what the sampler said of each token, in nats; none if nothing


class Sampler:
    """Writes responses with the transformers engine, on the weights that are being trained.

    A chunk of prompts begins together and ends before the next begins, so that a rollout batch that is
    repeated after a stop is computed in the same batches, and has the same responses. `ctx` is the most
    tokens of prompt and response, `least` the fewest of a response.
    """

    def __init__(self, model: Any, tokenizer: Any, *, ctx: int, parallel: int, least: int = 0) -> None:
        # As in use: turns may end otherwise than texts.
        ends = ends_of(tokenizer, model.config.to_dict(), model.generation_config.to_dict())
        self._engine = HfEngine(
            model, tokenizer, name="policy", ctx=ctx, parallel=parallel, ends=ends, least=least, tempered=True
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


def recorded(record: Chain, response: Response) -> Chain:
    """Return a record with what was written for its prompt. `finish` says if it was cut."""
    finish: Finish = "stop" if response.ended else "max_tokens"
    return record.model_copy(update={"steps": (Step(answer=response.text, finish=finish),), "best": 0})


class Samples:
    """`samples.jsonl`: every response of a run with its reward, written when its chunk is judged.

    The first process writes it. A run that resumes keeps the lines of the rollout batches before its own.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SAMPLES
        self._file: LineFile | None = None

    def open(self, since: int) -> None:
        """Open the file, without what an earlier session wrote for rollout batches from `since` on."""
        if self._file:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = 0
        for line in read_lines(self._path):
            rollout = (parse_line(line) or {}).get("rollout")
            if not isinstance(rollout, int) or rollout >= since:
                break  # rollout batches stand in order
            kept += len(line)
        self._file = LineFile(self._path, made_up=True)
        self._file.cut(kept)

    def add(
        self,
        rollout: int,
        rows: Sequence[int],
        records: Sequence[Chain],
        responses: Sequence[Response],
        scores: Sequence[Mapping[str, float]],
    ) -> None:
        """Write a chunk, with id and text of each prompt. A score is what each form adds to the reward."""
        lines = [
            {
                "rollout": rollout,
                "row": row,
                "id": record.id,
                "prompt": record.prompt.said,
                "answer": response.text,
                "reward": sum(score.values()),
                **({"rewards": score} if len(score) > 1 else {}),
                "ended": response.ended,
                "tokens": response.tokens,
                **({"log_probs": response.log_probs} if response.log_probs else {}),
            }
            for row, record, response, score in zip(rows, records, responses, scores, strict=True)
        ]
        if self._file:
            self._file.append(*(json.dumps(line, ensure_ascii=False) for line in lines))
