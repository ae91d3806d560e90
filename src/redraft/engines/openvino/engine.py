"""Models of OpenVINO GenAI: a GGUF file in a process of its own (`client`, `child`).

It computes many streams as one batch, with the instructions that the processor has: AVX-512, VNNI, AMX.
It takes and returns token ids, and this process encodes and decodes, so a text never becomes a control token.
Tokens in its cache, such as the draft that a chain goes on from, are not computed again.

It keeps answers to a JSON Schema by a grammar. The grammar of a form would take 50 to 100 ms a token, while
all streams wait, so there are no forms: checks do not steer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from redraft.chain.selfee import NATIVE_FORMAT
from redraft.engines.base import OF_TEMPLATE, SAMPLING_FIELDS, Delta, EngineInfo, Replies, Sampling, Tokens
from redraft.engines.bounds import within
from redraft.engines.llamacpp.grammar import expressible
from redraft.engines.local import (
    Room,
    cache_bytes,
    check_memory,
    check_settings,
    context_of,
    read_headers,
    trained_context,
)
from redraft.engines.openvino.child import REFUSED, ChildSettings, Request
from redraft.engines.openvino.client import Child
from redraft.engines.openvino.models import check, loaded_bytes, prepare
from redraft.engines.openvino.tokenizer import GGUFTokenizer
from redraft.engines.process import KeptProcess, ProcessEngine
from redraft.engines.schemas import for_xgrammar, unsaid_by_xgrammar, with_plain_patterns
from redraft.engines.text import FinalText, Spelling, TokenizedEngine, Tokenizer, joined
from redraft.errors import EngineCrash, EngineError
from redraft.jobs.machine import all_cores, free_memory, instructions
from redraft.weights.gguf.reader import GGUFHeader, read_header

_log = logging.getLogger(__name__)

BLOCK = 32  # tokens of a block of the key-value cache on a processor

GUESSED, AMONG_OTHERS, OF_FRESH = 8, 5, 1
"""Tokens that are guessed at once: for the only stream's revision, for a revision beside other streams, and
for a fresh text. A guess looks up the last `NGRAM` tokens earlier in the text, and takes what followed. With
13 real revisions and fresh texts, these numbers took the least time; 3 to 24 were tried."""
NGRAM = 3

DENSE = 0.5  # share of the tokens of JSON that are not white space, which XGrammar allows between all parts
BLANK = 48  # characters of white space after which JSON is ended: the model would not leave it again

_FIELDS = {"repeat_penalty": "repetition_penalty"}
"""Fields of `Sampling.extra_body` that have another name in GenerationConfig."""


class OpenVinoEngine(TokenizedEngine, ProcessEngine[Child]):
    """A GGUF model behind the engine protocol. Create it with `start`."""

    def __init__(
        self,
        info: EngineInfo,
        context: int,
        kept: KeptProcess[Child],
        tokenizer: Tokenizer,
        ends: frozenset[int],
        *,
        guessing: Sequence[bool] = (False,),
        trained: int | None = None,
    ) -> None:
        super().__init__(info, context, kept, trained=trained)
        self._tokenizer, self._ends, self._guessing = tokenizer, ends, guessing
        self._refused: set[str] = set()  # schemas that do not compile

    @classmethod
    async def start(
        cls,
        model: Path,
        adapters: Sequence[Path] = (),
        *,
        ctx: int | None = None,
        parallel: int = 1,
        threads: int | None = None,
        speculate: bool | None = None,
    ) -> OpenVinoEngine:
        """Load a model in a new process.

        Args:
            adapters: GGUF files of LoRA adapters, all merged into a copy of the model.
            ctx: Tokens that one chain may fill; None for 4,096 or the model's own length, whichever is less.
            speculate: Guess tokens from the text so far; None for one stream only, with AVX-512. With more
                streams it takes the memory of a second model.

        Raises:
            UsageError: A number is out of range, or the model was trained for shorter contexts.
            ModelError: A file is missing, damaged or not read by OpenVINO, an adapter is for another one, or
                the context of one stream needs more memory than is free.
            OutputError: A copy of the model, which some number formats need, cannot be written.
        """
        check_settings(ctx=ctx, threads=threads, parallel=parallel)
        headers = await asyncio.to_thread(read_headers, model, adapters)
        header = headers[0]
        trained = trained_context(header)
        context = context_of(model, ctx, trained)
        check(model, headers)
        weights = loaded_bytes(header)
        check_memory(model, header, context, 1, weights=weights)
        prepared = await asyncio.to_thread(prepare, model, headers, adapters)
        known, kept_format = instructions() or {}, read_header(prepared.file).format
        wide, alone = bool(known.get("AVX-512")), (threads or all_cores()) == 1
        # Without AVX-512, to verify a guessed token takes as long as to write one (benchmarks/LOST.md).
        guesses = parallel == 1 and wide if speculate is None else speculate
        guessing = [False] if not guesses else [True] if parallel == 1 else [False, True]
        # With AMX, one thread and weights of 16 bits, OpenVINO 2026.4 divides by zero in bf16.
        machine: ChildSettings = {
            "model": str(prepared.file),
            "tokenizer": str(prepared.tokenizer),
            "parallel": parallel,
            "threads": threads,
            "exact": alone and bool(known.get("AMX")) and kept_format == "F16",
            "blocks": _blocks(header, context, parallel, free_memory() - weights),
            "guessing": guessing,
            "key": "",
        }
        spelling = asyncio.create_task(asyncio.to_thread(GGUFTokenizer, header))
        child = await Child.start(machine)
        fast = await spelling
        tokenizer = Tokenizer(fast, model.stem)
        info = _info(model, headers, context)
        # Attention of fewer streams than threads is summed in another order (executor_pa.cpp). Without
        # AVX-512, one thread too gives one stream other logits than several, as tried.
        info = replace(info, format=kept_format, steady=alone and wide)
        kept = KeptProcess(child, machine)
        return cls(info, context, kept, tokenizer, fast.ends(), guessing=guessing, trained=trained)

    async def _once(
        self, child: Child, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room
    ) -> Replies:
        """Continue token ids in a process."""
        self._check(prompt)
        spelling, count, chances, blank = self._spelling(prompt, stop), 0, list[float](), ""
        request = self._request(prompt, sampling, room.tokens)
        async with aclosing(child.events(request)) as events:
            async for _, tokens, logprobs, finish in events:
                if finish.startswith(REFUSED):
                    self._refuse(sampling, finish)
                if finish not in ("", "stop", "length"):
                    raise EngineError(f"{self._info.name}: OpenVINO broke off the answer: {finish}.")
                pieces = list(_spelt(spelling, tokens, self._ends))
                count += len(pieces)
                piece = joined([*pieces, spelling.end()] if finish == "length" else pieces)
                blank = (blank + piece.text)[-BLANK - 1 :]
                if request["schema"] and len(blank) > BLANK and blank.isspace():
                    finish = finish or "stop"
                chances += logprobs
                of_piece, chances = chances[: len(piece.tokens)], chances[len(piece.tokens) :]
                delta = Delta(piece.text, piece.tokens, logprobs=tuple(of_piece))
                if finish or piece.stop_text is not None:
                    limited = finish == "length" and piece.stop_text is None
                    yield replace(
                        delta,
                        finish=room.limit if limited else "stop",
                        stop_text=piece.stop_text,
                        prompt_tokens=len(prompt),
                        completion_tokens=count,
                    )
                    return
                if piece.tokens:
                    yield delta

    def _request(self, prompt: Tokens, sampling: Sampling, limit: int) -> Request:
        """Return a request to the process. Samplers that `sampling` does not name stay off."""
        asked = sampling.extra_body or {}
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        fields: dict[str, Any] = {
            "max_new_tokens": limit,
            "rng_seed": seed,
            "logprobs": int(sampling.logprobs),
        }
        if sampling.temperature > 0:
            fields |= {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        fields |= {_FIELDS.get(name, name): asked[name] for name in SAMPLING_FIELDS & asked.keys()}
        pipeline = len(self._guessing) - 1 if sampling.prediction else 0
        if self._guessing[pipeline]:
            repeats = GUESSED if len(self._guessing) == 1 else AMONG_OTHERS
            guessed = repeats if sampling.prediction else OF_FRESH
            fields |= {"num_assistant_tokens": guessed, "max_ngram_size": NGRAM}
        return {
            "tokens": list(prompt),
            "sampling": fields,
            "pipeline": pipeline,
            "ends": list(self._ends),
            "schema": self._schema(sampling, limit),
        }

    def _schema(self, sampling: Sampling, limit: int) -> str:
        """Return what the library can enforce of a schema, for JSON of `limit` tokens; empty if nothing."""
        if sampling.schema is None or json.dumps(sampling.schema) in self._refused:
            return ""
        reduced, left = expressible(sampling.schema)
        self._schemas.leave(self._info.name, left | unsaid_by_xgrammar(reduced))
        schema, _ = expressible(within(sampling.schema, int(limit * DENSE)))
        return json.dumps(with_plain_patterns(for_xgrammar(schema), llamacpp=False))

    def _refuse(self, sampling: Sampling, reason: str) -> NoReturn:
        """Ask without this schema from now on. The process has ended: replies go on in another one."""
        schema = json.dumps(sampling.schema)
        if schema not in self._refused:
            self._refused.add(schema)
            _log.warning("%s does not keep to a schema, which is only checked: %s", self._info.name, reason)
        raise EngineCrash(f"the process of {self._info.name} ended: {reason}")


def _spelt(spelling: Spelling, tokens: Sequence[int], ends: frozenset[int]) -> Iterator[FinalText]:
    """Yield the text that each token makes final, up to the token that completes a stop string."""
    for token in tokens:
        piece = spelling.end(token) if token in ends else spelling.add(token)
        yield piece
        if piece.stop_text is not None:
            return


def _blocks(header: GGUFHeader, context: int, parallel: int, free: int) -> int:
    """Return the blocks of the cache: as many as the streams can fill or as fit. Streams without one wait."""
    of_stream = -(-context // BLOCK) + 1
    fits = free // (cache_bytes(header) * BLOCK or 1)
    return max(of_stream, min(parallel * of_stream, fits))


def _info(model: Path, headers: Sequence[GGUFHeader], context: int) -> EngineInfo:
    header = headers[0]
    return EngineInfo(
        name=header.text("general.name") or model.stem,
        engine="openvino",
        context=context,
        token_ids=True,
        chats=header.text("tokenizer.chat_template") is not None,
        fields=SAMPLING_FIELDS - {"logit_bias"} | {OF_TEMPLATE},
        schemas=True,
        logprobs=True,
        parameters=header.parameters,
        native=any(each.text("redraft.format") == NATIVE_FORMAT for each in headers),
    )
