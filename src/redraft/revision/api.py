"""Make a chain from a prompt and a model: `revise`, `arevise` and `stream`.

This module checks the options, opens the engines and chooses the mode. Retries and output files belong to
other modules.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import json
import re
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from redraft.chain import Chain, Prompt, Step, best_step, content_of, is_system, whole
from redraft.checks.base import Prefixed, demand_of, schema_of
from redraft.checks.groups import without_auto
from redraft.checks.parse import parse_checks
from redraft.checks.structure import Json
from redraft.checks.tools import bounds_of
from redraft.engines.base import OF_TEMPLATE, OF_TOOLS, Engine, EngineInfo
from redraft.engines.config import load_config
from redraft.engines.load import identity_of, load_engine, references_of
from redraft.engines.messages import ROLES, beyond_text, plain
from redraft.engines.retry import Patience
from redraft.engines.steering.form import NOT_IN_JSON, Form, joined
from redraft.engines.wrapped import JournaledEngine, MeteredEngine
from redraft.errors import MissingExtra, RecordError, UsageError, shown
from redraft.jobs.signals import in_daemon_thread
from redraft.options import options_of
from redraft.revision.calls import tell_unmet
from redraft.revision.cancel import CancelToken, OutOfTime
from redraft.revision.driver import Driver, call_hook, with_value
from redraft.revision.keywords import KeywordsButOutput, RevisionKeywords
from redraft.revision.native import LONGEST_WORK
from redraft.revision.ops import Event, Finished
from redraft.revision.options import (
    RevisionOptions,
    check_checks,
    check_engines,
    check_options,
    check_together,
    choose_mode,
    patience_of,
)
from redraft.revision.prompts import base_messages, wording_of
from redraft.revision.state import Plan, check_resumable, complete_drafts, complete_steps
from redraft.revision.watch import forms_of

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # since 4.13, which pydantic does not demand

    from redraft.revision.trace import ChainSpan


T = TypeVar("T")


class Background:
    """Runs coroutines on an event loop in a thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._opening = asyncio.Lock()
        self._engines: dict[object, Engine] = {}
        self._of_parent: list[dict[object, Engine]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for the result. Ctrl-C cancels the coroutine."""
        if threading.current_thread() is self._thread:
            work.close()
            message = "an async check called redraft.revise, which would wait for itself."
            raise UsageError(message, hint="In the check, write: await redraft.arevise(…)")
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def keep(self, reference: str, patience: Patience) -> Engine:
        """Return a model's engine, which the first call loads. Use only in `run`."""
        # In another folder, a relative path names another file. Keys and waiting times of servers may differ.
        key: object = reference if reference == "default" else (Path.cwd(), reference)
        if servers := [part for part in references_of(reference) if "://" in part]:
            key = (reference, patience, *map(load_config().key_for, servers))
        async with self._opening:
            if key not in self._engines:
                self._engines[key] = await load_engine(reference, patience=patience)
        return self._engines[key]

    def close(self) -> None:
        """Close the engines and end the thread."""
        # The interpreter is exiting, so an engine's `aclose` can no longer start threads.
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is None or thread is None or not thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._close_engines(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)

    async def _close_engines(self) -> None:
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.aclose() for engine in engines))

    def _started(self) -> asyncio.AbstractEventLoop:
        # In a forked child, keep the parent's engines: freeing them would kill their models' processes.
        with self._starting:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._of_parent.append(self._engines)
                self._engines, self._opening = {}, asyncio.Lock()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=[self._loop], name="redraft", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


Asked = str | Prompt | Sequence[Mapping[str, Any]]  # a prompt: a text, a `Prompt`, or chat messages

CHOOSING = "The answer does what the request asks, completely and correctly, and is easy to read."
"""The rubric by which a judge chooses among drafts if there are no checks."""

PATCHED = "Write a text."  # the default prompt of a text to patch

Role = Literal["model", "critic", "judge"]
Load = Callable[[Role, str], Awaitable[Engine]]  # open the engine of a model reference for a role


async def stream(prompt: Asked, **options: Unpack[RevisionKeywords]) -> AsyncGenerator[Event, None]:
    """Make a chain, and yield its events, such as `Text` and `StepDone`. The last event is `Finished`.

    Args:
        prompt: A text, a `Prompt` or chat messages.
        **options: As listed below; all are optional.

    Raises:
        UsageError: The options do not fit together or do not suit the model.
        EngineError, CheckError, HookError: A call failed. The error's `chain` has the steps so far.

    See docs/python.md for more.
    """
    checked = check_options(options)
    async with AsyncExitStack() as stack:

        async def load(_role: Role, reference: str) -> Engine:
            engine = await load_engine(reference, patience=patience_of(checked))
            stack.push_async_callback(engine.aclose)
            return engine

        async for event in await stack.enter_async_context(aclosing(make(prompt, checked, load))):
            yield event


@overload
async def arevise(prompt: Asked, *, output: type[T], **options: Unpack[KeywordsButOutput]) -> Chain[T]: ...
@overload
async def arevise(
    prompt: Asked, *, output: TypeForm[T], **options: Unpack[KeywordsButOutput]
) -> Chain[T]: ...
@overload
async def arevise(prompt: Asked, **options: Unpack[RevisionKeywords]) -> Chain[Any]: ...
async def arevise(prompt: Asked, **options: Any) -> Chain[Any]:
    """Make a chain and return it. Arguments and errors are as in `stream`."""
    async with aclosing(stream(prompt, **options)) as events:
        return await finished(events)


async def apatch(
    answer: Chain | str, prompt: Asked = PATCHED, **options: Unpack[RevisionKeywords]
) -> Chain[Any]:
    """Rewrite only passages of an answer. Arguments and errors are as in `patch`."""
    return await arevise(**to_patch(answer, prompt, **options))


def patch(answer: Chain | str, prompt: Asked = PATCHED, **options: Unpack[RevisionKeywords]) -> Chain[Any]:
    """Rewrite only passages of an answer, without `await`.

    Args:
        answer: A text, or a chain. In a chain, the best answer is rewritten.
        prompt: The prompt of a text. A chain has its own prompt, but its checks must be given again.
        **options: The options of `revise`. `places` lists pairs: a place, and a wish that says what to
            change there. A place is a passage that occurs once, a pair of indices (the end is excluded), or
            the JSON pointer of a value. A single wish, as in ["make it shorter"], may change any sentence.
            Without `places`, the passages in which `checks` find faults are rewritten.
    """
    return revise(**to_patch(answer, prompt, **options))


def to_patch(answer: Chain | str, prompt: Asked = PATCHED, **options: Any) -> Any:
    """Return the arguments with which `revise` patches an answer."""
    if not isinstance(answer, str | Chain):
        raise UsageError(f"{shown(answer)} cannot be patched.", hint="Give an answer, or its chain.")
    if not (options.get("places") or options.get("checks")):
        hint = "Give places=[('40 dollars', 'in euros')], or checks."
        raise UsageError("neither places nor checks are given, so it is unclear what to patch.", hint=hint)
    if isinstance(answer, str) and not answer.strip():
        raise UsageError("the text is blank, so nothing can be changed.", hint="Give another text.")
    options["places"] = options.get("places") or []
    if isinstance(answer, str):
        return {**options, "prompt": prompt, "given": answer}
    if answer.best is None:
        raise UsageError("the chain has no answer to patch.", hint="Give a text, or another chain.")
    best, steps = answer.steps[answer.best], answer.steps
    steps = steps if best is steps[-1] else (*steps, Step(answer=best.answer))  # the answer to continue
    made = answer.model_copy(update={"steps": steps, "stop": None})
    return {**options, "prompt": answer.prompt, "resume": made}


@overload
def revise(prompt: Asked, *, output: type[T], **options: Unpack[KeywordsButOutput]) -> Chain[T]: ...
@overload
def revise(prompt: Asked, *, output: TypeForm[T], **options: Unpack[KeywordsButOutput]) -> Chain[T]: ...
@overload
def revise(prompt: Asked, **options: Unpack[RevisionKeywords]) -> Chain[Any]: ...
def revise(prompt: Asked, **options: Any) -> Chain[Any]:
    """Make a chain and return it, without `await`. Arguments and errors are as in `stream`.

    This works in notebooks too. A model given by reference stays loaded until the program ends.
    """
    return _background.run(_revise_kept(prompt, check_options(options)))


_background = Background()

_lines = [f"    {name}: {option.text}" for name, option in options_of(RevisionOptions).items()]
_function: Callable[..., Any]
for _function in (stream, arevise, revise):
    _function.__doc__ = "\n".join([inspect.cleandoc(_function.__doc__ or ""), "", "Options:", *_lines])


async def _revise_kept(prompt: Asked, options: RevisionOptions) -> Chain:
    async def load(_role: Role, reference: str) -> Engine:
        return await _background.keep(reference, patience_of(options))

    async with aclosing(make(prompt, options, load)) as events:
        return await finished(events)


async def finished(
    events: AsyncGenerator[Event, None], show: Callable[[Event], None] = lambda _: None
) -> Chain:
    """Return the chain of the `Finished` event. Call `show` with every event."""
    async for event in events:
        show(event)
        if isinstance(event, Finished):
            return event.chain
    raise AssertionError("the events ended without a Finished event")


async def no_engine(_role: Role, reference: str) -> Engine:
    """Raise an error, because engines must be open already."""
    raise AssertionError(f"the engine of {reference} is not open")


async def make(
    prompt: Asked, options: RevisionOptions, load: Load = no_engine
) -> AsyncGenerator[Event, None]:
    """Make a chain as `stream` does, with engines that the caller opens and closes.

    The time budget starts here. If the time ends before the engines are open, the chain has no new steps.
    """
    check_together(options)  # the caller may have changed the options after `check_options`
    asked = prompt_of(prompt)
    with ExitStack() as stack:
        if options.cache:
            load = _cached(load, stack, Path(options.cache), options.resume)
        span: ChainSpan | None = None
        if options.trace:
            try:
                from redraft.revision.trace import chain_span
            except ImportError:
                raise MissingExtra("a trace", "otel") from None
            span = stack.enter_context(chain_span(options.trace))
        async with aclosing(_make(asked, options, load, span)) as events:
            async for event in events:
                if span is not None and isinstance(event, Finished):
                    span.ended(event.chain)
                yield event


def _cached(load: Load, stack: ExitStack, path: Path, made: Chain | None) -> Load:
    # SQLite is imported here, because most chains need no cache.
    from redraft.jobs.journal import Journal

    cache = stack.enter_context(Journal(path))
    written = 0 if made is None else len(complete_steps(made)) + len(complete_drafts(made))

    async def cached(role: Role, reference: str) -> Engine:
        engine = await load(role, reference)
        identity = await in_daemon_thread(lambda: identity_of(reference))
        used = written if role == "model" else 0
        return JournaledEngine(engine, cache, identity=[role, identity], used=used)

    return cached


async def _make(
    asked: Prompt, options: RevisionOptions, load: Load, span: ChainSpan | None
) -> AsyncGenerator[Event, None]:
    clock = asyncio.get_running_loop().time
    made = options.resume or Chain(prompt=asked)
    check_resumable(made, asked, options.given)
    if options.places:  # before a model is loaded
        from redraft.engines.scripted import ScriptedEngine
        from redraft.revision import wishes

        edits = wishes.marked(made.steps[-1].answer if made.steps else options.given, options.places)
        if isinstance(options.model, str) and all(edit.made is not None for edit in edits):
            options = options.model_copy(update={"model": ScriptedEngine(["-"], name="none")})
    seconds, begun = options.budget.seconds, clock()
    cancel = options.cancel or CancelToken()
    limit = None if seconds is None else begun + seconds - made.usage.seconds
    try:
        async with cancel.until(limit):
            driver = replace(await _driver(asked, options, load, span), cancel=cancel)
    except OutOfTime:
        stop, given = "cancelled" if cancel.cancelled else "budget", options.given
        steps = complete_steps(made) or ((Step(answer=given),) if given else ())
        changes = {"id": options.id, "stop": stop, "steps": steps, "best": best_step(steps)}
        unopened = made.model_copy(update={**changes, "drafts": complete_drafts(made)})
        output = options.output
        event = with_value(Finished(unopened), [output] if output else [], output)
        if options.on_event is not None:
            await call_hook(options.on_event, event)
        yield event
        return
    engines = {"model": driver.writer, "critic": driver.critic, "judge": driver.judge}
    check_engines(options.model_copy(update=engines))
    forms = await forms_of(driver.checks) if options.steer or driver.writer.info.roles else ()
    plan = replace(_plan(asked, options, driver, forms), earlier=made, waited=clock() - begun)
    check_plain(plan)
    check_request(plan)
    async with aclosing(driver.run(plan)) as events:
        async for event in events:
            yield event


async def _driver(asked: Prompt, options: RevisionOptions, load: Load, span: ChainSpan | None) -> Driver:

    async def opened(role: Role, model: str | Engine | None) -> Any:
        engine = await load(role, model) if isinstance(model, str) else model
        return engine if span is None or engine is None else span.around(role, engine)

    judging = await opened("judge", options.judge)
    judge = MeteredEngine(judging) if judging is not None else None
    checks = without_auto(parse_checks(options.checks, judge=judge), asked)
    if options.output is not None:
        checks = (options.output, *checks)
    check_checks(checks, options)
    tell_unmet(checks, options.tools, strict=load is not no_engine)  # a server's clients have other tools
    if judge is not None and not checks and options.most_drafts > 1:
        from redraft.checks.judge import MAX_SCORE, Judge

        checks = (Judge.of(CHOOSING, judge, MAX_SCORE),)
    writer = await opened("model", options.model)
    critic = await opened("critic", options.critic)
    return Driver(writer, critic, checks, judge, output=options.output, on_event=options.on_event)


def prompt_of(prompt: Asked) -> Prompt:
    """Return a text or messages as a `Prompt`. Raise `UsageError` for an invalid prompt."""
    given = prompt.model_dump() if isinstance(prompt, Prompt) else prompt
    said = json.dumps(given, ensure_ascii=False, default=str)
    if said != whole(said):
        raise UsageError(
            f"the prompt has a lone surrogate (half a character): {getattr(prompt, 'text', prompt)!a:.80}.",
            hint="If the text is not UTF-8, convert it: iconv -f latin1 -t utf-8. "
            "In Python: open(file, encoding='latin-1')",
        )
    if isinstance(prompt, str):
        prompt = Prompt(instruction=prompt)
    elif not isinstance(prompt, Prompt):
        prompt = Prompt(messages=_messages(prompt))
    if lack := prompt.lack:
        raise UsageError(f"{lack}.", hint="Give a question or an instruction.")
    return prompt


def _messages(prompt: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray):
        raise UsageError(f"the prompt is {shown(prompt)}, which has the wrong type.", hint=_FORMS)
    for number, message in enumerate(prompt, start=1):
        if not isinstance(message, Mapping):
            fault = f"is {shown(message)}"
        elif (role := message.get("role")) not in ROLES:
            fault = f"has {f'the role {shown(role)}' if role else 'no role'}. Roles: {', '.join(ROLES)}"
        elif not isinstance(content := message.get("content"), str | list | None):
            fault = f"has the content {shown(content)}"
        elif role == "user" and "content" not in message:
            fault = f"has no content. It has {', '.join(map(repr, message))}"
        else:
            continue
        raise UsageError(f"the prompt is not a conversation: message {number} {fault}.", hint=_FORMS)
    return tuple(dict(message) for message in prompt)


_FORMS = "It should be a text, a Prompt, or messages: [{'role': 'user', 'content': '…'}]"

SHORTEST = 16
"""With a smaller `max_tokens`, adapters are not asked. Their right answers have up to about 10 tokens."""


def settled(
    asked: Prompt, options: RevisionOptions, info: EngineInfo, *, once: bool | None = None
) -> tuple[RevisionOptions, tuple[str, ...]]:
    """Decide who answers: the default model's adapters, or its base model alone.

    Args:
        once: Whether the answer must not be revised. The default is True if the options allow no revisions.

    Returns:
        The options, and the prompt in the wordings of the adapters' training (`engines.learnt`). Without
        wordings, the base model answers, and revises only if revisions, checks or a critic were requested.
    """
    drafts = options.mode == "best-of"  # the adapter writes them if it has learnt the task
    alone = drafts or (options.mode == "auto" and options.most_drafts == 1)
    if not (info.shipped and alone) or options.critic or options.given or options.places:
        return options, ()
    once = options.most_revisions == 0 if once is None else once
    beside = options.system or options.tools or options.stop or options.gold or options.output
    short = (options.budget.tokens or LONGEST_WORK) < LONGEST_WORK  # an exercise that is cut has no answer
    able = info.roles and not ((once and not drafts) or beside or short or options.min_revisions)
    if able and (options.max_tokens or SHORTEST) >= SHORTEST:
        from redraft.engines import learnt

        if found := learnt.read(_alone(asked)):
            revises = {} if options.most_revisions or drafts else {"max_revisions": 1}
            return options.model_copy(update=revises), found.texts
    if options.output or without_auto(options.checks, asked) or options.gold or drafts:
        return options, ()
    given = {"max_revisions", "min_revisions"} & options.model_fields_set and not once
    changes = {"mode": "prompted"} if given else {"mode": "prompted", "max_revisions": 0}
    return options.model_copy(update=changes), ()


def _alone(asked: Prompt) -> str:
    if not asked.messages:
        return asked.text
    if any(is_system(each) or beyond_text(each) for each in asked.messages):
        return ""
    last = asked.messages[-1]
    return content_of(last) if last.get("role") == "user" else ""


TOLD = 2
"""The number of revisions with feedback before fresh drafts. Models that follow instructions gain from two
revisions, but hardly from a third (docs/diagnose.md)."""


def _plan(
    prompt: Prompt, options: RevisionOptions, driver: Driver, forms: Sequence[tuple[str, Form]]
) -> Plan:
    info = driver.writer.info
    options, exercises = settled(prompt, options, info)
    critic, judge = (engine.info if engine else None for engine in (driver.critic, driver.judge))
    telling = len(driver.checks) if options.tell_checks else int(options.output is not None)
    told = [demand_of(check) if place < telling else "" for place, check in enumerate(driver.checks)]
    untold = not all(told) or bool(options.given or options.min_revisions or options.tools)
    mode = choose_mode(
        options.mode,
        info,
        has_checks=bool(driver.checks),
        has_critic=critic is not None or bool(options.gold),
        drafts=options.most_drafts,
        by_chat=bool(options.given or options.gold or options.places),
    )
    auto = options.mode == "auto" and mode == "verified" and options.most_drafts == 1
    scheduled = auto and not untold
    full = exercises or options.min_revisions or options.tools or wording_of(options.prompts).scores
    plain_text = not any(map(beyond_text, base_messages(prompt, options.system)))
    schemas = [schema for schema in map(schema_of, driver.checks) if schema is not None]
    shapes = [name for name, _ in forms]
    shapes += [check.name for check in driver.checks if schema_of(check) is not None]
    forms = forms if options.steer and info.forms else ()
    wanted = next(iter([*[schema for schema in schemas if schema != Json().schema], *schemas]), None)
    steering = [check for check in driver.checks if options.steer or check is options.output]
    if (schema := wanted if info.schemas and wanted in map(schema_of, steering) else None) is not None:
        free = info.token_ids and not _BOUNDS.search(json.dumps(schema))  # its texts may contain any word
        joint = [
            Form(lacks=each.lacks, has=each.has * (free and NOT_IN_JSON.isdisjoint("".join(each.has))))
            for _, each in forms
            if info.token_ids
        ]
        forms = [found for found, form in zip(forms, joint, strict=False) if found[1] == form]
    form, steered = joined(() if options.tools else forms)
    holding = [check.name for check in steering if schema and schema_of(check) in (schema, Json().schema)]
    if form.has and schema == Json().schema:
        schema = OF_TEXTS
    return Plan(
        prompt=prompt,
        options=options,
        info=replace(info, price=options.price or info.price),
        mode=mode,
        exercises=exercises,
        shapes=tuple(shapes),
        told=None if not scheduled else 0 if steered and schema is None else TOLD,
        patches=auto and info.chats and plain_text and not full,
        checks=tuple(check.name for check in driver.checks),
        critic=critic,
        judge=judge,
        demand="\n".join(dict.fromkeys(filter(None, told))),  # a list made models answer with lists
        schema=schema,
        form=form if steered else None,
        steered=steered,
        holding=tuple(holding),
        bounds=bounds_of(driver.checks),
        # A text before a tool call, or around JSON, need not pass. A cache stores only whole replies.
        watched=not (options.tools or options.cache or wanted != schema)
        and any(isinstance(check, Prefixed) for check in driver.checks),
        json=wanted,
    )


OF_TEXTS = {
    "type": ["object", "array"],
    "items": {"type": "string"},
    "minItems": 1,
    "additionalProperties": {"type": "string"},
    "minProperties": 1,
}
"""The schema for JSON of any kind that must contain given words: an array or object of strings."""
_BOUNDS = re.compile(r'"(?:enum|const|pattern|format|maxLength)"')


def check_plain(plan: Plan) -> None:
    """Raise if an engine would drop an image, a message's name or a tool call in the prompt."""
    messages = base_messages(plan.asked, plan.options.system)
    for info in filter(None, (plan.info, plan.critic)):
        if not info.any_message:
            plain(messages, info)
    more = next(filter(None, map(beyond_text, messages)), "")
    if plan.mode == "native" and more:
        message = f"native revision needs messages of plain text, but one has {more}."
        raise RecordError(message, hint="Use mode 'prompted'.")


def check_request(plan: Plan) -> None:
    """Raise `UsageError` if the engine would drop a part of the request."""
    sampling, info = plan.sampling, plan.info
    beside = info.fields | frozenset(OF_TOOLS if info.tools else ())
    extra = {name: part for name, part in (sampling.extra_body or {}).items() if name not in beside}
    given = ["tools"] if plan.options.tools and not info.tools else []
    if not info.any_request:
        more = {"extra_body": extra, "extra_headers": sampling.extra_headers}
        given += [name for name, value in more.items() if value]
    choice = (sampling.extra_body or {}).get("tool_choice")
    if not isinstance(choice, Mapping) and choice not in (None, "none", "auto", "required", "any"):
        hint = 'Write "none", "auto", "required" or {"type": "function", "function": {"name": "search"}}'
        raise UsageError(f"tool_choice is {shown(choice)}, which is not a known choice.", hint=hint)
    if given:
        field = f" with {next(iter(extra))!r}" if given[0] == "extra_body" else ""
        takes = f" It accepts {', '.join(sorted(info.fields))}." if field and info.fields else ""
        raise UsageError(
            f"the engine {info.engine} does not accept {given[0]}{field}.{takes}",
            hint=f"Use a server: model='http://host/v1#model'. Or leave out {given[0]}.",
        )
    of_template = (sampling.extra_body or {}).get(OF_TEMPLATE)
    own = {"stop": plan.options.stop, "tools": plan.options.tools, OF_TEMPLATE: of_template}
    if plan.mode == "native" and any(own.values()):
        name = next(name for name, value in own.items() if value)
        message = f"native revision continues one text, so it cannot use {name}."
        raise UsageError(message, hint="Use mode 'prompted'.")
