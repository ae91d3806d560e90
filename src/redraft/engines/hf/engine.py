"""Models of transformers: a folder, with or without a LoRA adapter, or a model that is in memory already.

    engine = await HfEngine.start(Path("my-model"), parallel=8)
    engine = HfEngine(model, tokenizer, name="step 400", native=True)

Made for looking at a model right after its training, and as what other engines are compared with. Streams run
as one batch (`hf_batch`), a stream alone gives the same text for the same seed, and prompts are token ids, so
that what a user writes never becomes a control token. Where speed matters, serve the model as a GGUF file or
by vLLM: here nothing is quantised, compiled or spread over several GPUs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from redraft.engines.base import Delta, EngineInfo, Message, PromptText, Sampling, Tokens
from redraft.engines.fit import context_of, insist_on_settings
from redraft.engines.hf.batch import Batch, Work, score
from redraft.engines.hf.load import check_model, ends_of, load, windows_of
from redraft.engines.hf.text import Spelling
from redraft.engines.hf.tokens import Words
from redraft.engines.local import LocalEngine, Room, empty_prompt
from redraft.engines.threads import in_daemon_thread
from redraft.errors import ContextError, ModelError, UsageError
from redraft.formats.selfee import NATIVE_FORMAT

STREAMS = 8
"""Streams at once unless told."""

CLOSE_SECONDS = 5.0


class HfEngine(LocalEngine):
    """A model of transformers behind the engine protocol. It is set to evaluation, and stays the caller's.

    Args:
        model: A causal language model; peft's may be around it.
        tokenizer: Its tokenizer, a fast one.
        name: For records and messages.
        ctx: Tokens that one chain may fill; 4,096 or the model's own length, whichever is less.
        parallel: How many streams run at once. More wait their turn.
        threads: Threads that compute; None leaves it to torch.
        native: Whether it was trained on chains.
        ends: Tokens that end a text; None for those that model and tokenizer name.

    Raises:
        ModelError: The model is of a kind that cannot be run here, or does not fit the tokenizer.
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
    ) -> None:
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._model, self._words = model.eval(), Words(tokenizer, name)
        trained = _trained_context(model)
        context = context_of(Path(name), ctx, trained)
        info = EngineInfo(
            name=name,
            engine="hf",
            context=context,
            token_ids=True,
            chats=self._words.chats,
            native=native,
        )
        super().__init__(info, context, trained)
        self._windows = windows_of(model, context)
        check_model(model, self._words, self._windows)
        self._batch = Batch(
            model,
            slots=parallel,
            context=context,
            ends=ends_of(tokenizer, model.generation_config.to_dict()) if ends is None else ends,
            size=self._words.size,
            windows=self._windows,
            threads=threads,
        )

    @classmethod
    async def start(
        cls,
        folder: Path,
        adapters: Sequence[Path] = (),
        *,
        ctx: int | None = None,
        parallel: int = STREAMS,
        threads: int | None = None,
        gpu: bool = True,
    ) -> HfEngine:
        """Loads a folder.

        Args:
            folder: Where config.json, the weights and the tokenizer are.
            adapters: At most one folder of a LoRA adapter.
            ctx: As above.
            parallel: As above.
            threads: As above.
            gpu: Use a GPU if there is one.

        Raises:
            ModelError: Something is missing, damaged, does not fit, or cannot be run here.
            UsageError: The weights are a pickle, or there is more than one adapter.
        """
        insist_on_settings(ctx=ctx, threads=threads, parallel=parallel)
        if len(adapters) > 1:
            raise UsageError(
                f"{folder} can be opened with one adapter, and {len(adapters)} are named.",
                hint=f"Merge the first: redraft weights merge-lora {folder} {adapters[0]} -o DIR",
            )
        device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")

        def opened() -> HfEngine:
            loaded = load(folder, adapters[0] if adapters else None, device)
            name = folder.resolve().name
            native = loaded.format == NATIVE_FORMAT
            return cls(
                loaded.model,
                loaded.tokenizer,
                name=name,
                ctx=ctx,
                parallel=parallel,
                threads=threads,
                native=native,
                ends=loaded.ends,
            )

        return await in_daemon_thread(opened)

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Token ids of a text. Control tokens that are written out in it stay text."""
        return self._words.encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids; control tokens are written out.

        Raises:
            ModelError: The model has no such tokens.
        """
        self._check(tokens)
        return self._words.decode(tokens)

    async def score(self, prompt: PromptText, text: PromptText) -> tuple[float, ...]:
        """How likely the model finds a text behind a prompt: the natural logarithm for each of its tokens.

        Raises:
            UsageError: The prompt is empty.
            ContextError: Both together are longer than the context.
        """
        before = self._words.encode(prompt, special=True) if isinstance(prompt, str) else prompt
        tokens = (*before, *(self._words.encode(text) if isinstance(text, str) else text))
        self._check(tokens)
        if not before:
            raise empty_prompt()
        if len(tokens) > self._context:
            raise ContextError(len(tokens), self._context, trained=self._trained)
        size, windows = self._words.size, self._windows
        found = await in_daemon_thread(
            lambda: score(self._model, tokens, len(before), size=size, windows=windows)
        )
        return tuple(found)

    async def aclose(self) -> None:
        """Ends the thread that computes, after its step. Closing twice does no harm.

        A step may be long: it is left to itself after some seconds. No other thread is used, because while
        the interpreter ends none can start.
        """
        self._batch.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._batch.alive:  # noqa: ASYNC110  (no event tells of its end)
                    await asyncio.sleep(0.01)

    async def _chat_tokens(self, messages: Sequence[Message]) -> Tokens:
        # A thread, because a stranger's template may take for ever.
        return await in_daemon_thread(lambda: self._words.chat(messages))

    async def _continue(
        self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room
    ) -> AsyncGenerator[Delta, None]:
        self._check(prompt)
        deltas: asyncio.Queue[Delta | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(delta: Delta | BaseException) -> None:
            try:
                loop.call_soon_threadsafe(deltas.put_nowait, delta)
            except RuntimeError:  # the loop is gone, and with it whoever asked
                work.cancelled = True

        spelling = Spelling.after(prompt, lambda ids: self._words.decode(ids, control=False), stop)
        work = Work(list(prompt), sampling, room.tokens, room.limit, spelling, deliver)
        self._batch.add(work)
        try:
            while True:
                delta = await deltas.get()
                if isinstance(delta, BaseException):
                    raise delta
                yield delta
                if delta.finish:
                    return
        finally:
            work.cancelled = True

    def _check(self, tokens: Sequence[int]) -> None:
        wrong = next((token for token in tokens if not 0 <= token < self._words.size), None)
        if wrong is not None:
            raise ModelError(f"{self._info.name} has no token {wrong}: it has {self._words.size}.")


def _trained_context(model: Any) -> int | None:
    """The length that the model was trained on, or None where its configuration does not say."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None
