"""How fast the engines of this machine compute a model: tokens a second, with one stream and with several.

Each writes for a fixed time, whatever the machine, so that a measurement takes about a minute. A server's
speed is another question, since its network and its other users count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count
from typing import NamedTuple

from redraft.engines.base import Engine, Replies, Sampling
from redraft.engines.load import has_llamacpp, has_openvino, kind_of, load_engine, parse_reference
from redraft.errors import EngineError, MissingExtra, UsageError
from redraft.options import EngineName

_log = logging.getLogger(__name__)

STREAMS = (1, 8)
SECONDS = 8.0  # for which each engine writes, with each number of streams
_ANSWER = 128  # tokens of an answer, after which another is begun


class Speed(NamedTuple):
    """The tokens that an engine writes in a second, in all of so many streams."""

    engine: EngineName
    streams: int
    rate: float


async def speeds(reference: str) -> AsyncGenerator[Speed, None]:
    """Measure each installed engine that reads a model, with each number of `STREAMS`.

    Log why an engine cannot read it.

    Raises:
        UsageError: The model is not on this machine, or no engine for it is installed.
        EngineError: No engine can load the model.
    """
    engines = kind_of(parse_reference(reference)).engines
    if not engines:
        raise UsageError(f"{reference:.120} is computed elsewhere.", hint="Name a GGUF file or a folder.")
    there = {"llamacpp": has_llamacpp(), "openvino": has_openvino(), "hf": True}
    found = [engine for engine in engines if there[engine]]
    if not found:
        raise MissingExtra("a model on this machine", "local")
    for number, engine in enumerate(found):
        try:
            for streams in STREAMS:
                async with aclosing(await load_engine(reference, engine=engine, parallel=streams)) as opened:
                    yield Speed(engine, streams, await _rate(opened, streams))
        except EngineError as error:
            if number == 0:
                raise
            _log.warning(error.message)


async def _rate(engine: Engine, streams: int) -> float:
    """Return the tokens a second of `streams` streams, prompts included."""
    clock, tokens, numbers = asyncio.get_running_loop().time, 0, count()
    await anext(_answer(engine, next(numbers)))
    begun = clock()

    async def write() -> None:
        nonlocal tokens
        while True:
            async with aclosing(_answer(engine, next(numbers))) as deltas:
                async for delta in deltas:
                    tokens += len(delta.tokens)
                    if clock() - begun >= SECONDS:
                        return

    await asyncio.gather(*(write() for _ in range(streams)))
    return tokens / (clock() - begun)


def _answer(engine: Engine, number: int) -> Replies:
    """Begin an answer to a new question, of which no cache has anything."""
    question = f"Chapter {number + 1}: write a long tale of a lighthouse, its keeper and {number + 2} ships."
    sampling = Sampling(max_tokens=_ANSWER, seed=number)
    if engine.info.chats:
        return engine.chat([{"role": "user", "content": question}], sampling)
    return engine.stream(question, sampling)
