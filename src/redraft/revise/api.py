"""`revise`, `arevise` and `stream`: from a prompt and a model to a chain.

What is decided here is what the caller left open: which way of revising suits the model and the checks. The
work is the loop's. Nothing here retries, and nothing here writes files.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Unpack

from redraft.chain import Chain, Prompt
from redraft.engines.base import Engine, EngineInfo
from redraft.engines.load import load_engine
from redraft.engines.metered import MeteredEngine
from redraft.errors import UsageError
from redraft.revise.background import Background
from redraft.revise.budget import Budget
from redraft.revise.driver import CancelToken, Driver
from redraft.revise.ops import Event, Finished
from redraft.revise.options import Options, choose_mode, is_text, look, sampling_of
from redraft.revise.state import Plan
from redraft.verify.base import Check
from redraft.verify.output import from_model, parse_output
from redraft.verify.parse import parse_checks

if TYPE_CHECKING:
    from pydantic import BaseModel

Asked = str | Prompt | Sequence[Mapping[str, Any]]
"""A prompt: a text, a `Prompt`, or chat messages."""


async def stream(prompt: Asked, **options: Unpack[Options]) -> AsyncGenerator[Event, None]:
    """Makes a chain and yields its events as they come: `Text`, `StepDone`, and at last `Finished`.

    Args:
        prompt: What is asked.
        **options: See `Options`.

    Raises:
        UsageError: The options do not fit together, or the model cannot do what is asked.
        EngineError, CheckError: With the chain until then in `chain`.
    """
    look(options)
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
    look(options)  # before a model is loaded
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
    """The prompt as the record has it.

    Raises:
        UsageError: It is of no known type, or says nothing.
    """
    if not _is_whole(prompt.model_dump() if isinstance(prompt, Prompt) else prompt):
        raise UsageError(
            f"the prompt holds half of a character: {prompt!a:.80}.",
            hint="Decode it with the encoding that it is in: open(file, encoding='latin-1')",
        )
    if isinstance(prompt, str):
        prompt = Prompt(instruction=prompt)
    elif not isinstance(prompt, Prompt):
        prompt = Prompt(messages=_messages(prompt))
    if not prompt.text.strip():
        raise UsageError("the prompt is empty.", hint="Give a question or an instruction.")
    return prompt


def _is_whole(value: Any) -> bool:
    """Whether every text in a prompt is of whole characters."""
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, Mapping):
        return all(_is_whole(key) and _is_whole(part) for key, part in value.items())
    return not isinstance(value, list | tuple) or all(map(_is_whole, value))


def _messages(prompt: Any) -> tuple[dict[str, Any], ...]:
    listed = isinstance(prompt, Sequence) and all(isinstance(message, Mapping) for message in prompt)
    if not listed or any(message.get("role") not in ("system", "user", "assistant") for message in prompt):
        raise UsageError(
            f"the prompt is {prompt!r:.80}.",
            hint="It should be a text, a Prompt, or messages: [{'role': 'user', 'content': '…'}]",
        )
    return tuple(dict(message) for message in prompt)


def _plan(prompt: Prompt, options: Options, info: EngineInfo, checks: Sequence[Check]) -> Plan:
    output, critic = options.get("output"), options.get("critic") is not None
    least = options.get("min_revisions", 0)
    mode = choose_mode(options.get("mode", "auto"), info, has_checks=bool(checks), has_critic=critic)
    return Plan(
        prompt=prompt,
        info=info,
        mode=mode,
        sampling=sampling_of(options),
        min_revisions=least,
        max_revisions=options.get("max_revisions", max(3, least)),
        context_policy=options.get("context", "last"),
        budget=options.get("budget") or Budget(),
        price=options.get("price"),
        checks=tuple(check.name for check in checks),
        critic=critic,
        system=options.get("system"),
        demand=_demand(output) if output is not None else None,
        id=options.get("id", ""),
    )


def _demand(output: type[BaseModel]) -> str:
    import json

    schema = json.dumps(output.model_json_schema(), ensure_ascii=False)
    return f"Answer with JSON alone, as one object that fits this JSON schema:\n{schema}"


def _with_value(event: Event, output: type[BaseModel] | None) -> Event:
    if output is None or not isinstance(event, Finished):
        return event
    return Finished(event.chain.with_value(parse_output(output, event.chain.answer)))
