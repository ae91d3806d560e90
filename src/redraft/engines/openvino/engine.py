"""The engine for OpenVINO GenAI: a GGUF file in its own process (`child`).

The child computes many streams as one batch, with the processor's AVX-512, VNNI or AMX instructions. The
child accepts and returns token ids, so that text never becomes a control token. Cached tokens, such as a
chain's draft, are not computed again.

A grammar enforces JSON schemas. Forms are not supported, because a form's grammar would block all streams for
50 to 100 ms per token.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import queue
import secrets
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from redraft.engines import local
from redraft.engines.base import OF_TEMPLATE, SAMPLING_FIELDS, Delta, EngineInfo, Replies, Sampling, Tokens
from redraft.engines.bounds import within
from redraft.engines.local import USUAL
from redraft.engines.openvino.child import REFUSED, ChildSettings, Event, Request
from redraft.engines.openvino.models import GGUFTokenizer, check, loaded_bytes, prepare
from redraft.engines.process import KeptProcess, ModelProcess, ProcessEngine
from redraft.engines.schemas import expressible, for_xgrammar
from redraft.engines.steering.grammar import END_OF_VALUE
from redraft.engines.text import FinalText, TokenizedEngine, Tokenizer, joined
from redraft.errors import EngineCrash, EngineError
from redraft.jobs.machine import all_cores, free_memory, instructions
from redraft.options import MachineOptions
from redraft.weights.gguf.reader import read_header

_log = logging.getLogger(__name__)

BLOCK = 32  # tokens of a block of the key-value cache on a processor

DENSE = 0.5  # share of the tokens for JSON; the rest is for white space, which XGrammar allows everywhere
BLANK = 48  # characters of white space after which JSON is ended: the model would write nothing else

_FIELDS = {"repeat_penalty": "repetition_penalty"}
"""Fields of `Sampling.extra_body` that have another name in GenerationConfig."""


_Inbox = asyncio.Queue[Event | None]  # the events of a stream; None when the process has ended
_Stream = tuple[asyncio.AbstractEventLoop, _Inbox]


class Child(ModelProcess):
    """A running OpenVINO process. Create one with `start`."""

    module = "redraft.engines.openvino.child"
    library = "OpenVINO"
    extra = "cpu"
    hint = "Check the file's sha256. Or try a smaller --ctx. Or try --engine llamacpp."

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self._numbers = itertools.count()
        self._streams: dict[int, _Stream] = {}
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ended = False

    def _opened(self, reply: Mapping[str, Any]) -> None:  # noqa: ARG002  (it says nothing)
        for work in (self._write, self._read):  # no event loop waits for the process, which all loops share
            threading.Thread(target=work, name="redraft-openvino", daemon=True).start()

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        """Send a request and yield the request's events. Closing the stream cancels the request."""
        number, inbox = next(self._numbers), _Inbox()
        self._streams[number] = asyncio.get_running_loop(), inbox
        self._send({"id": number, **request})
        try:
            while not (self._ended and inbox.empty()):
                event = await inbox.get()
                if event is not None:
                    if event[3]:
                        del self._streams[number]
                    yield event
            raise self._was_closed() if self._closed else await asyncio.to_thread(self._crash)
        finally:
            if self._streams.pop(number, None):
                self._send({"id": number})

    def _send(self, line: Mapping[str, Any]) -> None:
        self._outbox.put(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101  (it is a pipe)
        with suppress(OSError, ValueError):  # the process has ended, or was closed
            while line := self._outbox.get():
                stdin.write(line)
                stdin.flush()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  (it is a pipe)
        with suppress(ValueError):  # it was closed
            for line in stdout:
                self._deliver((event[0], event) for event in json.loads(line))
        self._ended = True
        self._deliver((number, None) for number in list(self._streams))

    def _deliver(self, events: Iterable[tuple[int, Event | None]]) -> None:
        of_loops: dict[asyncio.AbstractEventLoop, list[tuple[_Inbox, Event | None]]] = {}
        for number, event in events:
            if stream := self._streams.get(number):
                of_loops.setdefault(stream[0], []).append((stream[1], event))
        for loop, found in of_loops.items():
            with suppress(RuntimeError):  # the loop is closed, and nobody reads the streams
                loop.call_soon_threadsafe(_put, found)

    def bury(self) -> None:
        """Kill the process if it still runs, and release its resources."""
        self._outbox.put(b"")
        super().bury()


def _put(events: Iterable[tuple[_Inbox, Event | None]]) -> None:
    for inbox, event in events:
        inbox.put_nowait(event)


class OpenVinoEngine(TokenizedEngine, ProcessEngine[Child]):
    """An engine for a GGUF model. Create it with `start`."""

    def __init__(
        self,
        info: EngineInfo,
        context: int,
        kept: KeptProcess[Child],
        tokenizer: Tokenizer,
        ends: frozenset[int],
        *,
        trained: int | None = None,
    ) -> None:
        super().__init__(info, context, trained, kept)
        self._tokenizer, self._ends = tokenizer, ends
        self._refused: set[str] = set()  # schemas that do not compile

    @classmethod
    async def start(
        cls, model: Path, adapters: Sequence[Path] = (), *, machine: MachineOptions = USUAL, parallel: int = 1
    ) -> OpenVinoEngine:
        """Load a model in a new process.

        Args:
            adapters: GGUF files of LoRA adapters, all merged into a copy of the model.

        Raises:
            UsageError: The model was trained for shorter contexts than `machine.ctx`.
            ModelError: A file is missing, damaged or not supported by OpenVINO, an adapter is for another
                model, or one stream's context needs more memory than is free.
            OutputError: A copy of the model, which some number formats need, cannot be written.
        """
        headers = await asyncio.to_thread(local.read_headers, model, adapters)
        header = headers[0]
        trained = local.trained_context(header)
        context = local.context_of(model, machine.ctx, trained)
        check(model, headers)
        weights = loaded_bytes(header)
        local.check_memory(model, header, context, 1, weights=weights)
        prepared = await asyncio.to_thread(prepare, model, headers, adapters)
        known, kept_format = instructions() or {}, read_header(prepared.file).format
        alone = (machine.threads or all_cores()) == 1
        of_stream = -(-context // BLOCK) + 1
        room = (free_memory() - weights) // (local.cache_bytes(header) * BLOCK or 1)
        # With AMX, one thread and weights of 16 bits, OpenVINO 2026.4 divides by zero in bf16.
        settings: ChildSettings = {
            "model": str(prepared.file),
            "tokenizer": str(prepared.tokenizer),
            "parallel": parallel,
            "threads": machine.threads,
            "exact": alone and bool(known.get("AMX")) and kept_format == "F16",
            "blocks": max(of_stream, min(parallel * of_stream, room)),
        }
        spelling = asyncio.create_task(asyncio.to_thread(GGUFTokenizer, header))
        child = await Child.start(settings)
        fast = await spelling
        tokenizer = Tokenizer(fast, model.stem)
        fields = SAMPLING_FIELDS - {"logit_bias"} | {OF_TEMPLATE}
        info = local.gguf_info(model, headers, context)
        info = replace(info, engine="openvino", fields=fields, format=kept_format)
        return cls(info, context, KeptProcess(child, settings), tokenizer, fast.ends(), trained=trained)

    async def _once(
        self, child: Child, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: local.Room
    ) -> Replies:
        self._check(prompt)
        spelling, count, chances, blank = self._spelling(prompt, stop), 0, list[float](), ""
        request = self._request(prompt, sampling, room.tokens)
        async with aclosing(child.events(request)) as events:
            async for _, tokens, logprobs, finish in events:
                if finish.startswith(REFUSED):
                    schema = json.dumps(sampling.schema)
                    if schema not in self._refused:
                        self._refused.add(schema)
                        why = "%s cannot enforce a schema, so only checks of the finished answer apply it: %s"
                        _log.warning(why, self._info.name, finish)
                    raise EngineCrash(f"the process of {self._info.name} ended: {finish}")
                if finish not in ("", "stop", "length"):
                    raise EngineError(f"{self._info.name}: OpenVINO broke off the answer: {finish}.")
                pieces = list[FinalText]()
                for token in tokens:
                    pieces.append(spelling.end(token) if token in self._ends else spelling.add(token))
                    if pieces[-1].stop_text is not None:
                        break
                count += len(pieces)
                piece = joined([*pieces, spelling.end()] if finish == "length" else pieces)
                blank = (blank + piece.text)[-BLANK - 1 :]
                if request["schema"] and len(blank) > BLANK and blank.isspace():
                    finish = finish or "stop"
                chances += logprobs if sampling.logprobs else ()
                of_piece, chances = chances[: len(piece.tokens)], chances[len(piece.tokens) :]
                delta = Delta(piece.text, piece.tokens, stop_text=piece.stop_text, logprobs=tuple(of_piece))
                if finish or piece.stop_text is not None:
                    limited = finish == "length" and piece.stop_text is None
                    delta = replace(delta, prompt_tokens=len(prompt), completion_tokens=count)
                    yield replace(delta, finish=room.limit if limited else "stop")
                    return
                if piece.tokens:
                    yield delta

    def _request(self, prompt: Tokens, sampling: Sampling, limit: int) -> Request:
        asked = sampling.extra_body or {}
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        fields = dict[str, Any](max_new_tokens=limit, rng_seed=seed, logprobs=int(sampling.logprobs))
        if sampling.temperature > 0:
            fields |= {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        fields |= {_FIELDS.get(name, name): asked[name] for name in SAMPLING_FIELDS & asked.keys()}
        end = END_OF_VALUE if sampling.begun else ""
        ends, schema = list(self._ends), self._schema(sampling, limit)
        return {"tokens": list(prompt), "sampling": fields, "ends": ends, "schema": schema, "end": end}

    def _schema(self, sampling: Sampling, limit: int) -> str:
        if sampling.schema is None or json.dumps(sampling.schema) in self._refused:
            return ""
        left = expressible(sampling.schema)[1] | for_xgrammar(sampling.schema)[1]
        self._schemas.leave(self._info.name, left)
        schema, _ = expressible(within(sampling.schema, int(limit * DENSE)))
        return json.dumps(for_xgrammar(schema)[0])
