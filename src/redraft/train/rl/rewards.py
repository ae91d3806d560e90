"""Judge answers by a reward, or by a weighted sum of rewards (docs/rlhf.md lists the kinds).

A reward receives an answer as a record (a `Chain`): the prompt, the answer, and further fields of the data in
`meta`. A Python function may instead take the answer's text, with or without the prompt.

A reward that is not a finite number stops the run, because training on NaN would destroy the model.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pkgutil import resolve_name
from typing import Any

from redraft.chain import Chain, is_blank
from redraft.checks.base import Check, Outcome, is_crash, run_check, together
from redraft.checks.function import FunctionCheck, takes_prompt
from redraft.checks.parse import parse_check
from redraft.errors import CheckError, UsageError, crash_of, shown
from redraft.jobs.counting import counted
from redraft.jobs.plugins import OWN, Kind, Plugin, plugins
from redraft.jobs.signals import in_daemon_thread

_WEIGHT = re.compile(r"(?P<weight>-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?)\s*\*\s*")
_HEAD = re.compile(r"(?P<kind>[\w-]+):")
_HINT = "--reward words<=50, reward:MODEL or python:module.function; a weighted sum: --reward A 2*B."


Reward = Callable[[Sequence[Chain]], Coroutine[Any, Any, Sequence[float]]]
"""An async function that returns a number for the answer of each record."""


async def _checked(check: Check, chains: Sequence[Chain]) -> list[float]:

    async def score(chain: Chain) -> float:
        answer = chain.answer
        return (await run_check(check, answer, chain.prompt)).score if not is_blank(answer) else 0.0

    return await together([score(each) for each in chains])


async def _modelled(model: Any, chains: Sequence[Chain]) -> list[float]:
    asked = [(each.prompt, each.answer) for each in chains]
    found = await in_daemon_thread(lambda: model.score(asked))
    return [_number(each, model.name, chain) for each, chain in zip(found, chains, strict=True)]


async def _called(check: FunctionCheck, chains: Sequence[Chain]) -> list[float]:
    return await together([_returned(check, each) for each in chains])


async def _returned(check: FunctionCheck, chain: Chain) -> float:
    given: tuple[Any, ...] = (chain.answer,)
    if takes_prompt(check.function):
        given = (chain.answer, chain.prompt)
    else:
        with suppress(ValueError, TypeError):  # some C functions have no signature
            if "chain" in inspect.signature(check.function).parameters:
                given = (chain,)
    try:
        found = await in_daemon_thread(lambda: check.function(*given))
        found = await found if inspect.isawaitable(found) else found
    except BaseException as error:
        if not is_crash(error):
            raise
        hint = "Fix the function, and type the same command again: the run resumes."
        raise CheckError(f"the reward {check.name} crashed: {crash_of(error)}", hint=hint) from error
    return _number(found.score if isinstance(found, Outcome) else found, check.name, chain)


async def _of_package(plugin: Plugin, form: str, reward: Reward, chains: Sequence[Chain]) -> list[float]:
    with plugin.running():
        found = [*await reward(chains)]
    if len(found) != len(chains):
        raise plugin.fault(f"returned {counted(len(found), 'number')} for {counted(len(chains), 'answer')}.")
    return [_number(each, form, chain) for each, chain in zip(found, chains, strict=True)]


@dataclass(frozen=True)
class Rewards:
    """A weighted sum of rewards."""

    parts: Mapping[str, tuple[float, Reward]]  # weights and rewards, by the values of `--reward`

    async def __call__(self, chains: Sequence[Chain]) -> list[dict[str, float]]:
        """Return, for each answer, the weighted score of each reward, by its text in `--reward`."""
        found = await together([reward(chains) for _, reward in self.parts.values()])
        weights = [weight for weight, _ in self.parts.values()]
        return [
            {form: weight * score for form, weight, score in zip(self.parts, weights, each, strict=True)}
            for each in zip(*found, strict=True)
        ]


def parse_rewards(forms: Sequence[str]) -> Rewards:
    """Parse the values of `--reward`."""
    if not forms:
        raise UsageError("there is no reward to judge the answers by.", hint=_HINT)
    parts: dict[str, tuple[float, Reward]] = {}
    for form in map(str.strip, forms):
        if form in parts:
            raise UsageError(f"the reward {form} is given twice.", hint="Give it once: add up the weights.")
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
        reward = plugin.guarded(plugin.load(RewardKind).make, Callable)(form)
        return reward if plugin.package == OWN else partial(_of_package, plugin, form, reward)
    if re.match(r"judge\b", form):
        hint = "Use a reward model (reward:MODEL) or a function that asks a judge (python:module.function)."
        raise UsageError(f"{form!r:.60} is a judge, which cannot be a reward.", hint=hint)
    return partial(_checked, parse_check(form))


@dataclass(frozen=True)
class RewardKind(Kind):
    """A kind of reward: a plugin of the group `redraft.rewards`."""

    make: Callable[[str], Reward]  # makes a reward from a value without its weight, such as `reward:MODEL`


def _of_model(form: str) -> Reward:
    kind = resolve_name("redraft.engines.hf.reward:RewardModel")  # slow to import
    return partial(_modelled, kind.load(form.removeprefix("reward:").strip()))


MODEL = RewardKind(_of_model)
FUNCTION = RewardKind(lambda form: partial(_called, FunctionCheck.of(form.removeprefix("python:").strip())))


def _number(found: object, name: str, chain: Chain) -> float:
    with suppress(OverflowError, ValueError, RuntimeError, TypeError):  # a huge int, or an array
        plain = found.item() if hasattr(found, "item") else found
        if isinstance(plain, Real) and math.isfinite(plain):
            return float(plain)
    hint = "A reward must be a finite number. Fix its function or model, and type the same command again."
    raise CheckError(f"the reward {name} is {shown(found)} for the answer {chain.answer!r:.60}.", hint=hint)
