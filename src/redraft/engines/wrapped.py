"""Wrap engines: process the replies of another engine, and pass on everything else unchanged."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic import TypeAdapter

from redraft.chain import Usage
from redraft.chain.thoughts import Splitter
from redraft.engines import base
from redraft.engines.base import Delta, Engine, EngineRole, Message, PromptText, Replies, Sampling, Tokens
from redraft.errors import EngineError, RedraftError, crash_of, shown

if TYPE_CHECKING:
    from redraft.jobs.journal import Journal  # it opens SQLite, which most chains do not need

Ask = Callable[[Sampling], Replies]


class WrappedEngine(ABC):
    """An engine that wraps another engine."""

    def __init__(self, engine: Engine) -> None:
        self.wrapped = engine

    @property
    def info(self) -> base.EngineInfo:
        """The wrapped engine's info."""
        return self.wrapped.info

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Encode with the wrapped engine."""
        return await self.wrapped.encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        """Decode with the wrapped engine."""
        return await self.wrapped.decode(tokens)

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Score with the wrapped engine."""
        return await self.wrapped.score(texts)

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text with the wrapped engine."""
        request = {"way": "stream", "asked": prompt, "sampling": sampling, "stop": list(stop)}
        return self._reply(request, lambda changed: self.wrapped.stream(prompt, changed, stop))

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages with the wrapped engine."""
        request = {"way": "chat", "asked": list(messages), "sampling": sampling, "stop": list(stop)}
        return self._reply(request, lambda changed: self.wrapped.chat(messages, changed, stop))

    async def aclose(self) -> None:  # noqa: B027
        """Do nothing: the wrapped engine belongs to the caller."""

    @abstractmethod
    def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        """Reply to a request. `ask` calls the wrapped engine with a given sampling."""


class GuardedEngine(WrappedEngine):
    """Wraps a plugin's engine, and turns the engine's exceptions and invalid deltas into `EngineError`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages. Thoughts in tags are separated from the answer."""
        return base.thoughts_apart(super().chat(messages, sampling, stop), Splitter())

    async def aclose(self) -> None:
        """Close the wrapped engine."""
        # Callers have no reference to it.
        await self.wrapped.aclose()

    async def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        name, finish, fault = self.info.name, None, "ended a reply without a finish reason"
        try:
            async with aclosing(ask(request["sampling"])) as deltas:
                async for delta in deltas:
                    if not isinstance(cast("object", delta), Delta):
                        fault = f"yielded {shown(delta)}, not a Delta"
                        break
                    finish = delta.finish or finish
                    yield delta
        except RedraftError:
            raise
        except (Exception, SystemExit) as error:
            logging.getLogger(__name__).debug("%s crashed.", name, exc_info=error)
            hint = "The engine is at fault. To see the traceback: redraft --debug …"
            raise EngineError(f"the engine {name!r} crashed: {crash_of(error)}.", hint=hint) from error
        if finish is None:
            raise EngineError(f"the engine {name!r} {fault}.", hint=_DELTAS)


_DELTAS = "Yield Delta('text') for each piece, and Delta(finish='stop', completion_tokens=9) as the last."


class MeteredEngine(WrappedEngine):
    """Add up the usage of an engine's calls.

    `ended` is called after each call. `writing` is called with the number of new tokens in each piece, and at
    the end of a call with the negated sum.
    """

    def __init__(
        self,
        engine: Engine,
        ended: Callable[[], None] = lambda: None,
        writing: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(engine)
        self._usage, self._ended, self._writing = Usage(), ended, writing

    def take(self) -> Usage:
        """Return the usage since the last call of this method."""
        usage, self._usage = self._usage, Usage()
        return usage

    async def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        seen, size, last = 0, 0, Delta()
        try:
            async with aclosing(ask(request["sampling"])) as deltas:
                async for last in deltas:
                    new = len(last.tokens) or bool(last.text)
                    seen += new
                    self._writing(new)
                    size += len(last.text.encode("utf-8", "surrogatepass"))
                    yield last
        except (GeneratorExit, asyncio.CancelledError):
            if last.completion_tokens is None and self.info.engine == "remote":
                from redraft.engines.remote.wire import estimated_counts

                # The server sent no counts, and may charge. A received piece shows that it read the prompt.
                asked = request["asked"]
                body = {"messages": asked} if isinstance(asked, list) else {"prompt": asked}
                counts = estimated_counts(body, size, seen)
                read = counts.prompt if seen else 0
                last = Delta(prompt_tokens=read, completion_tokens=counts.completion, estimated=True)
            raise
        finally:  # a reply that is cancelled counts too
            self._writing(-seen)
            self._usage += Usage(
                prompt_tokens=last.prompt_tokens or 0,
                cached_tokens=last.cached_tokens or 0,
                completion_tokens=seen if last.completion_tokens is None else last.completion_tokens,
                estimated=last.estimated,
            )
            self._ended()


class JournaledEngine(WrappedEngine):
    """Replay the replies that a journal contains, so that a resumed run does not pay for them again.

    Equal requests to this engine are counted, and each has a reply of its own. Replies that the caller closes
    early are not stored. Closing this engine leaves the journal open.

    `identity` contains JSON values that identify the model. `scope` is the item's id in a job, or empty for
    a cache, which all items share. `used` is the number of replies that a resumed chain already contains.
    """

    def __init__(
        self, engine: Engine, journal: Journal, *, identity: Any, scope: str = "", used: int = 0
    ) -> None:
        super().__init__(engine)
        self._journal, self._used = journal, used
        self._about = {"identity": identity, "model": engine.info.name, "scope": scope}
        told = {"dtype": engine.info.dtype, "template": engine.info.template}
        self._about |= {name: value for name, value in told.items() if value}
        self._asked: Counter[str] = Counter()

    def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        from redraft.jobs.journal import key_of

        # The number is taken now, because it counts the calls in the order in which they are made.
        equal = self._key(request)
        number = self._asked[equal]
        self._asked[equal] += 1
        key = key_of([equal, self._used + number])

        def failed() -> None:  # the next equal call reuses the number
            if self._asked[equal] == number + 1:
                self._asked[equal] = number

        return self._deltas(key, lambda: ask(replace(request["sampling"], call_id=key)), failed)

    def _key(self, request: dict[str, Any]) -> str:
        from redraft.jobs.journal import key_of

        sampling = asdict(request["sampling"])
        del sampling["extra_headers"], sampling["call_id"], sampling["chain"]
        del sampling["unset"]
        if self.info.own_sampling:
            for name in request["sampling"].left_out - {"top_p"}:
                del sampling[name]
        always = {"temperature", "top_p", "max_tokens", "seed"}
        always |= {"max_thoughts"} if sampling["max_thoughts"] == 0 else set()
        sampling = {name: value for name, value in sampling.items() if value or name in always}
        if form := sampling.get("form"):
            form["limits"] = [{**each, "count": each["count"].__qualname__} for each in form["limits"]]
        return key_of({**self._about, **request, "sampling": sampling})

    async def _deltas(self, key: str, ask: Callable[[], Replies], failed: Callable[[], None]) -> Replies:
        if (stored := self._journal.get(key)) is not None:
            self._journal.replayed += 1
            try:
                found = _deltas_of().validate_python(stored)
                whole = found and found[-1].finish and not any(each.keys() - _FIELDS for each in stored)
            except ValueError:
                whole = None
            if not whole:
                raise self._journal.unusable("one is damaged, or from another redraft version")
            for delta in found:
                yield delta
            return
        deltas, start, passed = list[Delta](), time.monotonic(), 0.0
        try:
            async with aclosing(ask()) as stream:
                async for each in stream:
                    # Milliseconds, because more digits would not compress.
                    before, passed = passed, round(time.monotonic() - start, 3)
                    deltas.append(delta := replace(each, seconds=round(passed - before, 3)))
                    # A reply that was cut or has no text is not stored: another call may give more.
                    if delta.finish not in (None, "context", "filtered") and any(
                        each.text.strip() or each.tool_calls for each in deltas
                    ):
                        fields = [vars(each).items() for each in deltas]  # without defaults; counts of 0 stay
                        said = [{k: v for k, v in of if v or (v == 0 and v is not False)} for of in fields]
                        await self._journal.store(key, said)
                    yield delta
        except EngineError:
            failed()
            raise


@cache
def _deltas_of() -> TypeAdapter[tuple[Delta, ...]]:
    return TypeAdapter(tuple[Delta, ...])


_FIELDS = {field.name for field in fields(Delta)}


ROLES: tuple[EngineRole, ...] = get_args(EngineRole)
_BOUND = re.compile(r"\+([^+]*?)@(answer|revise)(?=\+|$)")


def references_by_role(ref: str) -> dict[EngineRole, str]:
    """Map each role to a reference without the adapters of other roles; empty if no adapter has a role."""

    def of(role: EngineRole) -> str:
        return _BOUND.sub(lambda found: f"+{found[1]}" if found[2] == role else "", ref)

    return {role: of(role) for role in ROLES} if _BOUND.search(ref) else {}


class RoleEngine(WrappedEngine):
    """One engine for each role, opened at the role's first call.

    `default+answers.gguf@answer+critic.gguf@revise` binds two adapters: `answers.gguf` answers, and
    `critic.gguf` criticises and revises. An adapter with a role is used only in chains. An adapter without a
    role is always used.
    """

    def __init__(
        self, opens: Mapping[EngineRole, Callable[[], Awaitable[Engine]]], plain: Engine, certain: float = 0.0
    ) -> None:
        super().__init__(plain)
        self._opens, self._certain = opens, certain
        self._engines: dict[EngineRole, Engine] = {"": plain}
        self._opening = asyncio.Lock()

    @property
    def info(self) -> base.EngineInfo:
        """The info of the engine without a role, with `native`, `roles` and `certain` set."""
        return replace(self.wrapped.info, native=True, roles=True, certain=self._certain)

    @property
    def health(self) -> base.Health:
        """The worst health of the engines, with the sum of all restarts."""
        found = [each.health for each in self._engines.values() if isinstance(each, base.Watched)]
        worst = max(found, key=lambda each: (each.down, each.resting, each.trouble), default=base.Health())
        return replace(worst, restarts=sum(each.restarts for each in found))

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Resume with the engine of `Sampling.role`."""
        return self._of_role(
            sampling.role, lambda engine: cast("base.Resumer", engine).resume(asked, sampling, stop, said)
        )

    def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:  # noqa: ARG002  (asks the base)
        asked, sampling, stop = request["asked"], request["sampling"], request["stop"]
        return self._of_role(
            sampling.role, lambda engine: getattr(engine, request["way"])(asked, sampling, stop)
        )

    async def _of_role(self, role: EngineRole, ask: Callable[[Engine], Replies]) -> Replies:
        async with self._opening:
            if role not in self._engines:
                self._engines[role] = await self._opens[role]()
        async with aclosing(ask(self._engines[role])) as deltas:
            async for delta in deltas:
                yield delta

    async def aclose(self) -> None:
        """Close the engines."""
        async with self._opening:
            await asyncio.gather(*(engine.aclose() for engine in self._engines.values()))
