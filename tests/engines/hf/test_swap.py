"""Weights that change under a running engine: what was begun ends with the old ones, and nothing is kept."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine
from redraft.engines.load import load_engine
from redraft.errors import EngineError, ModelError, UsageError
from tests.engines.hf.test_load import rewrite
from tests.engines.hf_folders import folder, greedy, random_model, tokenizer
from tests.engines.talking import continued, tokens_of
from tests.weights.adapter_files import lora, with_adapter

T = TypeVar("T")
ASKED: Tokens = tuple(range(40, 70))


async def said(engine: HfEngine, count: int = 20) -> list[int]:
    return tokens_of(await continued(engine, ASKED, Sampling(0.0, max_tokens=count)))


async def begun(engine: HfEngine) -> None:
    """Wait until the model computes."""
    while not engine._batch.busy:  # noqa: ASYNC110  (a thread has no event for its steps)
        await asyncio.sleep(0.001)


def in_memory(model: Any, **settings: Any) -> HfEngine:
    return HfEngine(model, tokenizer(), name="toy", threads=1, **settings)


async def of_folder(path: Path) -> HfEngine:
    engine = await load_engine(str(path), threads=1)
    assert isinstance(engine, HfEngine)
    return engine


def train(model: Any) -> None:
    """Changes every weight, and leaves the model in training mode as a trainer does."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.train()


# A model in memory


async def test_after_a_pause_nothing_of_the_old_weights_is_left() -> None:
    model = random_model(attention_dropout=0.5)
    before = greedy(model, ASKED, 20)

    engine = in_memory(model)
    first = await said(engine)
    async with engine.paused():
        train(model)
    second = await said(engine)
    await engine.aclose()
    assert first == before
    assert second == greedy(model.eval(), ASKED, 20) != before


async def test_streams_under_way_end_first_and_others_wait() -> None:
    model = random_model()
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
    assert new[:20] == greedy(model.eval(), ASKED, 20)


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


async def test_a_closed_engine_scores_nothing() -> None:
    engine = in_memory(random_model())
    await engine.aclose()
    with pytest.raises(EngineError, match="was closed"):
        await engine.score([ASKED])


async def test_a_closed_engine_does_not_hang() -> None:
    engine = in_memory(random_model())
    await engine.aclose()
    async with asyncio.timeout(5), engine.paused():
        pass


# The adapter of a folder


async def test_adapters_take_turns(tmp_path: Path) -> None:
    base = folder(tmp_path / "base")
    one = lora(base, tmp_path / "one")
    two = lora(base, tmp_path / "two", target_modules=["q_proj"], std=0.5)
    rewrite(two / "adapter_config.json", redraft_format="selfee-1")

    plain = greedy(random_model(), ASKED, 20)
    first, second = (greedy(with_adapter(base, adapter), ASKED, 20) for adapter in (one, two))
    engine, found = await of_folder(base), []
    for adapter in (None, one, str(two), None):
        await engine.load_adapter(adapter)
        found.append((await said(engine), engine.info.native))
    await engine.aclose()
    assert found == [(plain, False), (first, False), (second, True), (plain, False)]
    assert len({tuple(text) for text in (plain, first, second)}) == 3


async def test_an_adapter_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    base = folder(tmp_path / "base")
    words = tokenizer()
    words.add_tokens(["<verdict>"])
    wide = folder(tmp_path / "wide", vocab_size=len(words))
    other = lora(
        wide, tmp_path / "other", target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    )
    words.save_pretrained(other)

    engine = await of_folder(base)
    found = [await said(engine)]
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        await engine.load_adapter(tmp_path)
    with pytest.raises(UsageError, match="another vocabulary"):
        await engine.load_adapter(other)
    found.append(await said(engine))
    await engine.aclose()
    first, second = found
    assert first == second


async def test_a_model_in_memory_has_no_folder() -> None:
    engine = in_memory(random_model())
    with pytest.raises(UsageError) as caught:
        await engine.load_adapter(None)
    await engine.aclose()
    assert caught.value.message == "toy was not loaded from a folder."
    assert "engine.paused()" in (caught.value.hint or "")
