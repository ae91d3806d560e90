"""`revise`, `arevise` and `stream`: from a prompt and a model to a chain.

What is decided here is what the caller left open: which way of revising suits the model and the checks. The
work is the loop's. Nothing here retries, and nothing here writes files.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from redraft.chain import Chain, Prompt
from redraft.engines.base import Engine, EngineInfo, Sampling
from redraft.engines.load import load_engine
from redraft.engines.metered import MeteredEngine
from redraft.errors import UsageError
from redraft.revise.background import Background
from redraft.revise.budget import Budget, Price
from redraft.revise.driver import CancelToken, Driver
from redraft.revise.ops import Event, Finished
from redraft.revise.state import ContextPolicy, Mode, Plan
from redraft.verify.base import Check
from redraft.verify.output import from_model, parse_output
from redraft.verify.parse import parse_checks

if TYPE_CHECKING:
    from pydantic import BaseModel

Asked = str | Prompt | Sequence[Mapping[str, Any]]
"""A prompt: a text, a `Prompt`, or chat messages."""


class Options(TypedDict, total=False):
    """What `revise`, `arevise` and `stream` take besides the prompt. All of it can be left out.

    Attributes:
        model: A model reference (docs/engines.md) or an engine; `default` if left out. An engine stays open.
        mode: `native`, `prompted`, `verified`, or `auto`: native if the model says so, else verified if
            there are checks, else prompted.
        checks: Checks in their short form, as values, or functions of yours (docs/checks.md).
        min_revisions: Fewer are not accepted; 0 if left out.
        max_revisions: More are not made; 3 if left out, as in SelFee's released server.
        critic: Another model, or engine, that criticises.
        judge: The model of `judge:` checks. What it costs counts.
        system: A system message.
        temperature: 0 is greedy; 0.7 if left out.
        top_p: Nucleus size, in (0, 1]; 1 if left out.
        max_tokens: Most new tokens of one answer or feedback; of the whole text in native mode. 2,048 if
            left out.
        seed: Makes a run repeatable on the same engine and batch.
        budget: The most that the whole chain may use.
        price: What tokens cost, for `cost_usd` and a budget of money.
        context: What critic and writer see: the `last` step, or the whole `chain`.
        output: A pydantic model that the answer has to fit, as JSON; the object is `chain.value`.
        id: The chain's id.
        cancel: Lets somebody else end the chain early.
    """

    model: str | Engine
    mode: Literal["auto", "native", "prompted", "verified"]
    checks: Sequence[str | Check | Callable[..., Any]]
    min_revisions: int
    max_revisions: int
    critic: str | Engine | None
    judge: str | Engine | None
    system: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None
    budget: Budget
    price: Price | None
    context: ContextPolicy
    output: type[BaseModel] | None
    id: str
    cancel: CancelToken


async def stream(prompt: Asked, **options: Unpack[Options]) -> AsyncGenerator[Event, None]:
    """Makes a chain and yields its events as they come: `Text`, `StepDone`, and at last `Finished`.

    Args:
        prompt: What is asked.
        **options: See `Options`.

    Raises:
        UsageError: The options do not fit together, or the model cannot do what is asked.
        EngineError, CheckError: With the chain until then in `chain`.
    """
    asked, output = _prompt(prompt), options.get("output")
    async with AsyncExitStack() as stack:
        judging = await _open(options.get("judge"), stack)
        judge = MeteredEngine(judging) if judging is not None else None
        checks = parse_checks(options.get("checks", ()), judge=judge)
        if output is not None:
            checks = (from_model(output), *checks)
        writer = await _open(options.get("model", "default"), stack)
        critic = await _open(options.get("critic"), stack)
        plan = _plan(asked, options, writer.info, checks)
        driver = Driver(writer, critic, checks, judge, options.get("cancel") or CancelToken())
        async with aclosing(driver.run(plan)) as events:
            async for event in events:
                yield _with_value(event, output)


async def arevise(prompt: Asked, **options: Unpack[Options]) -> Chain:
    """Makes a chain. Arguments and errors as for `stream`."""
    async with aclosing(stream(prompt, **options)) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event.chain
    raise AssertionError("the loop ended without a chain")


def revise(prompt: Asked, **options: Unpack[Options]) -> Chain:
    """Makes a chain, without `await`. Arguments and errors as for `stream`.

    Works in notebooks too. A model given by reference stays loaded for the next call, until the program ends.
    """
    return _background.run(_revise_kept(prompt, options))


_background = Background()


async def _revise_kept(prompt: Asked, options: Options) -> Chain:
    kept: Options = {
        **options,
        "model": await _background.keep(options.get("model", "default"), load_engine),
        "critic": await _background.keep(options.get("critic"), load_engine),
        "judge": await _background.keep(options.get("judge"), load_engine),
    }
    return await arevise(prompt, **kept)


async def _open(model: str | Engine | None, stack: AsyncExitStack) -> Any:
    """The engine of a reference, closed with the stack; an engine is the caller's to close."""
    if not isinstance(model, str):
        return model
    engine = await load_engine(model)
    stack.push_async_callback(engine.aclose)
    return engine


def _prompt(prompt: Asked) -> Prompt:
    if isinstance(prompt, str):
        prompt = Prompt(instruction=prompt)
    elif not isinstance(prompt, Prompt):
        prompt = Prompt(messages=tuple(dict(message) for message in prompt))
    if not prompt.text.strip():
        raise UsageError("the prompt is empty.", hint="Give a question or an instruction.")
    return prompt


def _plan(prompt: Prompt, options: Options, info: EngineInfo, checks: Sequence[Check]) -> Plan:
    budget, price = options.get("budget") or Budget(), options.get("price")
    if budget.usd is not None and price is None:
        raise UsageError(
            f"a budget of {budget.usd} USD needs the price of {info.name!r}.",
            hint="Give USD per million tokens: --price PROMPT,COMPLETION or price=Price(prompt, completion).",
        )
    output = options.get("output")
    least = options.get("min_revisions", 0)
    plan = Plan(
        prompt=prompt,
        info=info,
        mode=choose_mode(options.get("mode", "auto"), info, has_checks=bool(checks)),
        sampling=_sampling(options),
        min_revisions=least,
        max_revisions=options.get("max_revisions", max(3, least)),
        context_policy=options.get("context", "last"),
        budget=budget,
        price=price,
        checks=tuple(check.name for check in checks),
        critic=options.get("critic") is not None,
        system=options.get("system"),
        demand=_demand(output) if output is not None else None,
        id=options.get("id", ""),
    )
    if not 0 <= plan.min_revisions <= plan.max_revisions:
        raise UsageError(
            f"min_revisions is {plan.min_revisions} and max_revisions is {plan.max_revisions}.",
            hint="Both count revisions after the first answer: 0 <= min <= max.",
        )
    return plan


def choose_mode(mode: str, info: EngineInfo, *, has_checks: bool) -> Mode:
    """The way of revising that a model and a call come to.

    Raises:
        UsageError: The mode asked for needs something that is not there; says what to use.
    """
    if mode == "auto":
        return "native" if info.native else "verified" if has_checks else "prompted"
    if mode == "native" and not info.continues:
        raise UsageError(
            f"{info.name!r} cannot continue raw text, which native revision needs.",
            hint="Use --mode prompted, or a GGUF file of the model.",
        )
    if mode in ("prompted", "verified") and not info.chats:
        raise UsageError(f"{info.name!r} does not answer chat messages.", hint="Use --mode native.")
    if mode == "verified" and not has_checks:
        raise UsageError(
            "mode 'verified' revises what checks find, and there are no checks.",
            hint="Add one: --check 'words<=50'. All of them: docs/checks.md",
        )
    if mode not in ("native", "prompted", "verified"):
        raise UsageError(f"there is no mode {mode!r}.", hint="Modes: auto, native, prompted, verified.")
    return mode  # type: ignore[return-value]


def _sampling(options: Options) -> Sampling:
    sampling = Sampling(
        temperature=options.get("temperature", Sampling.temperature),
        top_p=options.get("top_p", Sampling.top_p),
        max_tokens=options.get("max_tokens", Sampling.max_tokens),
        seed=options.get("seed"),
    )
    if sampling.temperature < 0:
        raise UsageError(
            f"temperature is {sampling.temperature}.", hint="0 is greedy, 0.7 the default, 1 plain."
        )
    if not 0 < sampling.top_p <= 1:
        raise UsageError(f"top_p is {sampling.top_p}.", hint="It lies above 0 and is at most 1.")
    if sampling.max_tokens < 1:
        raise UsageError(f"max_tokens is {sampling.max_tokens}.", hint="Give a number above zero.")
    return sampling


def _demand(output: type[BaseModel]) -> str:
    import json

    schema = json.dumps(output.model_json_schema(), ensure_ascii=False)
    return f"Answer with JSON alone, as one object that fits this JSON schema:\n{schema}"


def _with_value(event: Event, output: type[BaseModel] | None) -> Event:
    if output is None or not isinstance(event, Finished):
        return event
    return Finished(event.chain.with_value(parse_output(output, event.chain.answer)))
