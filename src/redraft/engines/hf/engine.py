"""The engine for transformers models: a folder, with or without a LoRA adapter, or a model in memory.

    engine = await HfEngine.start(Path("my-model"), parallel=8)
    engine = HfEngine(model, tokenizer, name="step 400", native=True)

Streams run as one batch (`batch`). A stream that runs alone gives the same text for the same seed. This
engine does not quantise, compile or use several GPUs. For speed, use a GGUF file or vLLM.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from redraft.chain.selfee import NATIVE_FORMAT
from redraft.engines.base import Delta, EngineInfo, PromptText, Replies, Sampling, Tokens
from redraft.engines.hf.batch import Batch, Guide, Request, installed
from redraft.engines.hf.load import check_model, ends_of, load, windows_of
from redraft.engines.local import USUAL, Room, context_of, empty_prompt
from redraft.engines.steering.grammar import lark
from redraft.engines.text import TokenizedEngine, Tokenizer
from redraft.errors import ContextError, UsageError
from redraft.jobs.signals import in_daemon_thread
from redraft.options import MachineOptions

STREAMS = 8  # default number of streams at once

CLOSE_SECONDS = 5.0


class HfEngine(TokenizedEngine):
    """An engine for a transformers model. The constructor puts the model into evaluation mode.

    Args:
        model: A causal language model, perhaps wrapped by peft.
        ctx: Context length of one chain in tokens; None for 4,096 or the model's maximum, whichever is less.
        native: Whether the model was trained on chains.
        ends: Tokens that end a text; None for the end tokens of the model and the tokenizer.
        least: Minimum number of generated tokens in a text.
        tempered: Whether to report log-probabilities after temperature. If so, no temperature may be 0.

    Raises:
        UsageError: The model was trained for shorter contexts than `ctx`.
        ModelError: The model is not supported, or does not fit the tokenizer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        ctx: int | None = None,
        parallel: int = STREAMS,
        threads: int | None = None,
        native: bool = False,
        ends: frozenset[int] | None = None,
        least: int = 0,
        tempered: bool = False,
    ) -> None:
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._model, self._tokenizer = model.eval(), Tokenizer(tokenizer, name)
        length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        trained = length if isinstance(length, int) and length > 0 else None
        context = context_of(Path(name), ctx, trained)
        info = EngineInfo(
            name=name,
            engine="hf",
            context=context,
            token_ids=True,
            chats=self._tokenizer.chats,
            parameters=sum(map(torch.numel, model.parameters())),
            native=native,
            forms=installed(),
            resumes=not self._tokenizer.tags.written,
            thinks=bool(self._tokenizer.tags.written),
            logprobs=True,
            scores=True,
            format=str(model.dtype).removeprefix("torch."),
        )
        super().__init__(info, context, trained)
        windows = windows_of(model, context)
        check_model(model, self._tokenizer, windows)
        self._ends = ends_of(tokenizer, model.generation_config.to_dict()) if ends is None else ends
        self._batch = Batch(
            model,
            slots=parallel,
            context=context,
            ends=self._ends,
            size=self._tokenizer.size,
            windows=windows,
            threads=threads,
            least=least,
            tempered=tempered,
        )

    @classmethod
    async def start(
        cls,
        folder: Path,
        adapters: Sequence[Path] = (),
        *,
        machine: MachineOptions = USUAL,
        parallel: int = STREAMS,
    ) -> HfEngine:
        """Load a model folder, with at most one folder of a LoRA adapter.

        Raises:
            ModelError: A file is missing, damaged or not supported, or the files do not fit together.
            UsageError: The device is missing, the weights are a pickle, or there is more than one adapter.
        """
        if len(adapters) > 1:
            hint = f"Merge the first adapter: redraft weights merge-lora {folder} {adapters[0]} -o DIR"
            raise UsageError(f"{folder} accepts one adapter, but {len(adapters)} are given.", hint=hint)
        gpu = machine.gpu_layers != 0 and torch.cuda.is_available()
        where = machine.device or ("cuda" if gpu else "cpu")
        there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there[where]:
            raise UsageError(f"torch finds no device {where!r} on this machine.", hint="--device cpu")
        chosen = getattr(torch, machine.dtype) if machine.dtype else None

        def opened() -> HfEngine:
            loaded = load(folder, adapters[0] if adapters else None, torch.device(where), chosen)
            engine = cls(
                loaded.model,
                loaded.tokenizer,
                name=folder.resolve().name,
                ctx=machine.ctx,
                parallel=parallel,
                threads=machine.threads,
                native=loaded.format == NATIVE_FORMAT,
                ends=loaded.ends,
            )
            engine._info = replace(engine._info, dtype=machine.dtype or "")
            return engine

        return await in_daemon_thread(opened)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Pause the engine while its model's weights change, such as during a training step.

        Active streams and scores finish first. New ones wait until the `async with` block ends. The model is
        then put into evaluation mode.

            async with engine.paused():
                optimizer.step()
        """
        self._batch.hold()
        try:
            while self._batch.busy:  # noqa: ASYNC110  (a thread has no event for its steps)
                await asyncio.sleep(0.01)
            yield
        finally:
            self._batch.release()

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Return the natural logarithm of the probability of each token after the first, for each text.

        Raises:
            UsageError: A text is empty, or one text was given instead of a list.
            ContextError: A text is longer than the context.
            ModelError: A token is not in the vocabulary.
            EngineError: The engine was closed.
        """
        if isinstance(texts, str):
            raise UsageError("score needs a list of texts.", hint=f"engine.score([{texts!r:.60}])")
        asked = [self._tokenizer.encode(t, special=True) if isinstance(t, str) else t for t in texts]
        for tokens in asked:
            self._check(tokens)
            if not tokens:
                raise empty_prompt()
            if len(tokens) > self._context:
                raise ContextError(len(tokens), self._context, trained=self._trained)
        return await in_daemon_thread(lambda: self._batch.score(asked))

    async def aclose(self) -> None:
        """End the thread after the current token, and wait at most `CLOSE_SECONDS`. May be called twice."""
        # No thread waits here, because none can start while the interpreter exits.
        self._batch.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._batch.alive:  # noqa: ASYNC110  (a thread has no event for its end)
                    await asyncio.sleep(0.01)

    async def _continue(self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room) -> Replies:
        self._check(prompt)
        deltas: asyncio.Queue[Delta | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(delta: Delta | BaseException) -> None:
            try:
                loop.call_soon_threadsafe(deltas.put_nowait, delta)
            except RuntimeError:  # the loop is closed, and nobody reads the stream
                request.cancelled = True

        spelling = self._spelling(prompt, stop)
        guide, ends, tokenizer = None, self._ends, self._tokenizer
        grammar = lark(sampling.form, stop) if sampling.form and self._info.forms else ""
        if grammar:
            guide = await in_daemon_thread(lambda: Guide(grammar, tokenizer, ends))
        request = Request(list(prompt), sampling, room.tokens, room.limit, spelling, deliver, guide)
        self._batch.add(request)
        try:
            while True:
                delta = await deltas.get()
                if isinstance(delta, BaseException):
                    raise delta
                yield replace(delta, unsteered=True) if guide and guide.lost else delta
                if delta.finish:
                    return
        finally:
            request.cancelled = True
