"""Define the base class of local engines, which turn prompts into token ids and check the context length.

Before a model is loaded, settings are checked against the header of the model's file. A context that is too
long wastes memory. Beyond the context length in training, a model writes noise.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from redraft.chain import Finish, Prompt, content_of, loop
from redraft.chain.selfee import NATIVE_FORMAT
from redraft.chain.thoughts import Splitter, Tags, tags_of
from redraft.engines import base
from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Replies, Sampling, Tokens
from redraft.engines.messages import folded, plain
from redraft.engines.schemas import Names, SchemaWatch
from redraft.engines.steering.form import Form
from redraft.engines.steering.writer import Source, written
from redraft.errors import ContextError, ModelError, RecordError, UsageError
from redraft.jobs.machine import free_memory
from redraft.options import MachineOptions
from redraft.weights.gguf.reader import GGUFHeader, check_adapter, check_model, read_header

if TYPE_CHECKING:
    from redraft.chain.spans import ConversationTemplate

_log = logging.getLogger(__name__)

USUAL = MachineOptions()
DEFAULT_CONTEXT = 4096
"""Default context of a chain, in tokens, as for SelFee's chains (reference/selfee.md)."""

SPARSE = 8
"""Maximum characters per token in common texts: English has four to five, code about three. If a text
has more characters than this times the context, its beginning is encoded first: a huge text fails early."""

_OPENS = 24  # tokens at a prompt's end in which its template may open a thought
_CIRCLE = 60  # a thought is a loop if more than this many of its characters repeat earlier ones
_ROUND = 300  # an answer of redraft's own model ends when this many characters repeat those before them
_LONGER = 400  # the same, for repetitions that `loop` does not find, such as of `**`

Told = Mapping[str, Any] | None
"""Variables of a chat template besides the messages, such as `enable_thinking`."""


class Room(NamedTuple):
    """The maximum number of new tokens, and the finish reason for a reply of that length."""

    tokens: int
    limit: Finish


class LocalEngine(Engine):
    """A local engine with `context` tokens per chain. `trained` is the longest context in training."""

    _marks: frozenset[str] | None = None
    """Every control token contains at least one of these characters; None if unknown."""
    _tags = Tags()

    def __init__(self, info: EngineInfo, context: int, trained: int | None = None) -> None:
        self._info, self._context, self._trained = info, context, trained
        self._schemas = SchemaWatch()
        self._template: ConversationTemplate | None = None

    @property
    def info(self) -> EngineInfo:
        """The model and its capabilities."""
        return self._info

    def trust(self, certain: float, *, shipped: bool = False, adapters: Iterable[Path] = ()) -> None:
        """Set `certain`, `shipped` and `adapters` of `info`."""
        names = tuple(path.name.removesuffix(".gguf") for path in adapters)
        self._info = replace(self._info, certain=certain, shipped=shipped, adapters=names)

    def converse(self, template: ConversationTemplate) -> None:
        """Render messages in this format from now on, instead of the model's chat template."""
        self._template = template
        fields = self._info.fields - {base.OF_TEMPLATE}
        self._info = replace(self._info, chats=True, template=template.name, tools=False, fields=fields)

    @abstractmethod
    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text. A text such as `</s>` does not become a control token."""

    @abstractmethod
    async def _tokenize(self, text: str, *, start: bool = False, control: bool) -> Tokens:
        """Return the token ids of a text: `start` prepends BOS, `control` recognises control tokens."""

    @abstractmethod
    async def _render(self, messages: Sequence[Message], told: Told = None) -> str:
        """Render plain-text messages with the model's template and the variables `told`."""

    @abstractmethod
    async def _end(self) -> str:
        """Return the text of the token that ends an answer; empty if there is none."""

    @abstractmethod
    def _continue(self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room) -> Replies:
        """Continue token ids, with at most `room.tokens` new tokens."""

    async def stream(
        self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = (), said: Tokens = ()
    ) -> Replies:
        """Continue a prompt and the answer's start `said`. Closing the generator stops the generation."""
        if isinstance(prompt, str):
            await self._check_length(prompt)
        tokens = await self.encode(prompt, special=True) if isinstance(prompt, str) else prompt
        async with aclosing(self._steered(prompt, (*tokens, *said), sampling, stop)) as deltas:
            async for delta in deltas:
                yield delta

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = (), said: Tokens = ()
    ) -> Replies:
        """Answer messages. The format of `converse` takes precedence over the model's chat template."""
        tokens = await self._asked_tokens(messages, sampling)
        splitter = await self._splitter(tokens)
        splitter.add(await self.decode(said) if said else "")
        stop = [*stop, *self._template.stops] if self._template else stop
        async with aclosing(self._steered(messages, (*tokens, *said), sampling, stop, splitter)) as deltas:
            async for delta in deltas:
                yield delta

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Continue after tokens that another engine of this model wrote."""
        rest = replace(sampling, max_tokens=sampling.max_tokens - len(said), form=None)
        if isinstance(asked, str) or (asked and isinstance(asked[0], int)):
            return self.stream(cast("PromptText", asked), rest, stop, said)
        return self.chat(cast("Sequence[Message]", asked), rest, stop, said)

    async def _asked_tokens(self, messages: Sequence[Message], sampling: Sampling) -> Tokens:
        if not self._info.chats:
            hint = "Use a chat model, or mode 'native'. That mode needs no chat template."
            raise UsageError(f"{self._info.name} has no chat template.", hint=hint)
        told = (sampling.extra_body or {}).get(base.OF_TEMPLATE)
        told_apart = tuple(plain(messages, self._info))
        begun = await self.encode(sampling.begun) if sampling.begun else ()
        try:
            return await self._chat_tokens(told_apart, told) + begun
        except RecordError:
            if (together := folded(told_apart)) == told_apart:
                raise
            return await self._chat_tokens(together, told) + begun

    async def _splitter(self, prompt: Tokens) -> Splitter:
        end = await self.decode(prompt[-_OPENS:]) if self._tags.written and prompt else ""
        return Splitter(self._tags.pairs, self._tags.opened(end))

    def _steered(
        self,
        asked: object,
        prompt: Tokens,
        sampling: Sampling,
        stop: Sequence[str],
        splitter: Splitter | None = None,
    ) -> Replies:
        if splitter and self._tags.written:
            return self._thinking(asked, prompt, sampling, stop, splitter)
        plain = self._formed(asked, prompt, sampling, stop)
        return base.thoughts_apart(plain, splitter) if splitter else plain

    async def _thinking(
        self, asked: object, prompt: Tokens, sampling: Sampling, stop: Sequence[str], splitter: Splitter
    ) -> Replies:
        formed = sampling.form is not None or sampling.schema is not None or bool(sampling.tools)
        most = math.inf if sampling.max_thoughts is None else sampling.max_thoughts
        said, made, close, thought, answered = prompt, prompt, splitter.until, "", False
        free = self._reply(asked, prompt, replace(sampling, form=None, schema=None), stop)
        async with aclosing(base.thoughts_apart(free, splitter)) as deltas:
            async for delta in deltas:
                opened, close = splitter.until and not close, splitter.until or close
                made, thought = (*made, *delta.tokens), thought + delta.thought
                spent = len(made) - len(prompt)
                answered = answered or bool(delta.text.strip())
                thinks = bool(splitter.until) and not answered
                begins = opened or not close
                kept = (begins or (thinks and delta.thought)) and not (answered or delta.finish)
                said += delta.tokens if kept else ()
                circles = thinks and len(thought) - (loop(thought) or len(thought)) > _CIRCLE
                ends = thinks and (circles or spent >= most or delta.finish == "stop")
                if ends or (formed and (answered or (close and not thinks))):
                    break
                yield delta
                if delta.finish:
                    return
        begin = f"<|start|>assistant{self._tags.final}" if self._tags.final else ""
        if not close:
            said = prompt + (await self._tokenize(self._tags.final, control=True) if begin else ())
        elif splitter.until or answered or delta.finish:
            closing = await self._tokenize(close + (begin or "\n\n"), control=True)
            said += closing
            yield Delta(thought=delta.thought, tokens=(*(delta.tokens if kept else ()), *closing))
        else:  # the model closed the thought itself
            begun = await self._tokenize(begin, control=True) if begin else ()
            said = made + begun
            yield replace(delta, tokens=delta.tokens + begun)
        if close and sampling.tools:
            thoughts = {"role": "assistant", "content": "", "reasoning_content": thought.strip()}
            asked = [*cast("Sequence[Message]", asked), thoughts]
        rest = replace(sampling, max_tokens=sampling.max_tokens - spent)
        async with aclosing(self._behind(asked, said, rest, stop, close)) as deltas:
            async for delta in deltas:
                if delta.completion_tokens is not None:
                    count = spent + delta.completion_tokens
                    delta = replace(
                        delta, prompt_tokens=len(prompt), completion_tokens=count, cached_tokens=None
                    )
                yield delta

    async def _behind(
        self, asked: object, said: Tokens, sampling: Sampling, stop: Sequence[str], close: str
    ) -> Replies:
        if sampling.max_tokens <= 0 or len(said) >= self._context:
            finish: Finish = "max_tokens" if sampling.max_tokens <= 0 else "context"
            yield Delta(finish=finish, completion_tokens=0, aside="thoughts alone")
            return
        splitter = Splitter(self._tags.pairs, close)
        splitter.add(close)
        async with aclosing(
            base.thoughts_apart(self._formed(asked, said, sampling, stop), splitter)
        ) as deltas:
            async for delta in deltas:
                yield delta

    def _formed(self, asked: object, prompt: Tokens, sampling: Sampling, stop: Sequence[str]) -> Replies:
        async def go_on(text: str, sampling: Sampling) -> Replies:
            said = await self.encode(text) if text else ()
            async with aclosing(self._reply(asked, (*prompt, *said), sampling, stop)) as deltas:
                async for delta in deltas:
                    yield replace(delta, likeliest=await self._named(delta.likeliest))

        ends = sampling.schema is not None and self._info.forms  # so that texts in JSON end with a sentence
        form = sampling.form or (Form() if ends else None)
        forms = form is not None and (self._info.forms or form.one)
        if form is None or form.pattern or not forms or (sampling.schema is not None and sampling.begun):
            return self._reply(asked, prompt, sampling, stop)
        left = max(self._context - len(prompt), 1)
        limit: Finish = "max_tokens" if sampling.max_tokens <= left else "context"
        asked_for = replace(sampling, max_tokens=min(sampling.max_tokens, left))
        return written(form, asked_for, limit, Source(go_on, self.encode, len(prompt)))

    async def _named(self, likeliest: Sequence[base.Likeliest]) -> tuple[base.Likeliest, ...]:
        texts = {token: "" for top in likeliest for token, _ in top}
        for token in texts:
            texts[token] = token if isinstance(token, str) else await self.decode([token])
        return tuple(tuple((texts[token], number) for token, number in top) for top in likeliest)

    async def _reply(self, asked: object, prompt: Tokens, sampling: Sampling, stop: Sequence[str]) -> Replies:
        _log.debug("%s is asked, with %r: %r", self._info.name, sampling, asked)
        pieces: list[str] = []
        left = self._context - len(prompt)
        try:
            if left <= 0:
                raise ContextError(len(prompt), self._context, trained=self._trained)
            if not prompt:
                raise empty_prompt()
            fits = sampling.max_tokens <= left
            room = Room(min(sampling.max_tokens, left), "max_tokens" if fits else "context")
            async with aclosing(self._continue(prompt, sampling, stop, room)) as deltas:
                kept = sampling.schema is not None and self._info.schemas and not sampling.begun
                free = self._info.shipped and sampling.form is None and sampling.schema is None
                tokens, said = 0, ""
                async for delta in _once_named(deltas, len(prompt)) if kept else deltas:
                    pieces.append(delta.text)
                    if delta.finish and kept and not delta.stop_text:
                        self._schemas.look(self._info.name, "".join(pieces), delta.finish)
                    yield delta
                    tokens, said = tokens + len(delta.tokens), (said + delta.text)[-2 * _LONGER :]
                    if free and not (delta.finish or sampling.unending) and _repeats(said):
                        yield Delta(finish="stop", prompt_tokens=len(prompt), completion_tokens=tokens)
                        return
        finally:
            _log.debug("%s answers: %r", self._info.name, "".join(pieces))

    async def _chat_tokens(self, messages: Sequence[Message], told: Told = None) -> Tokens:
        """Render messages as token ids. Only the template's text may become control tokens.

        Messages without any of `_marks` need no check for control tokens, which saves two tokenizer calls.
        """
        contents = "\n".join(_texts_of(messages))
        await self._check_length(contents)
        if self._marks is not None and self._marks.isdisjoint(contents):
            return await self._rendered(messages, told)
        both = (self._tokenize(contents, control=control) for control in (False, True))
        as_text, as_control, tokens = await asyncio.gather(*both, self._rendered(messages, told))
        return tokens if as_text == as_control else await self._pieced(messages, told)

    async def _check_length(self, text: str) -> None:
        size = SPARSE * self._context
        while size < len(text):
            count = len(await self._tokenize(text[:size], control=False))
            if count > self._context:
                about = count * len(text) // size
                raise ContextError(about, self._context, trained=self._trained, about=True)
            size *= 4

    async def _rendered(self, messages: Sequence[Message], told: Told) -> Tokens:
        return await self._tokenize(await self._written(messages, told), start=True, control=True)

    async def _written(self, messages: Sequence[Message], told: Told = None) -> str:
        if self._template is None:
            return await self._render(messages, told)
        return self._template.text(Prompt(messages=tuple(map(dict, messages))), await self._end())

    async def _pieced(self, messages: Sequence[Message], told: Told = None) -> Tokens:
        mark, texts = secrets.token_hex(8), _texts_of(messages)
        marked: list[Message] = []
        for number, message in enumerate(messages):
            marked.append({"role": message["role"], "content": f"{mark}{number}."})
            if message.get("name"):
                marked[-1]["name"] = f"{mark}{len(messages) + number}."
        first, *rest = (await self._written(marked, told)).split(mark)
        tokens = await self._tokenize(first, start=True, control=True)
        for piece in rest:
            place, _, after = piece.partition(".")
            tokens += await self.encode(texts[int(place)])
            tokens += await self._tokenize(after, control=True)
        return tokens


def _texts_of(messages: Sequence[Message]) -> list[str]:
    return [*map(content_of, messages), *(str(each.get("name") or "") for each in messages)]


def _repeats(text: str) -> bool:
    end = text[-40:]
    period = len(text) - len(end) - text.rfind(end, 0, -1)

    def back(size: int) -> bool:
        return len(text) > size and text[-size:] == text[-size - period : -period]

    return back(_LONGER) or (back(_ROUND) and loop(text) is not None)


def empty_prompt() -> UsageError:
    """Return the error for a prompt without tokens."""
    return UsageError("the prompt is empty.", hint="Give the model something to continue.")


CACHE_BYTES = 2  # bytes of a number in the key-value cache, which llama.cpp keeps in f16


def context_of(model: Path, asked: int | None, trained: int | None) -> int:
    """Return the context's size in tokens: `asked`, or by default min(4,096, trained length)."""
    if asked is not None and trained is not None and asked > trained:
        message = f"--ctx is {asked}, but {model} was trained for contexts of {trained} tokens."
        raise UsageError(message, hint=f"--ctx {trained}")
    return asked or min(DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)


def read_headers(model: Path, adapters: Sequence[Path]) -> list[GGUFHeader]:
    """Read the headers of a GGUF model and its adapters. Check that the files are complete and compatible."""
    headers = [read_header(model, whole=True)]
    check_model(model, headers[0])
    for path in adapters:
        headers.append(read_header(path))
        check_adapter(path, headers[-1], model, headers[0])
    return headers


def gguf_info(model: Path, headers: Sequence[GGUFHeader], context: int) -> EngineInfo:
    """Make the info of a GGUF model. `headers` are the headers of the model and the adapters."""
    return EngineInfo(
        name=model.stem,
        engine="",
        context=context,
        token_ids=True,
        chats=headers[0].text("tokenizer.chat_template") is not None,
        schemas=True,
        resumes=not (thinks := bool(tags_of(headers[0].text("tokenizer.chat_template") or "").written)),
        thinks=thinks,
        logprobs=True,
        parameters=headers[0].parameters,
        native=any(header.text("redraft.format") == NATIVE_FORMAT for header in headers),
    )


def trained_context(header: GGUFHeader) -> int | None:
    """Return the length that a GGUF model was trained for, in tokens; None if unknown."""
    return header.number(f"{header.text('general.architecture')}.context_length") or None


def check_memory(model: Path, header: GGUFHeader, context: int, parallel: int, *, weights: int = 0) -> None:
    """Raise `ModelError` if the key-value cache plus `weights` bytes do not fit into memory."""
    token = cache_bytes(header) * parallel
    free = max(free_memory() - weights, 0)
    if token * context <= free:
        return
    streams = f" for each of {parallel} streams" if parallel > 1 else ""
    # Tokens in half of the free memory: the rest is for other programs.
    room = free // (2 * cache_bytes(header))
    if room >= context:
        hint = f"Use fewer streams: --parallel {room // context}"
    else:
        hint = f"--ctx {max(room, 1)}{' --parallel 1' if parallel > 1 else ''}"
    beside = " after loading its weights" if weights else ""
    raise ModelError(
        f"a context of {context} tokens{streams} needs {token * context / 1e9:.3g} GB of memory with {model},"
        f" but {free / 1e9:.3g} GB are free{beside}.",
        hint=hint if free else "--engine llamacpp needs less.",
    )


def cache_bytes(header: GGUFHeader) -> int:
    """Estimate the bytes of the key-value cache for one token: keys and values of every layer, in f16.

    Return 0 if unknown, as for layers that see only a window of the context.
    """
    architecture = header.text("general.architecture")

    def number(key: str) -> int:
        return header.number(f"{architecture}.{key}") or 0

    if number("attention.sliding_window"):
        return 0
    heads = number("attention.head_count")
    size = number("embedding_length") // heads if heads else 0
    keys, values = (number(f"attention.{part}_length") or size for part in ("key", "value"))
    of_layers = header.metadata.get(f"{architecture}.attention.head_count_kv")
    if isinstance(of_layers, tuple):  # one number per layer; 0 for a layer without attention
        cached = sum(count for count in of_layers if isinstance(count, int))
    else:
        cached = number("block_count") * (number("attention.head_count_kv") or heads)
    return cached * (keys + values) * CACHE_BYTES


async def _once_named(deltas: Replies, prompt: int) -> Replies:
    names, held, said, count = Names(), list[Delta](), "", 0
    async for delta in deltas:
        held.append(delta)
        count += len(delta.tokens)
        whole = names.take(delta.text)
        if whole is not None:
            rest, most = whole.removeprefix(said), delta.completion_tokens or count
            yield Delta(rest, finish="stop", prompt_tokens=prompt, completion_tokens=most)
            return
        if delta.finish or names.member < 0:
            for each in held:
                said += each.text
                yield each
            held.clear()
