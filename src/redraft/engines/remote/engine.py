"""The engine of a server that speaks the OpenAI protocol: vLLM, llama.cpp, Ollama, SGLang, OpenAI and others.

    engine = await RemoteEngine.connect("http://localhost:8000/v1", "qwen")

Chats go to `/chat/completions`, raw text to `/completions`. A server without `/completions` is recognised at
the first request for raw text. Reasoning in a separate field or in tags is not part of the answer. Token ids
are neither sent nor read.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from http import HTTPStatus
from math import inf
from typing import Any, Self

import httpx

from redraft.chain import Finish
from redraft.chain.thoughts import Splitter, apart
from redraft.engines import base
from redraft.engines.base import Delta, Engine, EngineInfo, Message, Price, PromptText, Replies, Sampling
from redraft.engines.config import Key
from redraft.engines.remote import wire
from redraft.engines.remote.server import ADDRESS_HINT, MISSING, Refusal, Server
from redraft.engines.remote.written_calls import calls_apart
from redraft.engines.retry import Patience, backoff
from redraft.engines.schemas import UNBOUND, SchemaWatch, for_servers_of_llamacpp
from redraft.engines.steering.grammar import gbnf
from redraft.engines.steering.writer import Source, written
from redraft.errors import ContextError, EngineError, EngineTimeout, ServerError, UsageError
from redraft.jobs.counting import counted

_log = logging.getLogger(__name__)

_CHAT, _RAW, _EMBEDDINGS = "/chat/completions", "/completions", "/embeddings"
_GRACE_FOR_COUNTS, _GRACE_FOR_END = 5.0, 0.5
"""Seconds to wait for token counts after the finish reason, and for the connection's end after `[DONE]`."""

Reach = Callable[[str, Key | None, Patience], Server]

_OF_BEGINNING = re.compile(r"(?i)assistant|prefill|continue|last message|generation|roles?\b|alternate|user")
"""Matches error messages of servers that cannot continue the beginning of an answer."""
_OF_LLAMACPP = ("llamacpp", "library", "organization_owner")
"""Owners of models on servers that run llama.cpp: llama-server, Ollama and LM Studio."""
_END = object()
_SEE_LOG = "The server may have stopped, or run out of memory: see its log."


class RemoteEngine(Engine):
    """A model on a server. `connect` asks the server about the model; the constructor sends nothing.

    Args:
        url: The base address, such as `http://localhost:8000/v1`.
        key: Sent as a bearer token, to this server only.
        context: Length of the context in tokens, if known.
        reach: The class that sends requests: `Server` sends at once, `batch.BatchServer` in batches.

    Raises:
        UsageError: The address is invalid, or the key would be sent unencrypted to another machine.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: Key | None = None,
        patience: Patience = Patience(),  # noqa: B008  (frozen)
        context: int | None = None,
        reach: Reach = Server,
    ) -> None:
        self._server = reach(url, key, patience)
        self._info = EngineInfo(
            name=model,
            engine="remote",
            context=context,
            any_message=True,
            any_request=True,
            tools=True,
            own_sampling=True,
            schemas=True,
            logprobs=True,
        )
        # Fields that the server refuses, by schema; under the empty key, those refused in all requests.
        self._refused: defaultdict[str, set[str]] = defaultdict(set)
        self._schemas, self._owner = SchemaWatch(), ""
        self._opened_thoughts = dict[bool | None, str]()  # see `base.opened_by_prompt`
        self._grammar = ""  # the field of a request that takes a grammar; empty if none does

    @classmethod
    async def connect(
        cls,
        url: str,
        model: str | None = None,
        *,
        key: Key | None = None,
        patience: Patience = Patience(),  # noqa: B008  (frozen)
        price_of: Callable[[str], Price | None] = lambda _: None,
        reach: Reach = Server,
    ) -> Self:
        """Ask the server about a model, and return the model's engine.

        `model` may be omitted if the server has only one model.

        Raises:
            UsageError: No model is named, and the server has no model or several models.
            ServerError: The server is down, refuses the key, or does not speak the protocol.
        """
        engine = cls(url, model or "", key=key, patience=patience, reach=reach)
        try:
            found = await choose(engine._server, model)
        except BaseException:
            await engine.aclose()
            raise
        engine._owner, engine._grammar = found.owner, found.grammar
        known = replace(engine._info, name=found.name, context=found.context, price=price_of(found.name))
        known = replace(known, any_message=found.any_message)
        engine._info = replace(known, forms=bool(found.grammar), resumes=bool(found.grammar))
        return engine

    @property
    def info(self) -> EngineInfo:
        """The model and its capabilities; `continues` is true until the server refuses raw text."""
        return self._info

    @property
    def health(self) -> base.Health:
        """The health of the server."""
        return self._server.retry.health

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text. If a reply breaks off, yield the token counts, then raise."""
        return self._deltas(_RAW, wire.completion_body(self._info.name, prompt, sampling, stop), sampling)

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages. If a reply breaks off, yield the token counts, then raise."""
        if sampling.schema is not None and self._owner in _OF_LLAMACPP:
            sampling = replace(sampling, schema=for_servers_of_llamacpp(sampling.schema))
        body = wire.chat_body(self._info.name, messages, sampling, stop)
        extra = sampling.extra_body or {}
        own, begun = wire.GRAMMARS & extra.keys(), sampling.begun
        form = sampling.form
        if form is None or form.pattern or not self._info.forms or sampling.schema is not None or own:
            if begun:
                return self._go_on(messages, begun, replace(sampling, form=None), stop)
            deltas, splitter = self._deltas(_CHAT, body, sampling, steered=form is None), Splitter()
            known = self._opened_thoughts if sampling.schema is None else {}  # a schema allows no thoughts
            deltas = base.opened_by_prompt(deltas, splitter, known, extra)
            tools = () if extra.get("tool_choice") == "none" else sampling.tools
            return calls_apart(base.thoughts_apart(deltas, splitter), tools, bare=sampling.schema is None)
        read = wire.estimated_counts(body, 0).prompt
        source = Source(lambda text, asked: self._go_on(messages, begun + text, asked, stop), None, read)
        return written(form, sampling, "max_tokens", source)

    async def _go_on(
        self, messages: Sequence[Message], text: str, sampling: Sampling, stop: Sequence[str]
    ) -> Replies:
        said: list[Message] = [{"role": "assistant", "content": text}] if text else []
        body = wire.chat_body(self._info.name, [*messages, *said], sampling, stop)
        if said and self._owner != "llamacpp":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if sampling.unending:
            body["ignore_eos"] = True
        if sampling.form is not None and (grammar := gbnf(sampling.form)):
            body[self._grammar] = {"grammar": grammar} if self._grammar == "structured_outputs" else grammar
        try:
            async with aclosing(
                base.thoughts_apart(self._deltas(_CHAT, body, sampling), Splitter())
            ) as deltas:
                async for delta in deltas:
                    yield delta
        except ServerError as error:
            if said and error.status == 400 and _OF_BEGINNING.search(error.message):
                self._without_forms("it cannot continue an answer")
                error.ready = True
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()

    async def _deltas(
        self, path: str, body: wire.Body, sampling: Sampling, *, steered: bool = True
    ) -> Replies:
        self._check(path, body)
        extra = sampling.extra_body or {}  # it may set a lower limit than `max_tokens`
        asked = [body.get("max_tokens"), *map(extra.get, ("max_tokens", "max_completion_tokens"))]
        limit = min((n for n in asked if isinstance(n, int)), default=inf)
        reply, stops = _Reply(body), wire.Stops(tuple(body.get("stop") or ()))
        try:
            async with (
                self._opened(path, body, sampling) as (response, reply.request),
                aclosing(self._chunks(response, reply)) as chunks,
            ):
                reply.taken = True
                lost = body.keys() - reply.request.keys()
                steered = steered and not lost & {*wire.GRAMMARS, "response_format"}
                async for chunk in chunks:
                    text = stops.add(chunk.text)
                    if text or chunk.logprobs or chunk.thought:
                        piece = Delta(text, thought=chunk.thought, unsteered=not steered)
                        yield replace(piece, logprobs=chunk.logprobs, likeliest=chunk.likeliest)
                    if stops.found:  # the server continues after the stop string
                        yield replace(reply.counted(), finish="stop", stop_text=stops.found)
                        return
            yield self._last(reply, stops.end(), limit, sampling)
        except EngineError as error:
            complaint = wire.Complaint(error.args[0])
            if reply.taken and wire.GRAMMARS & reply.request.keys() and wire.is_about_grammar(complaint):
                self._without_forms(complaint.message)
                error.ready = True
            if reply.taken:  # the tokens so far are paid for
                yield reply.counted()
            if error.passing and isinstance(error, ServerError):  # the server may be stopping: raise later
                await asyncio.sleep(backoff(1, self._server.patience.backoff))
            raise
        finally:
            if reply.begun or reply.finish:
                self._debug("answers", {"text": reply.text, "tool_calls": reply.called})
            answered = reply.begun or reply.finish or reply.counts
            self._server.retry.rate.used(reply.used.total if answered else 0)

    def _check(self, path: str, body: wire.Body) -> None:
        if path == _RAW and not self._info.continues:
            raise self._no_raw_text()
        if not isinstance(body.get("prompt", ""), str):
            raise ServerError(f"{self._server.url} does not support token ids; send text.")

    def _last(self, reply: _Reply, text: str, limit: float, sampling: Sampling) -> Delta:
        if reply.finish == "error" or not (reply.finish or (reply.done and (reply.counts or reply.begun))):
            how = "ended the answer with an error" if reply.finish else "broke off the stream"
            raise self._broken(f"{how} after {counted(len(reply.text), 'character')}.")
        if "response_format" in reply.request:
            name = f"{self._server.host}#{self._info.name}"
            self._schemas.look(name, apart(reply.text)[1], reply.finish or "stop")
        if wire.GRAMMARS & reply.request.keys() and reply.thought and not reply.text.strip():
            self._without_forms("only its thoughts follow the grammar, not its answer")
        return replace(
            reply.counted(),
            text=text,
            finish=reply.finish_of(limit, self._info.context),
            stop_text=reply.stop_text,
            aside=self._server.clean(reply.aside),
            tool_calls=reply.called if sampling.tools else (),
        )

    def _broken(self, how: str, reason: str = "") -> ServerError:
        error = ServerError(f"{self._server.host} {how}{reason}", hint=_SEE_LOG, passing=True)
        error.reason = reason
        if not (reason or self._server.retry.doubt.down):  # it may be dead
            self._server.retry.doubt = base.Health(trouble=error.for_log)
        return error

    @asynccontextmanager
    async def _opened(
        self, path: str, body: wire.Body, sampling: Sampling
    ) -> AsyncIterator[tuple[httpx.Response, wire.Body]]:
        extra, headers = sampling.extra_body or {}, sampling.extra_headers or {}
        self._server.hide(extra, headers)
        schema = repr(sampling.schema)
        body = wire.in_dialect(body, self._refused[""] | self._refused.get(schema, set()))
        refusals: list[tuple[Set[str], Refusal]] = []
        while True:
            self._debug(f"gets a request to {path}", body)
            async with self._server.asked(path, {**body, **extra}, headers, sampling.call_id) as reply:
                if isinstance(reply, httpx.Response):
                    self._remember(schema, refusals)
                    yield reply, body
                    return
            changed = wire.adapted(body, reply.complaint) if reply.status in (400, 422, 500) else None
            if changed is None:
                raise await self._error(path, reply)
            if changed.get("messages") == body.get("messages"):
                refusals.append((body.keys() - changed.keys(), reply))
            body = changed

    def _remember(self, schema: str, refusals: Sequence[tuple[Set[str], Refusal]]) -> None:
        """Leave refused fields out of later requests, once a request without the fields has succeeded."""
        for gone, refusal in refusals:
            if gone & wire.GRAMMARS:
                self._without_forms(refusal.complaint.message)
            of_schema = "response_format" in gone
            refused = self._refused[schema if of_schema else ""]
            if of_schema and not gone <= refused:  # otherwise another call has logged the refusal
                words = self._server.clean(refusal.complaint.message)[:200].rstrip(" .")
                _log.warning("%s refuses response_format: %s. So %s.", self._server.host, words, UNBOUND)
            refused |= gone

    def _without_forms(self, why: str) -> None:
        if self._grammar:
            words = self._server.clean(why)[:200].rstrip(" .")
            _log.warning("checks cannot steer %s, only test its answers: %s.", self._server.host, words)
        self._grammar, self._info = "", replace(self._info, forms=False, resumes=False)

    def _debug(self, what: str, record: wire.Body) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s %s: %s", self._server.host, what, self._server.without_secrets(repr(record)))

    async def _chunks(self, response: httpx.Response, reply: _Reply) -> AsyncGenerator[wire.Chunk, None]:
        patience, clock = self._server.patience, asyncio.get_running_loop().time
        deadline = response.extensions["asked_at"] + patience.first_token
        async with aclosing(self._server.records(response)) as records:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        record = await anext(records, _END)
                except TimeoutError:
                    if not (reply.finish or reply.done):
                        raise self._silence(reply) from None
                    return
                if record is _END:
                    return
                chunk = self._chunk(record)
                reply.add(chunk, done=record is None)
                yield chunk
                if reply.finish or reply.done:
                    deadline = clock() + (_GRACE_FOR_END if reply.done else _GRACE_FOR_COUNTS)
                elif reply.begun and (chunk.generated or chunk.finish):
                    deadline = clock() + patience.between_tokens

    def _chunk(self, record: Any) -> wire.Chunk:
        if record is None:
            return wire.Chunk()
        if isinstance(record, dict) and "choices" in record:
            try:
                return wire.read_chunk(record)
            except ValueError as error:
                raise self._not_the_protocol(f"{record}: {error}") from None
        if (complaint := wire.read_complaint(record)) is None:
            raise self._not_the_protocol(str(record))
        raise self._broken("failed while it answered: ", self._server.clean(complaint.message))

    async def _error(self, path: str, refusal: Refusal) -> EngineError:
        complaint = refusal.complaint
        if refusal.status in (400, 413, 422) and complaint.prompt_tokens and complaint.context:
            too_long = ContextError(complaint.prompt_tokens, complaint.context)
            too_long.hint = "Shorten the prompt, or choose a model with a longer context."
            return too_long
        if refusal.status == 404 and complaint.about_model and "chat/completions" not in complaint.message:
            names = list[str]()
            with suppress(EngineError):
                names = [listed.name for listed in await models(self._server, needed=False)]
            if self._info.name in names:
                return self._server.error(refusal, "")
            near = get_close_matches(self._info.name, names, 1) or names
            hint = f"--model {self._server.url}#{near[0]}" if near else None
            message = _having(self._server, f"no model {self._info.name!r}", names)
            self._server.retry.doubt = base.Health(trouble=message, down=True)
            return ServerError(message, hint=hint, status=refusal.status)
        if path == _RAW and refusal.status in MISSING:
            self._info = replace(self._info, continues=False)
            return self._no_raw_text()
        error = self._server.error(refusal, path)
        if refusal.status == HTTPStatus.UNAUTHORIZED or refusal.of_account:
            self._server.retry.doubt = base.Health(trouble=error.for_log, down=True)
        return error

    def _no_raw_text(self) -> ServerError:
        message = f"{self._server.url} has no {_RAW}: it supports chat, but not raw text."
        return ServerError(message, hint="Use mode 'prompted', which needs only chat.")

    def _not_the_protocol(self, record: str) -> ServerError:
        shown = self._server.clean(record)[:80]
        message = f"{self._server.host} answered with JSON outside the OpenAI protocol: {shown}"
        return ServerError(message, hint=ADDRESS_HINT)

    def _silence(self, reply: _Reply) -> EngineTimeout:
        patience = self._server.patience
        limit = patience.first_token
        hint = "It may be loading the model, or busy: see its log, and try again."
        sent = f"no first token within {limit:g} s"
        if reply.begun:
            limit, hint = patience.between_tokens, "It may have hung: see its log."
            sent = f"no token for {limit:g} s, after {counted(len(reply.text), 'character')}"
        return EngineTimeout(f"{self._server.host} sent {sent}.", hint=hint, passing=limit < patience.outage)

    async def embed(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Ask this model for embeddings, and return the server's reply unchanged."""
        body = {**asked, "model": self._info.name}
        found = await self._server.fetch("POST", f"{self._server.url}{_EMBEDDINGS}", body)
        if isinstance(found, Refusal):
            raise await self._error(_EMBEDDINGS, found)
        if not isinstance(found, dict) or not isinstance(found.get("data"), list):
            raise self._not_the_protocol(str(found))
        self._server.retry.served()
        return found


@dataclass
class _Reply:
    request: wire.Body
    taken: bool = False
    text: str = ""
    begun: bool = False
    thought: bool = False
    calls: list[wire.CallPiece] = field(default_factory=list)
    refusal: str = ""
    done: bool = False
    finish: Finish | None = None
    stop_text: str | None = None
    counts: wire.TokenCounts | None = None
    size: int = 0
    pieces: int = 0

    def add(self, chunk: wire.Chunk, *, done: bool) -> None:
        self.text += chunk.text
        self.size += chunk.size
        self.pieces += chunk.generated
        self.begun = self.begun or chunk.generated
        self.thought = self.thought or bool(chunk.thought)
        self.calls += chunk.calls
        self.refusal += chunk.refusal
        self.done = self.done or done
        self.finish = chunk.finish or self.finish
        self.stop_text = chunk.stop_text or self.stop_text
        self.counts = chunk.counts or self.counts

    @property
    def aside(self) -> str:
        parts = [f"a call of the tool {name!r}" for name in (piece.name for piece in self.calls) if name]
        parts += [f"a refusal: {self.refusal}"] if self.refusal else []
        parts += ["nothing, because of the server's content filter"] if self.finish == "filtered" else []
        return ", ".join(parts or (["thoughts alone"] if self.thought else []))

    @cached_property  # cached, so that calls without an id have the same random id in the log
    def called(self) -> tuple[wire.Body, ...]:
        return wire.tool_calls(self.calls)

    @property
    def used(self) -> wire.TokenCounts:
        return self.counts or wire.estimated_counts(self.request, self.size, self.pieces)

    def counted(self) -> Delta:
        used = self.used
        return Delta(
            prompt_tokens=used.prompt,
            cached_tokens=used.cached,
            completion_tokens=used.completion,
            estimated=used.estimated,
        )

    def finish_of(self, limit: float, context: int | None) -> Finish:
        """Return the finish reason: `context` for a reply that was cut off before the request's token limit.

        If the request has no limit, `context` means that the reply filled the context.
        """
        if self.finish != "max_tokens":
            return self.finish or "stop"
        asked = self.request.get("max_tokens", self.request.get("max_completion_tokens"))
        length = self.counts.completion if self.counts else asked
        full = length is not None and length < limit
        if limit == inf:
            full = self.counts is not None and context is not None and self.counts.total >= context
        return "context" if full else "max_tokens"


@dataclass(frozen=True)
class Listed:
    """An entry of `GET /models`. `owner` is `vllm`, `llamacpp`, or another name."""

    name: str
    context: int | None = None
    owner: str = ""
    any_message: bool = True
    grammar: str = ""  # the field of a request that takes a grammar


async def choose(server: Server, name: str | None) -> Listed:
    """Return the model with this name, or the only model if the name is None."""
    listed = await models(server, needed=name is None)
    names = [model.name for model in listed]
    if name is not None:
        # llama.cpp answers to every name.
        owner = "llamacpp" if any(model.owner == "llamacpp" for model in listed) else ""
        found = next((model for model in listed if model.name == name), Listed(name, owner=owner))
        if names and not owner and not {name, f"{name}:latest"} & {*names}:  # Ollama leaves `:latest` out
            server.retry.doubt = base.Health(trouble=_having(server, f"no model {name!r}", names))
    elif len(listed) == 1:
        found = listed[0]
    else:
        message = _having(server, f"{len(names) or 'no'} models, and no model was named", names)
        raise UsageError(message, hint=f"--model {server.url}#{names[0] if names else 'name'}")
    fields = {"llamacpp": "grammar", "sglang": "ebnf", "vllm": "structured_outputs"}
    return replace(found, grammar=fields.get(found.owner, ""))


async def models(server: Server, *, needed: bool) -> list[Listed]:
    """Return the server's models.

    If the list is not `needed`, most failures give an empty list, without retries.
    """
    # `transformers serve` answers chats even if `GET /models` fails.
    reply = await server.fetch("GET", server.url + "/models", patient=needed)
    if isinstance(reply, Refusal):
        if needed or reply.of_key or 300 <= reply.status < 400:
            error = server.error(reply, "/models")
            if reply.status == HTTPStatus.INTERNAL_SERVER_ERROR:  # a named model may still answer
                error.hint = f"{error.hint} Or name the model: --model {server.url}#name"
            raise error
        return []
    entries = reply.get("data") if isinstance(reply, dict) else None
    listed = entries if isinstance(entries, list) else []
    return [_listed(entry) for entry in listed if isinstance(entry, dict) and entry.get("id")]


def _having(server: Server, what: str, names: Sequence[str]) -> str:
    shown = [*names[:10], "…"] if len(names) > 10 else names
    return f"{server.url} has {what}." + (f" It has {', '.join(shown)}." if shown else "")


def _listed(entry: dict[str, Any]) -> Listed:
    meta, own = (each if isinstance(each, dict) else {} for each in map(entry.get, ("meta", "redraft")))
    lengths = [entry.get(name) for name in ("max_model_len", "context_length", "context_window")]
    lengths += [meta.get("n_ctx"), own.get("context")]
    context = next((length for length in lengths if isinstance(length, int) and length > 0), None)
    owner, images = str(entry.get("owned_by", "")), own.get("images") is not False
    return Listed(str(entry["id"]), context, owner, any_message=images)
