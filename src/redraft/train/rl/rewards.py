"""Rewards: what judges an answer. Several are added up, each with its weight.

An answer comes as a record: its prompt, the answer as its best step, and the fields of the data in `meta`.

| form | the reward |
|---|---|
| a check, such as `words<=50` | its score, 0 to 1 (`verify`) |
| `reward:MODEL` | the number of a reward model (`redraft train reward`), which may be negative |
| `python:module.function` | what the function returns for the answer, or for the answer and its `Prompt` |
| `score:PROGRAM ARGS` | the number that a program prints as its last line |
| `https://host/path` | what a server replies for a batch of answers |
| `2*FORM`, `-0.5*FORM` | twice as much; half as much, as a penalty |

Other packages may have more (docs/extending.md). A function that has one parameter, with the name `chain`,
gets the whole record instead.

A program reads the answer on standard input, as that of the check `command:` does, and exits with 0 within
30 s, or the limit of `score[10s]:…`.

A server gets `{"prompts": […], "answers": […]}`, with texts, and replies `{"rewards": […]}`, with a number
for each answer. It has a minute for a batch, and is asked again for ten while it is down.

A reward that is no finite number stops the run: a model that is trained on NaN is lost.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import count
from numbers import Real
from typing import Any, NamedTuple

import httpx

from redraft.chain import Chain, is_blank
from redraft.checks.base import Check, Outcome, is_crash, run_check, together
from redraft.checks.command import Command
from redraft.checks.function import FunctionCheck, takes_prompt
from redraft.checks.parse import parse_check
from redraft.engines.hf.reward import RewardModel
from redraft.engines.remote.server import Refusal, Server, check_address
from redraft.engines.retry import Patience, backoff
from redraft.engines.threads import in_daemon_thread
from redraft.errors import (
    CheckError,
    CheckSyntaxError,
    EngineTimeout,
    ServerError,
    UsageError,
    crash_of,
    shown,
)
from redraft.jobs.counting import counted
from redraft.jobs.plugins import OWN, Kind, Plugin, plugins

_WEIGHT = re.compile(r"(?P<weight>-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?)\s*\*\s*")
_HEAD = re.compile(r"(?P<kind>[\w-]+)(?P<option>\[[^\]]*\])?:")
_HINT = (
    "--reward words<=50, reward:MODEL, python:module.function, score:PROGRAM or https://host/path; "
    "several add up: --reward A 2*B."
)


Reward = Callable[[Sequence[Chain]], Coroutine[Any, Any, Sequence[float]]]
"""Judges the answers of records: returns a number for each."""


async def _checked(check: Check, chains: Sequence[Chain]) -> list[float]:
    """Return the scores of a check, 0 to 1. An empty answer has 0."""

    async def score(chain: Chain) -> float:
        answer = chain.answer
        return (await run_check(check, answer, chain.prompt)).score if not is_blank(answer) else 0.0

    return await together([score(each) for each in chains])


async def _modelled(model: RewardModel, chains: Sequence[Chain]) -> list[float]:
    """Return the numbers of a reward model. It reads texts, so its tokenizer may be its own."""
    asked = [(each.prompt, each.answer) for each in chains]
    found = await in_daemon_thread(lambda: model.score(asked))
    return [_number(each, model.name, chain) for each, chain in zip(found, chains, strict=True)]


@dataclass(frozen=True)
class Called:
    """What a function returns: any number, also a negative one. True is 1, False is 0."""

    function: FunctionCheck

    async def __call__(self, chains: Sequence[Chain]) -> list[float]:
        """Call the function for each answer."""
        return await together([self._one(each) for each in chains])

    async def _one(self, chain: Chain) -> float:
        function = self.function.function
        given: tuple[Any, ...] = (chain.answer,)
        if takes_prompt(function):
            given = (chain.answer, chain.prompt)
        else:
            with suppress(ValueError, TypeError):  # some C functions have no signature
                if "chain" in inspect.signature(function).parameters:
                    given = (chain,)
        try:
            found = await in_daemon_thread(lambda: function(*given))
            found = await found if inspect.isawaitable(found) else found
        except BaseException as error:
            if not is_crash(error):
                raise
            raise CheckError(
                f"the reward {self.function.name} crashed: {crash_of(error)}",
                hint="Fix the function, and type the same command again: it resumes.",
            ) from error
        return _number(found.score if isinstance(found, Outcome) else found, self.function.name, chain)


async def _printed(program: Command, chains: Sequence[Chain]) -> list[float]:
    """Return the numbers that a program prints as its last line."""
    ran = await together([program.run(each.answer) for each in chains])
    scores = []
    for chain, (status, output) in zip(chains, ran, strict=True):
        name, seconds = f"score:{program.line}", program.seconds
        if status != 0:
            how = f"took longer than {seconds:g} s" if status is None else f"ended with exit status {status}"
            raise CheckError(
                f"the reward {name} {how} for the answer {chain.answer!r:.60}. "
                f"It printed:\n{output or 'nothing'}",
                hint="Fix the program, and type the same command again: it resumes. "
                "A new run may give it more time: score[60s]:PROGRAM.",
            )
        found: object = output.rpartition("\n")[2]
        with suppress(ValueError):
            found = float(str(found))
        scores.append(_number(found, name, chain))
    return scores


async def _served(url: str, chains: Sequence[Chain]) -> list[float]:
    """Return what a server replies."""
    asked = {
        "prompts": [each.prompt.said for each in chains],
        "answers": [each.answer for each in chains],
    }
    hint = "A reward server takes POST of prompts and answers at this address: docs/rlhf.md."
    reply = content(await posted(url, asked, wanted="reward"), hint=hint)
    found = reply.get("rewards") if isinstance(reply, dict) else reply
    if not isinstance(found, list) or len(found) != len(chains):
        listed = counted(len(found), "reward") if isinstance(found, list) else shown(reply)
        raise CheckError(
            f"{url} replied with {listed} for {len(chains)} answers.",
            hint='Reply with {"rewards": [0.5, …]}, a number for each answer.',
        )
    return [_number(each, url, chain) for each, chain in zip(found, chains, strict=True)]


async def _of_package(plugin: Plugin, form: str, reward: Reward, chains: Sequence[Chain]) -> list[float]:
    """Return the numbers of another package's reward, which may do anything."""
    with plugin.running():
        found = [*await reward(chains)]
    if len(found) != len(chains):
        raise plugin.fault(f"returned {counted(len(found), 'number')} for {counted(len(chains), 'answer')}.")
    return [_number(each, form, chain) for each, chain in zip(found, chains, strict=True)]


@dataclass(frozen=True)
class Rewards:
    """A weighted sum of rewards."""

    parts: Mapping[str, tuple[float, Reward]]  # the weight and the reward of each form

    async def __call__(self, chains: Sequence[Chain]) -> list[dict[str, float]]:
        """Return what each form adds to the reward of each answer."""
        found = await together([reward(chains) for _, reward in self.parts.values()])
        weights = [weight for weight, _ in self.parts.values()]
        return [
            {form: weight * score for form, weight, score in zip(self.parts, weights, each, strict=True)}
            for each in zip(*found, strict=True)
        ]


def parse_rewards(forms: Sequence[str]) -> Rewards:
    """Parse the forms of `--reward`."""
    if not forms:
        raise UsageError("there is nothing that judges the answers.", hint=_HINT)
    parts: dict[str, tuple[float, Reward]] = {}
    for form in map(str.strip, forms):
        if form in parts:
            raise UsageError(
                f"the reward {form} is there twice.", hint="Give it once, with the weight of both."
            )
        found = _WEIGHT.match(form)
        weight = float(found["weight"]) if found else 1.0
        if not math.isfinite(weight):
            raise UsageError(f"{form} has a weight that is too large.", hint=_HINT)
        parts[form] = weight, _parsed(form[found.end() :] if found else form)
    return Rewards(parts)


def _parsed(form: str) -> Reward:
    head, known = _HEAD.match(form), plugins("redraft.rewards")
    if head and head["kind"] in known:
        plugin = known[head["kind"]]
        kind = plugin.load(RewardKind)
        if kind.takes_option or not head["option"]:
            reward = plugin.guarded(kind.make, Callable)(form)
            return reward if plugin.package == OWN else partial(_of_package, plugin, form, reward)
    if form.startswith("score["):  # without its colon
        return _program(form)
    return partial(_checked, parse_check(form))


def _server(form: str) -> Reward:
    check_address(form, hint="--reward https://host/path")
    return partial(_served, form)


def _program(form: str) -> Reward:
    try:
        program = parse_check(f"command{form.removeprefix('score')}")
    except CheckSyntaxError as error:
        raise CheckSyntaxError(
            error.message.replace("command", "score", 1),
            hint="score:PROGRAM ARGS, or score[10s]:PROGRAM ARGS.",
        ) from None
    assert isinstance(program, Command)  # noqa: S101  (the kind)
    return partial(_printed, program)


@dataclass(frozen=True)
class RewardKind(Kind):
    """A kind of reward: a plugin of the group `redraft.rewards`.

    Attributes:
        make: Returns the reward of a form without its weight, such as `score[10s]:PROGRAM`.
        takes_option: It may have an option in brackets.
    """

    make: Callable[[str], Reward]
    takes_option: bool = False


MODEL = RewardKind(lambda form: partial(_modelled, RewardModel.load(form.removeprefix("reward:").strip())))
FUNCTION = RewardKind(lambda form: Called(FunctionCheck.of(form.removeprefix("python:").strip())))
PROGRAM = RewardKind(_program, takes_option=True)
SERVER = RewardKind(_server)


def _number(found: object, name: str, chain: Chain) -> float:
    with suppress(OverflowError, ValueError, RuntimeError, TypeError):  # 400 digits, an array of two
        plain = found.item() if hasattr(found, "item") else found
        if isinstance(plain, Real) and math.isfinite(plain):
            return float(plain)
    raise CheckError(
        f"the reward {name} is {shown(found)} for the answer {chain.answer!r:.60}.",
        hint="A reward is a finite number: fix what gives it, and type the same command again.",
    )


_log = logging.getLogger(__name__)

REQUEST_SECONDS = 60.0  # the time limit of one request to a server
OUTAGE_SECONDS = 600.0  # how long a server may be down before the run stops
PAUSE = 2.0  # most seconds before the second try; later ones come after more

_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
"""Statuses that may pass here, beside those of every server."""


class Posted(NamedTuple):
    """What a server replied."""

    url: str
    status: int
    text: str


async def posted(url: str, body: Mapping[str, Any], *, wanted: str, seconds: float | None = None) -> Posted:
    """Post JSON, again and again while the server is down, and return its reply with any other status."""
    limit, until = seconds or REQUEST_SECONDS, time.monotonic() + OUTAGE_SECONDS
    bare = url.rstrip("/")  # as the client has its base address
    async with aclosing(Server(bare, None, Patience(connect=limit, first_token=limit, tries=1))) as server:
        for attempt in count(1):
            try:
                async with server.asked(url[len(bare) :], dict(body)) as reply, asyncio.timeout(limit):
                    if not isinstance(reply, Refusal):
                        text = (await reply.aread()).decode(errors="replace")
                        return Posted(url, reply.status_code, text)
                    if not reply.may_pass and reply.status not in _AGAIN:
                        return Posted(url, reply.status, reply.complaint.message)
                    fault = f"it replied with status {reply.status}, {reply.complaint.message!r:.200}"
            except (EngineTimeout, ServerError, httpx.RequestError, TimeoutError) as error:
                fault = str(error) or type(error).__name__
            if time.monotonic() + (wait := backoff(attempt, PAUSE)) > until:
                break
            _log.warning("no %s from %s: %s. Trying again in %.1f s.", wanted, url, fault, wait)
            await asyncio.sleep(wait)
    raise ServerError(
        f"no {wanted} from {url} for {OUTAGE_SECONDS:g} s: {fault}.",
        hint="Start the server, and type the same command again: it resumes.",
    )


def content(response: Posted, *, hint: str | None = None) -> Any:
    """Return the JSON of a reply. `hint` says what to do about another status."""
    url, status, text = response
    if status != HTTPStatus.OK:
        raise ServerError(f"{url} replied with status {status}: {text:.200}", status=status, hint=hint)
    try:
        return json.loads(text)
    except ValueError:
        raise ServerError(f"{url} replied with what is not JSON: {text!r:.100}.") from None
