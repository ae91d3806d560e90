"""Run a model on replicas that Ray Serve runs on nodes.

`RayEngine` runs in the server's process, so a chain survives the death of a replica: another replica
continues the reply after the last token. If an engine cannot continue replies, or a schema constrains the
whole reply, the call fails, and the chain resumes after its last complete step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from redraft.engines import base
from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Replies, Sampling, Tokens
from redraft.engines.remote.wire import estimated_counts
from redraft.engines.retry import Patience
from redraft.errors import EngineCrash, EngineError, EngineTimeout
from redraft.serve.cluster.connect import ClusterError
from redraft.serve.cluster.replica import Fault, ReplicaPiece, Way

_log = logging.getLogger(__name__)

TRIES = 5  # replicas in a row that may die during a call without sending a new piece


@dataclass
class _Told:
    said: list[int] = field(default_factory=list)
    spelt: bool = True  # all text came with its tokens
    shown: bool = False  # a delta was passed on
    begun: bool = False  # this replica has sent a piece
    before: int = 0  # tokens that earlier replicas wrote
    starts: list[int] = field(default_factory=list)  # `before` of each replica that read its prompt and died
    deaths: int = 0  # replicas that died in a row
    unsteered: bool = False

    def take(self, delta: Delta) -> Delta:
        self.begun, self.shown, self.deaths = True, True, 0
        self.said += delta.tokens
        self.spelt = self.spelt and (bool(delta.tokens) or not delta.text)
        if self.unsteered:
            delta = replace(delta, unsteered=True)
        if not (delta.finish and self.starts):
            return delta
        prompt = (delta.prompt_tokens or 0) - self.before
        lost = sum(prompt + start for start in self.starts)
        written = (delta.completion_tokens or 0) + self.before
        return replace(delta, prompt_tokens=(delta.prompt_tokens or 0) + lost, completion_tokens=written)

    def lost(self, asked: Any) -> Delta:
        body = {"messages": asked} if isinstance(asked, list) else {"prompt": asked}
        prompt = estimated_counts(body, 0).prompt * len(self.starts)
        return Delta(prompt_tokens=prompt, completion_tokens=len(self.said), estimated=True)

    def broke(self) -> None:
        if self.begun:
            self.starts.append(self.before)
        self.before, self.begun, self.deaths = len(self.said), False, self.deaths + 1


class RayEngine(Engine):
    """An engine whose model runs on replicas. `connect` creates the engine."""

    def __init__(self, handle: Any, info: EngineInfo, patience: Patience, *, resumes: bool) -> None:
        self._handle, self._info, self._patience, self._resumes = handle, info, patience, resumes
        self._replies = handle.options(method_name="reply", stream=True)
        self._dead: set[str] = set()
        self._trouble = ""

    @classmethod
    async def connect(cls, handle: Any, patience: Patience) -> RayEngine:
        """Return an engine for the replicas of `handle`, Ray Serve's handle of a `Replica` deployment.

        Raises:
            ClusterError: No replica answers.
        """
        try:
            info, resumes = await handle.about.remote()
        except (RayError, RayServeException) as error:
            message = f"no replica of {handle.deployment_id.app_name} answers: {error!s:.200}"
            raise ClusterError(message, hint="To see why, run: ray status") from error
        return cls(handle, info, patience, resumes=resumes)

    @property
    def info(self) -> EngineInfo:
        """The model and its capabilities."""
        return self._info

    @property
    def health(self) -> base.Health:
        """The health of the replicas, as seen from earlier replies."""
        return base.Health(len(self._dead), self._trouble)

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text."""
        found: Tokens = await self._ask("encode", text, special=special)
        return found

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids."""
        return str(await self._ask("decode", tokens))

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Score texts on a replica."""
        found: list[tuple[float, ...]] = await self._ask("score", texts)
        return found

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text on a replica."""
        return self._reply("stream", prompt, sampling, stop)

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages on a replica."""
        return self._reply("chat", list(messages), sampling, stop)

    async def _ask(self, method: str, *given: Any, **more: Any) -> Any:
        for tries in range(TRIES):
            try:
                found = await self._handle.ask.remote(method, *given, **more)
            except (RayError, RayServeException) as error:
                crash = self._crash(error, "")
                if tries + 1 == TRIES or not isinstance(crash, EngineCrash):
                    raise crash from error
            else:
                if isinstance(found, Fault):
                    raise found.error
                return found
        raise AssertionError

    async def _reply(self, way: Way, asked: Any, sampling: Sampling, stop: Sequence[str]) -> Replies:
        told, sampling = _Told(), replace(sampling, extra_headers=None)
        while True:
            try:
                async with aclosing(self._once(way, asked, sampling, stop, tuple(told.said))) as deltas:
                    async for delta in deltas:
                        yield told.take(delta)
                        if delta.finish:
                            return
            except EngineCrash as crash:
                told.broke()
                _log.warning("%s Its reply was interrupted.", crash.message)
                if told.deaths >= TRIES:
                    raise
                if told.shown and not (self._resumes and told.spelt and sampling.schema is None):
                    yield told.lost(asked)
                    crash.passing = crash.ready = True
                    raise
                if told.shown and sampling.form is not None:
                    sampling, told.unsteered = replace(sampling, form=None), True

    async def _once(
        self, way: Way, asked: Any, sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        reply = self._replies.remote(way, asked, sampling, stop, said, chain=sampling.chain)
        name, limit, ended = "", self._patience.first_token, False
        try:
            while True:
                async with asyncio.timeout(limit):
                    piece: ReplicaPiece = await anext(reply)
                name, limit, self._trouble = piece.replica, self._patience.between_tokens, ""
                if piece.fault:
                    raise piece.fault.error
                for delta in piece.deltas:
                    ended = delta.finish is not None
                    yield delta
                    if ended:
                        return
        except TimeoutError:
            raise EngineTimeout(f"no replica of {self._info.name} wrote anything in {limit:g} s.") from None
        except (RayError, RayServeException, StopAsyncIteration) as error:
            raise self._crash(error, name) from error
        finally:
            if not ended:
                reply.cancel()

    def _crash(self, error: Exception, name: str) -> EngineError:
        if isinstance(error, RayTaskError):
            return EngineError(f"a replica of {self._info.name} failed: {error.cause!r:.200}.")
        if name:
            self._dead.add(name)
        self._trouble = f"a replica of {self._info.name} died."
        return EngineCrash(self._trouble, hint="To see why, run: ray status")
