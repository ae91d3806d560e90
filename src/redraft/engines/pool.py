"""Combine several engines behind one name: `http://a/v1#m,http://b/v1#m`.

A call goes to the member with the fewest active calls. All calls of a chain go to one member, which caches
the chain's prompt. A member that fails gets no calls for a pause, which grows with each failure. Then a
single call tests the member.

If a call fails before the first delta, another member repeats the call silently. A call that fails later
raises the error with `ready` set, so that the chain resumes after the last complete step (`revision.driver`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from redraft.engines import base
from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Replies, Sampling, Tokens
from redraft.engines.retry import LONGEST_BACKOFF, Patience, backoff, clock
from redraft.errors import EngineCrash, EngineError, EngineTimeout, ModelError, ServerError
from redraft.jobs.causes import is_refusal

if TYPE_CHECKING:
    from redraft.engines.remote.engine import RemoteEngine

_log = logging.getLogger(__name__)

T = TypeVar("T")
Open = Callable[[], Awaitable[Engine]]

ONE_MODEL = (
    "A,B means one model on several servers. To use two models, give one at a time, or serve both: "
    "redraft serve --models FILE (docs/serve.md)."
)

SLACK = 4
"""A chain moves from its member to the least busy member if the difference in active calls is above this
number, because reading a prompt again is cheaper than waiting for four replies."""

HOMES = 10_000  # the number of latest chains whose member is remembered
PASSING = frozenset({None, 429, 500, 502, 503, 504})  # HTTP statuses after which a server may work again


@dataclass(eq=False)
class Member:
    """One engine of a pool."""

    name: str
    open: Open
    engine: Engine | None = None
    busy: int = 0
    calls: int = 0
    failures: int = 0  # failures in a row
    aside_until: float = 0.0  # the time of its next try, on the event loop's clock
    trouble: str = ""  # the last error, in words; empty if the member works

    def takes(self, now: float) -> bool:
        """Return whether the member accepts a call. After a failure and a pause, it accepts one test call."""
        return not self.failures or (now >= self.aside_until and not self.busy)


class PoolEngine:
    """Several engines of one model, opened by `start` and closed by `aclose`."""

    def __init__(self, members: Sequence[Member], patience: Patience) -> None:
        self._members, self._patience = members, patience
        self._info = next(member.engine.info for member in members if member.engine)
        self._homes: OrderedDict[str, Member] = OrderedDict()
        self._changed = asyncio.Event()
        self._telling = False

    @classmethod
    async def start(cls, opens: Sequence[tuple[str, Open]], patience: Patience) -> Self:
        """Open all engines concurrently. If a server does not answer, its engine is opened later.

        Raises:
            ModelError: The engines have different models or capabilities.
            EngineError: No engine can be opened, or a server refuses the request.
        """

        async def opened(member: Member) -> EngineError | None:
            try:
                member.engine = await member.open()
            except (ServerError, EngineTimeout) as error:
                if isinstance(error, ServerError) and error.status not in PASSING:
                    raise
                return error
            return None

        members = [Member(name, open_) for name, open_ in opens]
        try:
            return cls._of(members, await asyncio.gather(*map(opened, members)), patience)
        except BaseException:
            await asyncio.gather(*(member.engine.aclose() for member in members if member.engine))
            raise

    @classmethod
    def _of(cls, members: Sequence[Member], errors: Sequence[EngineError | None], patience: Patience) -> Self:
        if len(failed := [error for error in errors if error]) == len(members):
            failed[0].message = "; ".join(error.message for error in failed)
            raise failed[0]
        pool = cls(members, patience)
        for member, error in zip(members, errors, strict=True):
            if error:
                pool._set_aside(member, error)
            elif member.engine and (fault := pool._unlike(member.name, member.engine.info)):
                raise fault
        return pool

    @property
    def info(self) -> EngineInfo:
        """The model, and the capabilities that all members have."""
        infos = [member.engine.info for member in self._members if member.engine]
        continues, resumes = all(each.continues for each in infos), all(each.resumes for each in infos)
        return replace(self._info, continues=continues, resumes=resumes)

    @property
    def health(self) -> base.Health:
        """The health of all members."""
        engines: list[object] = [member.engine for member in self._members]
        found = [engine.health for engine in engines if isinstance(engine, base.Watched)]
        troubles = [f"{member.name}: {member.trouble}" for member in self._members if member.trouble]
        return base.Health(
            restarts=sum(each.restarts for each in found),
            trouble="; ".join(troubles or [each.trouble for each in found if each.trouble]),
            down=all(member.trouble for member in self._members),
            resting=bool(troubles) and not any(each.takes(clock()) for each in self._members if each.trouble),
        )

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text, using any member."""
        return await self._any(lambda engine: engine.encode(text, special=special))

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, using any member."""
        return await self._any(lambda engine: engine.decode(tokens))

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Score texts with any member."""
        return await self._any(lambda engine: engine.score(texts))

    async def embed(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return embeddings from any member, as `RemoteEngine.embed` does."""
        return await self._any(lambda engine: cast("RemoteEngine", engine).embed(asked))

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text with a member."""
        replies = self._asked(sampling.chain, lambda engine: engine.stream(prompt, sampling, stop), _is_count)
        return _with_lost(replies)

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages with a member."""
        replies = self._asked(sampling.chain, lambda engine: engine.chat(messages, sampling, stop), _is_count)
        return _with_lost(replies)

    async def aclose(self) -> None:
        """Close the members."""
        await asyncio.gather(*(member.engine.aclose() for member in self._members if member.engine))

    async def _any(self, ask: Callable[[Engine], Awaitable[T]]) -> T:

        async def once(engine: Engine) -> AsyncGenerator[T, None]:
            yield await ask(engine)

        async with aclosing(self._asked("", once, lambda _: False)) as results:
            return await anext(results)

    async def _asked(
        self, chain: str, ask: Callable[[Engine], AsyncGenerator[T, None]], is_count: Callable[[T], bool]
    ) -> AsyncGenerator[T, None]:
        """Ask members until a call succeeds. `is_count` recognises a failed reply's token counts."""
        trial = _Trial()
        while True:
            member, begun, continues = await self._chosen(chain, trial), False, True
            member.busy, member.calls = member.busy + 1, member.calls + 1
            try:
                engine = await self._engine(member)
                continues = engine.info.continues
                async with aclosing(ask(engine)) as pieces:
                    async for piece in pieces:
                        if not begun and not is_count(piece):
                            begun = True
                            self._works(member, chain)
                        yield piece
            except EngineError as error:
                of_request = member.engine is not None and continues and not member.engine.info.continues
                of_member = error.passing or isinstance(error, EngineTimeout | EngineCrash)
                if isinstance(error, ServerError):
                    of_member = not is_refusal(error)
                if of_request or not of_member:
                    raise
                self._set_aside(member, error)
                trial.tried.add(member)
                trial.error = error
                if begun:
                    error.passing = error.ready = True
                    raise
            else:
                return
            finally:
                member.busy -= 1
                self._wake()

    async def _chosen(self, chain: str, trial: _Trial) -> Member:
        while True:
            now = clock()
            able = [each for each in self._members if each.takes(now) and each not in trial.tried]
            if able:
                least = min(able, key=lambda member: (member.busy, not member.failures, member.calls))
                home = self._homes.get(chain, least)
                return home if home in able and home.busy - least.busy <= SLACK else least
            await self._wait(trial, now)

    async def _wait(self, trial: _Trial, now: float) -> None:
        patience, failed = self._patience, bool(trial.tried)
        aside = [member.aside_until - now for member in self._members if member.failures and not member.busy]
        own = backoff(trial.rounds + 1, patience.backoff) if failed else 0.0
        pause = max(min(aside, default=LONGEST_BACKOFF), own, 0.0)
        trial.since = now if trial.since is None else trial.since
        limit = max(patience.outage, patience.backoff * 2.0 ** (patience.tries - 1))
        # Waiting does not help if the key is refused, or after the longest allowed silence.
        lasts = isinstance(trial.error, EngineTimeout) and not patience.outage
        if isinstance(trial.error, ServerError):
            lasts = trial.error.status not in PASSING
        given_up = lasts and len(trial.tried) == len(self._members)
        if given_up or pause > patience.longest or now - trial.since >= limit:
            down = f"no server of {self._info.name} works. {self.health.trouble}"
            hint = "Start a server, or wait longer: --patience SECONDS"
            raise trial.error or ServerError(down, hint=hint)
        trial.rounds += failed
        trial.tried.clear()
        if not self._telling and all(member.trouble for member in self._members):
            self._telling = True
            patience.tell(f"no server of {self._info.name} works, waiting {max(pause, 1):.0f} s")
        changed = self._changed
        await asyncio.sleep(own)  # the call has just failed at all members
        with suppress(TimeoutError):
            async with asyncio.timeout(pause - own):
                await changed.wait()

    async def _engine(self, member: Member) -> Engine:
        if member.engine is None:
            engine = await member.open()
            if fault := self._unlike(member.name, engine.info):
                await engine.aclose()
                fault.passing = True  # only this member is at fault
                raise fault
            member.engine = engine
        return member.engine

    def _unlike(self, other: str, info: EngineInfo) -> ModelError | None:
        for name in (each.name for each in fields(EngineInfo)):
            ours, its = getattr(self._info, name), getattr(info, name)
            if ours != its:
                pair = f"{next(each.name for each in self._members if each.engine)} and {other}"
                return ModelError(f"{pair} differ in {name}: {ours!r} and {its!r}.", hint=ONE_MODEL)
        return None

    def _works(self, member: Member, chain: str) -> None:
        if member.failures:
            _log.warning("%s works again.", member.name)
            self._wake()
        member.failures, member.trouble = 0, ""
        if self._telling:
            self._telling = False
            self._patience.tell("")
        if chain:
            self._homes[chain] = member
            self._homes.move_to_end(chain)
            if len(self._homes) > HOMES:
                self._homes.popitem(last=False)

    def _set_aside(self, member: Member, error: EngineError) -> None:
        if clock() < member.aside_until or (isinstance(error, ServerError) and error.status == 500):
            return
        if not member.failures:
            _log.warning("%s is set aside: %s", member.name, error.for_log)
        member.failures += 1
        member.trouble = error.for_log  # other users see it; the full error may quote the prompt
        asked = (isinstance(error, ServerError) and error.retry_after) or 0.0
        member.aside_until = clock() + max(backoff(member.failures, self._patience.backoff), asked)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass
class _Trial:
    tried: set[Member] = field(default_factory=set)  # the members that failed since the last wait
    error: EngineError | None = None
    rounds: int = 0
    since: float | None = None  # the time of the first wait


async def _with_lost(deltas: Replies) -> Replies:
    lost: list[Delta] = []
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                if _is_count(delta):
                    lost.append(delta)
                else:
                    yield _sum(delta, lost) if delta.finish and lost else delta
    except EngineError:
        if lost:
            yield _sum(Delta(), lost)
        raise


def _is_count(delta: Delta) -> bool:
    return delta.completion_tokens is not None and not (delta.finish or delta.text or delta.tokens)


def _sum(last: Delta, lost: Sequence[Delta]) -> Delta:
    every = (last, *lost)
    return replace(
        last,
        prompt_tokens=sum(each.prompt_tokens or 0 for each in every),
        cached_tokens=sum(each.cached_tokens or 0 for each in every),
        completion_tokens=sum(each.completion_tokens or 0 for each in every),
        estimated=any(each.estimated for each in every),
    )
