"""The engine for llama.cpp: a GGUF file, with or without LoRA adapters, in a child process (`child`).

Prompts go to llama.cpp as token ids, so that text never becomes a control token. The sampling settings of a
model file are ignored, as in other engines. The token that ends an answer comes in a delta without text, as
do tokens of a stop string.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from redraft.chain import Finish
from redraft.chain.thoughts import tags_of
from redraft.engines import base, local
from redraft.engines.base import Delta, EngineInfo, EngineRole, Message, Replies, Sampling, Tokens
from redraft.engines.bounds import within
from redraft.engines.llamacpp.child import ChildSettings
from redraft.engines.messages import beyond_text, plain, template_refuses, why_refused
from redraft.engines.process import KeptProcess, ModelProcess, ProcessEngine
from redraft.engines.remote.wire import CallPiece, TokenCounts, read_chunk, tool_calls
from redraft.engines.remote.written_calls import calls_at, joined
from redraft.engines.schemas import expressible
from redraft.engines.steering.grammar import lark, value
from redraft.errors import ContextError, EngineCrash, EngineError, ModelError, RecordError
from redraft.options import MachineOptions
from redraft.weights.gguf.reader import GGUFHeader
from redraft.weights.tokenizers.sentencepiece import BYTE, NORMAL

SPECULATES_UP_TO = 4
"""Speculative decoding is on by default for at most this many streams. With eight streams, speculation slows
down new texts, and hardly speeds up revisions that copy the draft (benchmarks/RESULTS.md)."""

CALLS = (1, 4, 16)  # limits on the number of required calls; the model picks one. Fewer calls may be longer

_REASON = re.compile(r"(?:error loading model|\bE srv .*?init: init): (.+)")


class ChildRefusal(Exception):
    """A reply with a status other than 200, and the reply's error object."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", error)))
        self.status, self.error = status, error


class Child(ModelProcess):
    """A running llama.cpp process. Create one with `start`."""

    module = "redraft.engines.llamacpp.child"
    library = "llama.cpp"
    extra = "local"
    hint = "Check the file's sha256. Or try a smaller --ctx. Or try --gpu-layers 0."

    def _opened(self, reply: Mapping[str, Any]) -> None:
        address = urlsplit(reply["address"])
        self._host, self._port = str(address.hostname), int(address.port or 0)

    def _reason(self, error: str) -> str:
        found = _REASON.search(self._last_words())
        return found[1].strip() if found else error

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON and return the JSON of the reply."""
        async with self._exchange(path, body) as reader:
            return json.loads(await reader.read())

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Send JSON and yield the objects of the event stream. Closing the stream cancels the request."""
        async with self._exchange(path, body) as reader:
            rest = b""
            while piece := await _chunk(reader):
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    if event.startswith(b"data: {"):
                        yield json.loads(event[6:])

    # A general HTTP client takes longer per token than the rest of redraft.
    @asynccontextmanager
    async def _exchange(self, path: str, body: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
        if self._closed:
            raise self._was_closed()
        content, writer = json.dumps(body).encode(), None
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
                f"Authorization: Bearer {self._key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            writer.write(head.encode() + content)
            status = int((await reader.readuntil(b"\r\n\r\n")).split(None, 2)[1])
            if status != 200:
                raw = await reader.read()
                try:
                    refused = error_of(json.loads(raw))
                except (ValueError, KeyError, TypeError):
                    refused = {"message": raw.decode("utf-8", "replace")[:500]}
                raise ChildRefusal(status, refused)
            yield reader
        except (OSError, EOFError) as error:
            if self._closed:
                raise self._was_closed() from None
            raise await asyncio.to_thread(self._crash) from error
        finally:
            if writer:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


def error_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the `error` of a record as an object with a `message`."""
    error = record["error"]
    return {"message": str(error), **(error if isinstance(error, dict) else {})}


class LlamaCppEngine(ProcessEngine[Child]):
    """An engine for a GGUF model. Create it with `start`."""

    def __init__(
        self,
        info: EngineInfo,
        context: int,
        kept: KeptProcess[Child],
        header: GGUFHeader,
        *,
        trained: int | None = None,
        scales: Mapping[EngineRole, list[dict[str, float]]] | None = None,
    ) -> None:
        super().__init__(info, context, trained, kept)
        self._scales = scales or {}  # the scales of all adapters, by role
        # Whether the tokenizer puts a space before every text, as SentencePiece does by default.
        usual = header.text("tokenizer.ggml.model") in {"llama", "t5"}
        self._spaced = bool(header.metadata.get("tokenizer.ggml.add_space_prefix", usual))
        self._end_token = header.number("tokenizer.ggml.eos_token_id")
        self._marks = _marks_of(header)
        self._tags = tags_of(header.text("tokenizer.chat_template") or "")

    @classmethod
    async def start(
        cls,
        model: Path,
        adapters: Sequence[Path] = (),
        roles: Mapping[EngineRole, Sequence[Path]] | None = None,
        *,
        machine: MachineOptions = local.USUAL,
        parallel: int = 1,
    ) -> LlamaCppEngine:
        """Load a model in a new process.

        Args:
            adapters: GGUF files of LoRA adapters. Without `roles`, all are applied.
            roles: For each role, the adapters to apply, and no others. They need not be in `adapters`.

        Raises:
            UsageError: The model was trained for shorter contexts than `machine.ctx`.
            ModelError: A file is missing or damaged, an adapter is for another model, or the context needs
                more memory than is free.
        """
        adapters = tuple(dict.fromkeys(chain(adapters, *(roles or {}).values())))
        scales = {
            role: [{"id": number, "scale": float(path in bound)} for number, path in enumerate(adapters)]
            for role, bound in (roles or {}).items()
        }
        headers = await asyncio.to_thread(local.read_headers, model, adapters)
        trained = local.trained_context(headers[0])
        context = local.context_of(model, machine.ctx, trained)
        gpu = machine.device in ("cuda", "mps")
        if not (machine.gpu_layers or gpu):
            local.check_memory(model, headers[0], context, parallel)
        settings: ChildSettings = {
            "model": str(model),
            "adapters": [str(path) for path in adapters],
            "context": context,
            "parallel": parallel,
            "threads": machine.threads,
            "gpu_layers": 0 if machine.device == "cpu" else machine.gpu_layers,
            "gpu": gpu,
            "speculate": parallel <= SPECULATES_UP_TO if machine.speculate is None else machine.speculate,
            "key": "",
        }
        return cls(
            replace(
                local.gguf_info(model, headers, context),
                engine="llamacpp",
                fields=base.SAMPLING_FIELDS | {base.OF_TEMPLATE},
                tools="tools" in (headers[0].text("tokenizer.chat_template") or ""),
                forms=True,
                format=headers[0].format,
                roles=bool(scales),
            ),
            context,
            KeptProcess(await Child.start(settings), settings),
            headers[0],
            trained=trained,
            scales=scales,
        )

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = (), said: Tokens = ()
    ) -> Replies:
        """Answer messages. With tools or tool calls, llama.cpp renders the prompt and parses the answer."""
        called = any(beyond_text(message) for message in messages) and self._info.tools
        if said or not (sampling.tools or called):
            replies = super().chat(messages, sampling, stop, said)
        else:
            messages, told = plain(messages, self._info), (sampling.extra_body or {}).get(base.OF_TEMPLATE)
            await self._check_harmless(json.dumps([messages, list(sampling.tools), told], ensure_ascii=False))
            if (due := _due(sampling)) or sampling.max_thoughts is not None:
                replies = self._called(messages, sampling, stop, due)
            else:
                replies = self._with_tools(messages, sampling, stop)
        async with aclosing(replies) as deltas:
            async for delta in deltas:
                yield delta

    async def _with_tools(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str]
    ) -> Replies:
        child, limit = self._kept.child, min(sampling.max_tokens, self._context)
        request = _chat_request(messages, sampling, self._request((), sampling, stop, limit))
        try:
            async with (
                aclosing(child.events("/v1/chat/completions", request)) as events,
                aclosing(_answers(self._info.name, events, limit)) as deltas,
            ):
                async for delta in deltas:
                    self._kept.worked()
                    yield delta
        except EngineCrash as crash:
            await self._kept.replace(child, crash, 1)
            crash.passing = crash.ready = True
            raise
        except ChildRefusal as refusal:
            if tokens := refusal.error.get("n_prompt_tokens"):
                raise ContextError(tokens, self._context, trained=self._trained) from None
            message = f"llama.cpp refuses the messages or the tools: {why_refused(str(refusal)):.200}"
            raise RecordError(message) from None

    async def _called(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str], due: Sequence[Any]
    ) -> Replies:
        # Required calls are generated as JSON: llama.cpp itself would let the model write text before them.
        told = (sampling.extra_body or {}).get(base.OF_TEMPLATE)
        prompt = await self._render(messages, told, sampling.tools)  # raises for a malformed tool
        tokens, text = await self._tokenize(prompt, start=True, control=True), ""
        if due:
            asked = sampling.extra_body or {}  # a tool that was named is called once, as with OpenAI
            several = asked.get("parallel_tool_calls", asked.get("tool_choice") == "required")
            schema = _schema_of_calls(due, sampling.max_tokens, several=several)
            sampling, stop = replace(sampling, schema=schema), ()
        replies = self._steered(messages, tokens, sampling, stop, await self._splitter(tokens))
        async with aclosing(replies) as deltas:
            async for delta in deltas:
                text += delta.text
                if due:
                    made = calls_at(text, [each["name"] for each in due])[0] if delta.finish else ()
                    delta = replace(delta, text="", tool_calls=joined(made))
                yield delta

    def _formed(self, asked: object, prompt: Tokens, sampling: Sampling, stop: Sequence[str]) -> Replies:
        if sampling.tools and sampling.schema is None:
            return self._with_tools(cast("Sequence[Message]", asked), sampling, stop)
        return super()._formed(asked, prompt, sampling, stop)

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text. A text such as `</s>` does not become a control token."""
        if self._spaced and not special:
            # The text continues another: the tokenizer's space goes before a line break, which is removed.
            mark = await self._tokenize("\n", control=False)
            marked = await self._tokenize("\n" + text, control=False)
            if marked[: len(mark)] == mark:
                return marked[len(mark) :]
        return await self._tokenize(text, start=special, control=False)

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, including control tokens."""
        return str((await self._post("/detokenize", {"tokens": list(tokens)}))["content"])

    async def _once(
        self, child: Child, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: local.Room
    ) -> Replies:
        request = self._request(prompt, sampling, stop, room.tokens)
        if sampling.schema is not None:
            self._schemas.leave(self._info.name, expressible(sampling.schema)[1])
            schema, _ = expressible(within(sampling.schema, room.tokens))
            request |= {"grammar": value(schema)} if sampling.begun else {"json_schema": schema}
        elif sampling.form is not None:
            request["grammar"] = lark(sampling.form, stop)
        held: list[Delta] = []
        try:
            async with (
                aclosing(child.events("/completion", request)) as events,
                aclosing(self._deltas(events, room.limit, sampling)) as deltas,
            ):
                async for delta in deltas:
                    held.append(delta)
                    if delta.text or delta.finish:
                        for each in held:
                            yield each
                        held.clear()
        except ChildRefusal as refusal:
            raise self._refused(refusal) from None

    def _request(self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], limit: int) -> dict[str, Any]:
        scales = {"lora": self._scales[sampling.role]} if self._scales else {}
        shown = {"preserved_tokens": list(self._tags.tokens)} if self._tags.written else {}
        return _request(prompt, sampling, stop, limit) | scales | shown

    async def _deltas(
        self, events: AsyncGenerator[dict[str, Any], None], limit: Finish, sampling: Sampling
    ) -> Replies:
        counted, gap = 0, False
        held: list[int] = []
        async for event in events:
            if "error" in event:
                reason = error_of(event)["message"]
                raise EngineError(f"{self._info.name}: llama.cpp broke off the answer: {reason}")
            if event["stop"]:
                stop_type, unsaid = event["stop_type"], ""
                if stop_type != "word":
                    # llama.cpp drops text that was held back for a stop string that did not come. With
                    # `eos`, the last token is the end token.
                    said = held[:-1] if stop_type == "eos" else held
                    unsaid = await self.decode(said) if said else ""
                yield Delta(
                    text=event["content"] + unsaid,
                    finish=limit if stop_type == "limit" else "stop",
                    stop_text=event["stopping_word"] if stop_type == "word" else None,
                    prompt_tokens=event["tokens_evaluated"],
                    cached_tokens=event["timings"]["cache_n"],
                    completion_tokens=event["tokens_predicted"],
                )
                return
            text, tokens = event["content"], event["tokens"]
            gap = gap or event["tokens_predicted"] > counted + len(tokens)
            counted = event["tokens_predicted"]
            chances = event.get("completion_probabilities", ())
            if gap:
                # llama.cpp counts the tokens of an incomplete character, but lists only its last one. They
                # are unknown until their text comes, and their probabilities stay unknown.
                tokens, chances = [], ()
                if text:
                    tokens = await self.encode(text.removeprefix(await self.decode(held) if held else ""))
            held, gap = ([], False) if text else (held + tokens, gap)
            logprobs = tuple(each["logprob"] for each in chances)
            tops = (each["top_logprobs"] for each in chances if sampling.top_logprobs)
            likeliest = tuple(tuple((each["token"], each["logprob"]) for each in top) for top in tops)
            yield Delta(text=text, tokens=tuple(tokens), logprobs=logprobs, likeliest=likeliest)
        raise EngineError(f"{self._info.name}: the stream ended without its last event.", hint="Try again.")

    async def _render(
        self, messages: Sequence[Message], told: local.Told = None, tools: Sequence[Any] = ()
    ) -> str:
        if told:
            await self._check_harmless(json.dumps(told, ensure_ascii=False))
        body = {"messages": list(messages), base.OF_TEMPLATE: told or {}, "tools": list(tools)}
        try:
            return str((await self._post("/apply-template", body))["prompt"])
        except ModelError as error:
            raise template_refuses(self._info.name, error.message.rpartition(" (status ")[0]) from None

    async def _check_harmless(self, text: str) -> None:
        await self._check_length(text)
        if await self._tokenize(text, control=False) != await self._tokenize(text, control=True):
            parts = f"a message, a tool or {base.OF_TEMPLATE}"
            message = f"{parts} contains one of the model's control tokens, such as <|im_end|>."
            raise RecordError(message, hint="Remove the token.")

    async def _end(self) -> str:
        return "" if self._end_token is None else await self.decode([self._end_token])

    async def _tokenize(self, text: str, *, start: bool = False, control: bool) -> Tokens:
        body = {"content": text, "add_special": start, "parse_special": control}
        return tuple((await self._post("/tokenize", body))["tokens"])

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        crashes = 0
        while True:
            child = self._kept.child
            try:
                return await child.post(path, body)
            except ChildRefusal as refusal:
                raise self._refused(refusal) from None
            except EngineCrash as crash:
                crashes += 1
                await self._kept.replace(child, crash, crashes)

    def _refused(self, refusal: ChildRefusal) -> EngineError:
        return ModelError(f"{self._info.name}: llama.cpp refuses: {refusal} (status {refusal.status}).")


def _marks_of(header: GGUFHeader) -> frozenset[str] | None:
    """Return the first characters of control tokens; None if the file does not give the tokens' types.

    `<` is always included, because llama.cpp treats known names such as `<|im_end|>` as control tokens,
    whatever type the file gives (`special_eog_ids` in src/llama-vocab.cpp).
    """
    texts = header.metadata.get("tokenizer.ggml.tokens")
    kinds = header.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(texts, tuple) or not isinstance(kinds, tuple) or len(texts) != len(kinds):
        return None
    special = (text for text, kind in zip(texts, kinds, strict=True) if kind not in (NORMAL, BYTE))
    return frozenset({"<", *(str(text)[:1] for text in special)}) - {""}


def _request(prompt: Tokens, sampling: Sampling, stop: Sequence[str], limit: int) -> dict[str, Any]:
    asked = (sampling.extra_body or {}).keys()
    penalties = ["penalties"] if any(name.endswith("_penalty") for name in asked) else []
    cuts = {"top_k": "top_k" in asked, "top_p": sampling.top_p < 1, "min_p": "min_p" in asked}
    request: dict[str, Any] = {
        "prompt": list(prompt),
        "n_predict": limit,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "samplers": [*penalties, "temperature", *(name for name, wanted in cuts.items() if wanted)],
        "stop": [text for text in stop if text],
        "stream": True,
        "return_tokens": True,
        "cache_prompt": True,
    }
    extra = (sampling.extra_body or {}).items()
    request |= {name: value for name, value in extra if name in base.SAMPLING_FIELDS}
    if sampling.banned or sampling.likelier:
        banned = ([token, False] for token in sampling.banned)
        request["logit_bias"] = [*request.get("logit_bias", ()), *banned, *map(list, sampling.likelier)]
    if sampling.unending:
        request["ignore_eos"] = True
    if sampling.logprobs:
        # Drafted tokens would come without probabilities.
        request |= {"n_probs": max(1, sampling.top_logprobs), "speculative.n_max": 0}
    if sampling.seed is not None:
        request["seed"] = sampling.seed % 2**31
    return request


def _chat_request(messages: Sequence[Message], sampling: Sampling, request: dict[str, Any]) -> dict[str, Any]:
    if sampling.logprobs:
        raise RecordError("llama.cpp gives no log-probabilities with tools. Leave out tools or `logprobs`.")
    taken = (*base.OF_TOOLS, base.OF_TEMPLATE)
    beside = {name: part for name, part in (sampling.extra_body or {}).items() if name in taken}
    foreign = ("prompt", "return_tokens", "n_probs")
    kept = {name: part for name, part in request.items() if name not in foreign}
    behind = {"add_generation_prompt": False, "continue_final_message": "content"}
    thought = "reasoning_content" in messages[-1] and not messages[-1]["content"]
    return {
        **kept,
        "parallel_tool_calls": True,  # OpenAI's default
        **beside,
        **(behind if thought else {}),
        "messages": list(messages),
        "tools": list(sampling.tools),
        "stream_options": {"include_usage": True},
    }


def _due(sampling: Sampling) -> list[Mapping[str, Any]]:
    choice = (sampling.extra_body or {}).get("tool_choice")
    functions = [tool["function"] for tool in sampling.tools if isinstance(tool.get("function"), Mapping)]
    if isinstance(choice, Mapping):
        return [each for each in functions if each.get("name") == (choice.get("function") or {}).get("name")]
    return functions if choice == "required" else []


def _schema_of_calls(functions: Sequence[Mapping[str, Any]], room: int, *, several: bool) -> dict[str, Any]:
    if several:
        ones = {most: _schema_of_calls(functions, room // most, several=False) for most in CALLS}
        listed = {"type": "array", "minItems": 1}
        return {"anyOf": [{**listed, "items": one, "maxItems": most} for most, one in ones.items()]}
    calls = []
    for each in functions:
        arguments = within(each.get("parameters") or {"type": "object"}, room)
        call = {"name": {"const": each["name"]}, "arguments": arguments}
        calls.append({"type": "object", "properties": call, "required": [*call]})
    return {"anyOf": calls}


async def _answers(name: str, events: AsyncGenerator[dict[str, Any], None], room: int) -> Replies:
    calls: list[CallPiece] = []
    finish: Finish | None = None
    counts: TokenCounts | None = None
    async for event in events:
        if "choices" not in event:
            reason = error_of({"error": event, **event})["message"]
            raise EngineError(f"{name}: llama.cpp broke off the answer: {reason}")
        chunk = read_chunk(event)
        calls += chunk.calls
        counts, finish = chunk.counts or counts, chunk.finish or finish
        if chunk.text or chunk.thought:
            yield Delta(chunk.text, thought=chunk.thought)
    if not finish or counts is None:
        raise EngineError(f"{name}: the stream ended without its last event.", hint="Try again.")
    yield Delta(
        finish="context" if finish == "max_tokens" and counts.completion < room else finish,
        prompt_tokens=counts.prompt,
        cached_tokens=counts.cached or 0,
        completion_tokens=counts.completion,
        tool_calls=tool_calls(calls),
    )
