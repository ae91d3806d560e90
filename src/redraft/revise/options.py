"""The options of `revise`, and whether they fit together.

`look` checks whatever needs no model, before one is loaded. `choose_mode` checks what the model can do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel

from redraft.chain import Chain, whole
from redraft.config import load_config
from redraft.engines.base import Engine, EngineInfo, Sampling
from redraft.engines.messages import beyond_text, plain
from redraft.engines.price import Price, price_of
from redraft.errors import RecordError, UsageError
from redraft.options import About, Fields, checked, defaults_of
from redraft.revise.budget import Budget
from redraft.revise.driver import CancelToken
from redraft.revise.prompts import DEFAULT, base_messages, wording_of
from redraft.revise.state import Mode, Plan
from redraft.verify.base import Check

MAX_REVISIONS: int = defaults_of(Fields)["max_revisions"]


def is_text(value: Any) -> bool:
    """Return whether a value is a text that UTF-8 can encode: one without lone surrogates."""
    return isinstance(value, str) and value == whole(value)


def _if(holds: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Return a reader that takes values that pass a test, as they are."""

    def read(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    return read


def _made(kind: type, named: str) -> Callable[[Any], Any]:
    """Return a reader of an object of a class, or of its parts by name, as JSON has them."""

    def read(value: Any) -> Any:
        if value is None or isinstance(value, kind):
            return value
        try:
            return kind(**_if(lambda v: isinstance(v, Mapping))(value))
        except TypeError:
            parts = ", ".join(inspect.signature(kind).parameters)
            found = ", ".join(map(repr, value))
            raise UsageError(f"{named} has {found:.80}.", hint=f"Its parts are {parts}.") from None

    return read


def _is_engine(value: Any) -> bool:
    return is_text(value) or hasattr(value, "info")


def _is_output(value: Any) -> bool:
    return value is None or (inspect.isclass(value) and issubclass(value, BaseModel))


_REFERENCE = "a model reference (docs/engines.md) or an engine"
_A_PRICE = "a price: Price(prompt=0.5, completion=1.5), or '0.5,1.5'"
_A_LIST = "a list: ['words<=50']"


class Options(Fields, total=False):
    """Options of `revise`, `arevise` and `stream`. All can be left out. Those of `Fields` come first."""

    model: Annotated[
        str | Engine,
        About("a model reference (docs/engines.md), or an engine, which stays open", "default").of(
            _if(_is_engine), _REFERENCE
        ),
    ]
    checks: Annotated[
        Sequence[str | Check | Callable[..., Any]],
        About("checks in their short form, as values, or your own functions (docs/checks.md)").of(
            _if(lambda v: isinstance(v, Sequence) and not isinstance(v, str)), _A_LIST
        ),
    ]
    critic: Annotated[
        str | Engine | None,
        About("another model or engine that criticises").of(
            _if(lambda v: v is None or _is_engine(v)), _REFERENCE
        ),
    ]
    judge: Annotated[
        str | Engine | None,
        About("the model or engine of `judge:` checks").of(
            _if(lambda v: v is None or _is_engine(v)), _REFERENCE
        ),
    ]
    budget: Annotated[
        Budget,
        About("the most that the whole chain may use: tokens, seconds, usd").of(
            _made(Budget, "the budget"), "a budget: Budget(tokens=500)"
        ),
    ]
    price: Annotated[
        Price | None,
        About("the price of the writer's tokens; the engine's own if left out").of(price_of, _A_PRICE),
    ]
    output: Annotated[
        type[BaseModel] | None,
        About("a pydantic model that the answer must fit, as JSON; the object is `chain.value`").of(
            _if(_is_output), "a pydantic model, which may have a list as a field"
        ),
    ]
    id: Annotated[str, About("the chain's id", "")]
    cancel: Annotated[
        CancelToken,
        About("ends the chain early from outside").of(
            _if(lambda v: isinstance(v, CancelToken)), "a CancelToken"
        ),
    ]
    resume: Annotated[
        Chain | None,
        About("a chain of the same prompt that was cut: its complete steps are kept").of(
            _if(lambda v: v is None or isinstance(v, Chain)), "a chain that was cut: resume=error.chain"
        ),
    ]


OF_PYTHON = ("output", "cancel", "resume")
"""Options that JSON cannot hold."""


def look(options: Mapping[str, Any]) -> Options:
    """Return options with everything checked that needs no model.

    Raises:
        UsageError: An option is unknown or has a wrong value, or two do not go together.
    """
    found = checked(options, Options)
    if "prompts" in found:
        wording_of(found["prompts"])
    least = found.get("min_revisions", 0)
    most = found.get("max_revisions", max(MAX_REVISIONS, least))
    if least > most:
        raise UsageError(
            f"min_revisions is {least} and max_revisions is {most}.",
            hint="Both count revisions after the first answer: 0 <= min <= max.",
        )
    insist_on_prices(found)
    if found.get("mode") == "verified":
        _look_at_verified(found)
    return cast("Options", found)


def from_json(body: Mapping[str, Any]) -> Options:
    """Return the options that a JSON object holds, such as the body of a request.

    A wording is the name of a shipped one or two templates: a request must not open files. Models and checks
    are the caller's to allow: both may name files and programs.

    Raises:
        UsageError: As for `look`; an option that only Python has is unknown.
    """
    for name in OF_PYTHON:
        if name in body:
            raise UsageError(
                f"there is no option {name!r} in JSON.", hint="It is for Python alone: leave it out."
            )
    wording_of(checked(body, Options).get("prompts", DEFAULT), files=False)
    return look(body)


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
        if isinstance(model, str):
            name, price = model, load_config().prices.get(model)
        else:
            name, price = model.info.name, model.info.price
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
    names = ("temperature", "top_p", "max_tokens", "seed")
    return Sampling(**{name: value for name, value in options.items() if name in names})  # type: ignore[arg-type]
