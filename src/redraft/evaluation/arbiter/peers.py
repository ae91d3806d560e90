"""Ways of the user: `module:function`, a function that answers a prompt with any library.

    def retried(prompt: str, checks, *, model: str, seed: int, **sampling) -> tuple[str, int]:
        ...
        return answer, new_tokens

`sampling` is optional: it has `temperature` and `max_tokens`, if the user set them. The function runs in
threads of this process, `--parallel` at once. Nobody checks its count of tokens.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, NamedTuple, Self

from redraft.chain import Chain, Step, Usage
from redraft.checks.base import Check
from redraft.checks.function import imported
from redraft.engines.config import load_config
from redraft.engines.load import parse_reference
from redraft.engines.threads import in_daemon_thread
from redraft.errors import CheckError, RedraftError, UsageError, crash_of
from redraft.evaluation.diagnosis.strategies import NAMES
from redraft.evaluation.tasks.run import ScoredRun
from redraft.jobs.harness import Session, Work
from redraft.revision.runs.answers import PromptItem

Answers = Callable[..., tuple[str, int]]


class ModelServer(NamedTuple):
    """What a library needs to ask a server."""

    url: str  # such as `http://127.0.0.1:8321/v1`
    model: str
    key: str  # what `Config.key_for` finds; "none" without one


def server_of(model: str) -> ModelServer:
    """Return the server of a model's reference.

    Raises:
        UsageError: The reference names no server, or no model on it.
    """
    named = parse_reference(model)
    if named.kind != "remote" or not named.selects:
        raise UsageError(
            f"this way needs a model on a server, and {model!r:.80} names none.",
            hint="redraft serve -m default-base --max-revisions 0; then --models http://127.0.0.1:8321/v1#default-base",
        )
    key = load_config().key_for(named.target)
    return ModelServer(named.target, named.selects, key.value if key else "none")


@dataclass(frozen=True)
class Peer:
    """A way of the user's."""

    path: str  # `module:function`
    function: Answers

    @classmethod
    def of(cls, path: str) -> Self:
        """Import it.

        Raises:
            UsageError: There is no such function, or its name is that of another way.
            CheckError: Its module does not load.
        """
        module, _, name = path.partition(":")
        function = getattr(imported(module, path), name, None)
        if not name.isidentifier() or not callable(function):
            raise UsageError(
                f"there is no way {path!r:.80}.", hint="Write module:function (docs/arbiter.md)."
            )
        if name in NAMES:
            raise UsageError(f"{name!r} is a way of redraft.", hint="Give the function another name.")
        return cls(path, function)

    @property
    def file(self) -> str:
        """The file name of its runs."""
        return f"{self.path.partition(':')[2]}-1.jsonl"

    def answer(
        self, prompt: str, checks: Sequence[Check], model: str, seed: int, sampling: Mapping[str, Any]
    ) -> tuple[str, int]:
        """Return an answer and its new tokens.

        Raises:
            CheckError: The function failed, or returned anything else.
        """
        named = signature(self.function).parameters.values()
        every = any(each.kind is Parameter.VAR_KEYWORD for each in named)
        names = {*sampling} if every else {each.name for each in named}
        taken = {name: value for name, value in sampling.items() if name in names}
        try:
            answer, tokens = self.function(prompt, checks, model=model, seed=seed, **taken)
            return str(answer), int(tokens)
        except RedraftError:
            raise
        except Exception as error:
            hint = "It should return an answer and a number of tokens."
            raise CheckError(f"{self.path} failed: {crash_of(error)}.", hint=hint) from error


@dataclass
class PeerRun(ScoredRun):
    """A run of a peer. It resumes as those of redraft's own ways do."""

    peer: Peer = None  # type: ignore[assignment]
    given: tuple[Chain, ...] = ()

    def __post_init__(self) -> None:
        self.verb = f"arbiter {self.task} {self.peer.path}"

    def records(self) -> Iterator[Chain]:
        """Yield the records."""
        return iter(self.given)

    @asynccontextmanager
    async def _start(self, session: Session) -> AsyncGenerator[Work[PromptItem]]:
        model, seed = self.settings.references()["model"], self.settings.get("seed") or 0
        given = {name: self.settings.get(name) for name in ("temperature", "max_tokens")}
        sampling = {name: value for name, value in given.items() if value is not None}

        async def work(item: PromptItem) -> list[str]:
            record, begun = item.asked, time.monotonic()
            checks: Any = self.checks(record)
            answer, tokens = await in_daemon_thread(
                lambda: self.peer.answer(record.prompt.text, checks, model, seed, sampling)
            )
            session.pay(tokens, None)
            used = Usage(completion_tokens=tokens, seconds=round(time.monotonic() - begun, 4))
            chain = record.model_copy(
                update={"steps": (Step(answer=answer, usage=used),), "best": 0, "usage": used}
            )
            made = await self.finish(chain, record)
            return [self.form.line(made or chain)]

        yield work
