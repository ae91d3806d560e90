"""Settings that fit neither the model nor the machine are refused before anything is loaded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from redraft.engines.base import Sampling
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.engines.local import CACHE_BYTES, MAX_THREADS, cache_bytes, check_settings
from redraft.errors import ContextError, ModelError, UsageError
from redraft.machine import free_memory
from redraft.weights.gguf.reader import read_header
from tests.gguf_files import tiny_model


def start(model: Path, **settings: Any) -> None:
    async def started() -> None:
        engine = await LlamaCppEngine.start(model, **settings)
        await engine.aclose()

    asyncio.run(started())


@pytest.mark.parametrize("threads", [0, -1, MAX_THREADS + 1, 10**9])
def test_threads_that_no_machine_has(tmp_path: Path, threads: int) -> None:
    model = tiny_model(tmp_path / "tiny.gguf")
    with pytest.raises(UsageError, match=f"--threads is {threads}; it must be 1 to 512") as caught:
        start(model, threads=threads)
    assert "This machine has" in (caught.value.hint or "")


@pytest.mark.parametrize("settings", [{"ctx": 0}, {"ctx": -5}, {"parallel": 0}])
def test_other_numbers_below_one(settings: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        check_settings(**{"ctx": None, "threads": None, "parallel": 1, **settings})  # type: ignore[arg-type]


def test_a_context_beyond_the_trained_one(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.gguf")
    with pytest.raises(
        UsageError, match=r"--ctx is 1000000000, and .* was trained for contexts of 256"
    ) as caught:
        start(model, ctx=10**9)
    assert caught.value.hint == "--ctx 256"


def test_a_cache_that_is_larger_than_the_memory(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.gguf", {"llama.context_length": 2**31 - 1})
    header = read_header(model)
    assert cache_bytes(header) > 0
    free = free_memory()
    wanted = 4 * free // cache_bytes(header)
    with pytest.raises(
        ModelError, match=r"needs [\d.e+]+ GB of memory with .*, and [\d.]+ GB are free"
    ) as caught:
        start(model, ctx=min(wanted, 2**31 - 1), parallel=max(1, wanted // 2**31 + 1))
    assert "--ctx " in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("metadata", "numbers"),
    [
        ({}, 4 * 2 * (16 + 16)),
        ({"llama.attention.head_count_kv": [2, 0, 1, 0]}, 3 * (16 + 16)),
        ({"llama.attention.sliding_window": 128}, 0),
    ],
)
def test_layers_without_a_cache_are_not_counted(
    tmp_path: Path, metadata: dict[str, Any], numbers: int
) -> None:
    settings = {
        "llama.block_count": 4,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    }
    model = tiny_model(tmp_path / "tiny.gguf", {**settings, **metadata})
    assert cache_bytes(read_header(model)) == numbers * CACHE_BYTES


def test_a_folder_is_held_to_its_trained_length(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from redraft.engines.hf.engine import HfEngine
    from tests.engines.hf_folders import CONTEXT, folder

    model = folder(tmp_path / "base")
    for settings, message in [
        (
            {"ctx": CONTEXT + 1},
            f"--ctx is {CONTEXT + 1}, and .* was trained for contexts of {CONTEXT} tokens",
        ),
        ({"threads": 0}, "--threads is 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            asyncio.run(HfEngine.start(model, **settings))


@pytest.mark.model
def test_the_cache_of_the_default_model(default_model: Path) -> None:
    """30 layers, 3 key-value heads of 64 elements, keys and values, two bytes each."""
    assert cache_bytes(read_header(default_model)) == 30 * 3 * 64 * 2 * 2


def test_a_long_prompt_is_never_advised_more_than_was_trained_for(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    model = tiny_model(tmp_path / "tiny.gguf")

    async def hint_for(tokens: int) -> str:
        engine = await LlamaCppEngine.start(model, ctx=64, threads=1)
        try:
            with pytest.raises(ContextError) as caught:
                await anext(engine.stream((5,) * tokens, Sampling()))
            return caught.value.hint or ""
        finally:
            await engine.aclose()

    assert asyncio.run(hint_for(100)).endswith("--ctx 256.")
    assert asyncio.run(hint_for(300)) == (
        "Shorten the prompt: the model was trained for 256 tokens, prompt and answer together."
    )


def test_a_server_is_not_given_a_longer_context_by_a_flag() -> None:
    assert ContextError(10, 5).hint == "Shorten the prompt."
