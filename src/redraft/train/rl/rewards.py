"""Rewards: what judges an answer. Several are added up, each with its weight.

| form | the reward |
|---|---|
| a check, such as `words<=50` | its score, 0 to 1 (`verify`) |
| `reward:MODEL` | the number of a reward model (`redraft train reward`), which may be negative |
| `python:module.function` | what the function returns for the answer, or for the answer and its `Prompt` |
| `score:PROGRAM ARGS` | the number that a program prints as its last line |
| `https://host/path` | what a server replies for a batch of answers |
| `2*FORM` | twice as much |

A program reads the answer on standard input, as that of the check `command:` does, and exits with 0 within
30 s, or the limit of `score[10s]:…`.

A server gets `{"prompts": […], "answers": […]}`, with texts, and replies `{"rewards": […]}`, with a number
for each answer. It has `SECONDS` for a batch, and is asked again for `PATIENCE` seconds while it is down.

A reward that is no finite number stops the run: a model that is trained on NaN is lost.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import httpx

from redraft.chain import Prompt
from redraft.counting import counted
from redraft.engines.hf.reward import RewardModel
from redraft.engines.threads import in_daemon_thread
from redraft.errors import CheckError, UsageError, shown
from redraft.verify.base import Check, Outcome, crash_of, run_check, together
from redraft.verify.command import Command
from redraft.verify.function import FunctionCheck, takes_prompt
from redraft.verify.parse import parse_check

_log = logging.getLogger(__name__)

SECONDS = 60.0
"""The time limit of one request to a server."""

PATIENCE = 600.0
"""How long a server may be down before the run stops."""

_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between tries; the last one repeats."""

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that may do better later."""

_WEIGHT = re.compile(r"(?P<weight>\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*\*\s*")
_HINT = (
    "--reward words<=50, reward:MODEL, python:module.function, score:PROGRAM or https://host/path; "
    "2*A weighs."
)


class Reward(Protocol):
    """Judges answers to prompts."""

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Sequence[float]:
        """Return a number for each answer."""
        ...


@dataclass(frozen=True)
class Checked:
    """The score of a check, 0 to 1. An empty answer has 0."""

    check: Check

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Run the check on all answers.

        Raises:
            CheckError: It crashed.
        """
        return await together([self._one(*pair) for pair in zip(prompts, answers, strict=True)])

    async def _one(self, prompt: Prompt, answer: str) -> float:
        return (await run_check(self.check, answer, prompt)).score if answer.strip() else 0.0


@dataclass(frozen=True)
class Modelled:
    """The number of a reward model. It reads texts, so its tokenizer may be another than the policy's."""

    model: RewardModel

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Judge a batch in one thread.

        Raises:
            RecordError: The model's template refuses a prompt, or it leaves no room.
        """
        asked = list(zip(prompts, answers, strict=True))
        found = await in_daemon_thread(lambda: self.model.score(asked))
        return [_number(each, self.model.name, answer) for each, answer in zip(found, answers, strict=True)]


@dataclass(frozen=True)
class Called:
    """What a function returns: any number, also a negative one. True is 1, False is 0."""

    function: FunctionCheck

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Call the function for each answer.

        Raises:
            CheckError: It crashed, or returned no number.
        """
        return [await self._one(*pair) for pair in zip(prompts, answers, strict=True)]

    async def _one(self, prompt: Prompt, answer: str) -> float:
        function = self.function.function
        given = (answer, prompt) if takes_prompt(function) else (answer,)
        try:
            found = await in_daemon_thread(lambda: function(*given))
            found = await found if inspect.isawaitable(found) else found
        except (Exception, SystemExit) as error:
            raise CheckError(
                f"the reward {self.function.name} crashed: {crash_of(error)}",
                hint="Fix the function, and type the same command again: it resumes.",
            ) from error
        return _number(found.score if isinstance(found, Outcome) else found, self.function.name, answer)


@dataclass(frozen=True)
class Printed:
    """The number that a program prints as its last line."""

    program: Command

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:  # noqa: ARG002
        """Run the program for each answer.

        Raises:
            CheckError: It could not run, failed, took too long, or printed no number.
        """
        ran = await together([self.program.run(answer) for answer in answers])
        return [self._read(answer, *each) for answer, each in zip(answers, ran, strict=True)]

    def _read(self, answer: str, status: int | None, output: str) -> float:
        name, seconds = f"score:{self.program.line}", self.program.seconds
        if status != 0:
            how = f"took longer than {seconds:g} s" if status is None else f"ended with exit status {status}"
            raise CheckError(
                f"the reward {name} {how} for the answer {answer!r:.60}. It printed:\n{output or 'nothing'}",
                hint="Fix the program, and type the same command again: it resumes. "
                "A new run may give it more time: score[60s]:PROGRAM.",
            )
        last = output.rpartition("\n")[2]
        try:
            found: object = float(last)
        except ValueError:
            found = last
        return _number(found, name, answer)


@dataclass(frozen=True)
class Served:
    """What a server replies."""

    url: str

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Ask the server for a batch of answers.

        Raises:
            CheckError: It is down for too long, refuses, or replies otherwise than in the form above.
        """
        asked = {"prompts": [each.said for each in prompts], "answers": list(answers)}
        reply = await self._asked(asked)
        found = reply.get("rewards") if isinstance(reply, dict) else reply
        if not isinstance(found, list) or len(found) != len(answers):
            listed = counted(len(found), "reward") if isinstance(found, list) else shown(reply)
            raise CheckError(
                f"{self.url} replied with {listed} for {len(answers)} answers.",
                hint='Reply with {"rewards": [0.5, …]}, a number for each answer.',
            )
        return [_number(each, self.url, answer) for each, answer in zip(found, answers, strict=True)]

    async def _asked(self, body: dict[str, Any]) -> Any:
        until = time.monotonic() + PATIENCE
        async with httpx.AsyncClient(timeout=SECONDS) as client:
            for number in range(1_000_000):
                try:
                    response = await client.post(self.url, json=body)
                    if response.status_code not in _AGAIN:
                        return self._read(response)
                    fault = f"it replied with status {response.status_code}"
                except httpx.TransportError as error:
                    fault = str(error) or type(error).__name__
                wait = _WAITS[min(number, len(_WAITS) - 1)]
                if time.monotonic() + wait > until:
                    raise CheckError(
                        f"no reward from {self.url} for {PATIENCE:g} s: {fault}.",
                        hint="Start the server, and type the same command again: it resumes.",
                    )
                _log.warning("no reward from %s: %s. Trying again in %g s.", self.url, fault, wait)
                await asyncio.sleep(wait)
        raise AssertionError

    def _read(self, response: httpx.Response) -> Any:
        if response.status_code != httpx.codes.OK:
            raise CheckError(f"{self.url} replied with status {response.status_code}: {response.text:.200}")
        try:
            return response.json()
        except ValueError:
            raise CheckError(f"{self.url} replied with what is not JSON: {response.text!r:.100}.") from None


@dataclass(frozen=True)
class Sum:
    """The weighted sum of rewards."""

    parts: tuple[tuple[float, Reward], ...]

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the sum for each answer. Raises as the parts do."""
        found = await together([_judged(reward, prompts, answers) for _, reward in self.parts])
        weights = [weight for weight, _ in self.parts]
        return [
            sum(weight * score for weight, score in zip(weights, scores, strict=True))
            for scores in zip(*found, strict=True)
        ]


async def _judged(reward: Reward, prompts: Sequence[Prompt], answers: Sequence[str]) -> Sequence[float]:
    return await reward(prompts, answers)


def parse_rewards(forms: Sequence[str]) -> Sum:
    """Parse the forms of `--reward`.

    Raises:
        UsageError: There is none.
        CheckSyntaxError: A form is not known.
        CheckError: Importing a module failed.
    """
    if not forms:
        raise UsageError("there is nothing that judges the answers.", hint=_HINT)
    return Sum(tuple(_weighted(form.strip()) for form in forms))


def _weighted(form: str) -> tuple[float, Reward]:
    weight = _WEIGHT.match(form)
    rest = form[weight.end() :] if weight else form
    return (float(weight["weight"]) if weight else 1.0), _parsed(rest)


def _parsed(form: str) -> Reward:
    if form.startswith(("http://", "https://")):
        return Served(form)
    if form.startswith("reward:"):
        return Modelled(RewardModel.load(form.removeprefix("reward:").strip()))
    if form.startswith(("score:", "score[")):
        program = parse_check(f"command{form.removeprefix('score')}")
        assert isinstance(program, Command)  # noqa: S101  (the kind)
        return Printed(program)
    if form.startswith("python:"):
        return Called(FunctionCheck.of(form.removeprefix("python:").strip()))
    return Checked(parse_check(form))


def _number(found: object, name: str, answer: str) -> float:
    """Return a reward as a finite number."""
    if isinstance(found, Real) and math.isfinite(found):
        return float(found)
    raise CheckError(
        f"the reward {name} is {shown(found)} for the answer {answer!r:.60}.",
        hint="A reward is a finite number: fix what gives it, and type the same command again.",
    )
