"""The options of `revise`, and whether they fit together.

`look` checks whatever needs no model, before one is loaded. `choose_mode` checks what the model can do.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from redraft.chain import Chain, whole
from redraft.engines.base import Engine, EngineInfo, Sampling
from redraft.engines.messages import beyond_text, plain
from redraft.engines.price import Price
from redraft.errors import RecordError, UsageError
from redraft.revise.budget import Budget
from redraft.revise.driver import CancelToken
from redraft.revise.prompts import base_messages
from redraft.revise.state import ContextPolicy, Mode, Plan
from redraft.verify.base import Check

if TYPE_CHECKING:
    from pydantic import BaseModel


class Options(TypedDict, total=False):
    """Options of `revise`, `arevise` and `stream`. All can be left out.

    Attributes:
        model: A model reference (docs/engines.md) or an engine; `default` if left out. An engine stays open.
        mode: `native`, `prompted`, `verified`, or `auto`: native if the model says so, else verified if
            there are checks, else prompted.
        checks: Checks in their short form, as values, or your own functions (docs/checks.md).
        min_revisions: The fewest revisions; 0 if left out.
        max_revisions: The most revisions; 3 if left out, as in SelFee's released server.
        critic: Another model or engine that criticises.
        judge: The model or engine of `judge:` checks.
        system: A system message.
        temperature: 0 is greedy; 0.7 if left out.
        top_p: Nucleus size, in (0, 1]; 1 if left out.
        max_tokens: Most new tokens of one answer or feedback; of the whole text in native mode. 2,048 if
            left out.
        seed: Makes a run repeatable on the same engine and batch.
        budget: The most that the whole chain may use.
        price: The price of the writer's tokens; the engine's own (`EngineInfo.price`) if left out.
        context: What critic and writer see: the `last` step, or the whole `chain`.
        output: A pydantic model that the answer must fit, as JSON; the object is `chain.value`.
        id: The chain's id.
        cancel: Ends the chain early from outside.
        resume: A chain of the same prompt that was cut. Its complete steps are kept, and its usage counts
            towards the budget.
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
    prompts: Any
    output: type[BaseModel] | None
    id: str
    cancel: CancelToken
    resume: Chain | None


Test = Callable[[Any], bool]


def _is(kind: type | tuple[type, ...], holds: Test = lambda _: True) -> Test:
    """Return a test of an option's type and value. A bool is not a number."""
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and holds(value)


def is_text(value: Any) -> bool:
    """Return whether a value is a text that UTF-8 can encode: one without lone surrogates."""
    return isinstance(value, str) and value == whole(value)


def _is_output(value: Any) -> bool:
    from pydantic import BaseModel

    return value is None or (inspect.isclass(value) and issubclass(value, BaseModel))


_ENGINE: tuple[Test, str] = (
    lambda value: is_text(value) or hasattr(value, "info"),
    "a model reference (docs/engines.md) or an engine",
)
_OTHER_ENGINE = (lambda value: value is None or _ENGINE[0](value), _ENGINE[1])
_TEXT = (lambda value: value is None or is_text(value), "a text without lone surrogates")
_COUNT = (_is(int, lambda n: n >= 0), "a whole number, 0 or more")
_MODES = ("auto", "native", "prompted", "verified")
_RULES: Mapping[str, tuple[Test, str]] = {
    "model": _ENGINE,
    "mode": (_is(str, lambda mode: mode in _MODES), "auto, native, prompted or verified"),
    "checks": (lambda v: isinstance(v, Sequence) and not isinstance(v, str), "a list: ['words<=50']"),
    "min_revisions": _COUNT,
    "max_revisions": _COUNT,
    "critic": _OTHER_ENGINE,
    "judge": _OTHER_ENGINE,
    "system": _TEXT,
    "temperature": (_is((int, float), lambda t: 0 <= t < 100), "a number: 0 is greedy, 0.7 the default"),
    "top_p": (_is((int, float), lambda p: 0 < p <= 1), "a number above 0 and at most 1"),
    "max_tokens": (_is(int, lambda n: n > 0), "a whole number above 0"),
    "seed": (lambda v: v is None or _is(int)(v), "a whole number"),
    "budget": (_is(Budget), "a budget: Budget(tokens=500)"),
    "price": (lambda v: v is None or isinstance(v, Price), "a price: Price(prompt=0.5, completion=1.5)"),
    "context": (_is(str, lambda c: c in ("last", "chain")), "last or chain"),
    "prompts": (lambda v: True, ""),
    "output": (_is_output, "a pydantic model, which may have a list as a field"),
    "id": (is_text, _TEXT[1]),
    "cancel": (_is(CancelToken), "a CancelToken"),
    "resume": (lambda v: v is None or isinstance(v, Chain), "a chain that was cut: resume=error.chain"),
}


def look(options: Mapping[str, Any]) -> None:
    """Check options as far as possible without loading a model.

    Raises:
        UsageError: An option is unknown or has a wrong value, or two do not go together.
    """
    for name, value in options.items():
        if name not in _RULES:
            near = difflib.get_close_matches(name, _RULES, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else "Options: " + ", ".join(_RULES)
            raise UsageError(f"there is no option {name!r}.", hint=hint)
        holds, what = _RULES[name]
        if not holds(value):
            raise UsageError(f"{name} is {value!a:.80}.", hint=f"It should be {what}.")
    least = options.get("min_revisions", 0)
    most = options.get("max_revisions", max(3, least))
    if least > most:
        raise UsageError(
            f"min_revisions is {least} and max_revisions is {most}.",
            hint="Both count revisions after the first answer: 0 <= min <= max.",
        )
    insist_on_prices(options)
    if options.get("mode") == "verified":
        _look_at_verified(options)


def insist_on_prices(options: Mapping[str, Any]) -> None:
    """Check that a budget of money has a price of every model.

    A server's model given by reference passes: its price is known once its engine is open.

    Raises:
        UsageError: A model has no price.
    """
    usd = (options.get("budget") or Budget()).usd
    if usd is None:
        return
    for role in ("model", "critic", "judge"):
        model = options.get(role, "default" if role == "model" else None)
        given = role == "model" and options.get("price") is not None
        if model is None or given or (isinstance(model, str) and "://" in model):
            continue
        name, price = (model, None) if isinstance(model, str) else (model.info.name, model.info.price)
        if price is None:
            give = (
                "--price PROMPT,COMPLETION, price=Price(prompt, completion), or " if role == "model" else ""
            )
            raise UsageError(
                f"a budget of {usd} USD needs the price of the {role} {name!r}.",
                hint=f'Give USD per million tokens: {give}[prices."host#model"] in the config file.',
            )


def _look_at_verified(options: Mapping[str, Any]) -> None:
    if not options.get("checks") and options.get("output") is None:
        raise UsageError(
            "mode 'verified' needs checks, and there are none.",
            hint="Add one: --check 'words<=50'. All of them: docs/checks.md",
        )
    if options.get("critic") is not None:
        raise UsageError(
            "mode 'verified' asks no critic, and one was given.",
            hint="Use --mode prompted: checks judge first, then the critic.",
        )


def choose_mode(mode: str, info: EngineInfo, *, has_checks: bool, has_critic: bool) -> Mode:
    """Return the mode for a model and a call.

    Raises:
        UsageError: The model cannot do the mode; the hint says what to use.
    """
    if mode == "native" and not info.continues:
        raise UsageError(
            f"{info.name!r} cannot continue raw text, which native revision needs.",
            hint="Use --mode prompted, or a GGUF file of the model.",
        )
    if mode in ("prompted", "verified") and not info.chats:
        raise UsageError(f"{info.name!r} does not answer chat messages.", hint="Use --mode native.")
    if mode == "native" or (mode == "auto" and info.native):
        return "native"
    if mode == "verified" or (mode == "auto" and has_checks and not has_critic):
        return "verified"
    return "prompted"


def insist_on_plain(plan: Plan) -> None:
    """Check that no engine would drop a part of the prompt: an image, a name, a tool call.

    Raises:
        RecordError: It names the engine and the part.
    """
    messages = base_messages(plan.asked, plan.system)
    for info in filter(None, (plan.info, plan.critic)):
        if not info.any_message:
            plain(messages, info)
    more = next(filter(None, map(beyond_text, messages)), "")
    if plan.mode == "native" and more:
        raise RecordError(
            f"native revision continues a text, and a message has {more}.",
            hint="Use --mode prompted, with a server that takes it.",
        )


def sampling_of(options: Options) -> Sampling:
    """Return the sampling that options ask for."""
    return Sampling(
        temperature=options.get("temperature", Sampling.temperature),
        top_p=options.get("top_p", Sampling.top_p),
        max_tokens=options.get("max_tokens", Sampling.max_tokens),
        seed=options.get("seed"),
    )
