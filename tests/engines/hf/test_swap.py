"""Weights that change under a running engine: what was begun ends with the old ones, and nothing is kept."""

from __future__ import annotations

import asyncio
import math
from typing import Any, TypeVar

import pytest
import torch

from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine
from tests.engines.hf_folders import greedy, random_model, tokenizer
from tests.engines.talking import continued, tokens_of

T = TypeVar("T")
ASKED: Tokens = tuple(range(40, 70))


async def said(engine: HfEngine, count: int = 20) -> list[int]:
    return tokens_of(await continued(engine, ASKED, Sampling(0.0, max_tokens=count)))


async def begun(engine: HfEngine) -> None:
    while not engine._batch.busy:  # noqa: ASYNC110  (a thread has no event for its steps)
        await asyncio.sleep(0.001)


def in_memory(model: Any, **settings: Any) -> HfEngine:
    return HfEngine(model, tokenizer(), name="toy", threads=1, **settings)


def train(model: Any) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.train()


async def test_streams_under_way_end_first_and_others_wait() -> None:
    model = random_model(attention_dropout=0.5)
    before = greedy(model, ASKED, 60)

    engine = in_memory(model, ends=frozenset())
    running = asyncio.create_task(said(engine, 60))
    await begun(engine)
    async with engine.paused():
        ended = [running.done() or not engine._batch.busy]
        waiting = asyncio.create_task(said(engine))
        scoring = asyncio.create_task(engine.score([ASKED]))
        await asyncio.sleep(0.1)
        ended += [waiting.done(), scoring.done()]
        train(model)
    found = await running, await waiting, ended
    assert math.isfinite(sum((await scoring)[0]))
    await engine.aclose()
    old, new, (first, *others) = found
    assert first
    assert others == [False, False]
    assert old[: len(before)] == before
    assert new[:20] == greedy(model.eval(), ASKED, 20) != before[:20]


async def test_a_pause_that_is_given_up_disturbs_no_stream() -> None:
    model, widths = random_model(), list[int]()
    before = greedy(model, ASKED, 300)
    model.model.embed_tokens.register_forward_hook(lambda _module, ids, _out: widths.append(ids[0].shape[1]))

    engine = in_memory(model, ends=frozenset())
    widths.clear()
    running = asyncio.create_task(said(engine, 300))
    await begun(engine)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), engine.paused():
            raise AssertionError("the stream is still running")
    found = await running
    await engine.aclose()
    assert found[: len(before)] == before
    assert [width for width in widths if width > 1] == [len(ASKED) - 1], "the prompt is read once"


async def test_a_score_has_the_new_weights() -> None:
    model = random_model()

    engine = in_memory(model)
    found = [await engine.score([ASKED])]
    async with engine.paused():
        train(model)
    found.append(await engine.score([ASKED]))
    await engine.aclose()
    fresh = in_memory(model)
    found.append(await fresh.score([ASKED]))
    await fresh.aclose()
    old, new, fresh = found
    assert new == fresh != old


async def test_a_pause_within_a_pause_leaves_the_model_to_the_trainer() -> None:
    model = random_model(attention_dropout=0.5)

    engine, training = in_memory(model), []
    async with engine.paused():
        model.train()
        async with engine.paused():
            pass
        training.append(model.training)
    training.append(model.training)
    await engine.aclose()
    assert training == [True, False]


async def test_a_closed_engine_does_not_hang() -> None:
    engine = in_memory(random_model())
    await engine.aclose()
    async with asyncio.timeout(5), engine.paused():
        pass
