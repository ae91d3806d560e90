"""From the body of a request to the options of a chain.

A field that is an option of redraft is checked by the options that flags and Python share, and by nothing
else. Here stand the names that OpenAI gives to them, what a stranger may not ask for, and the rest of a
request: how many answers, streamed or not. Fields that would be ignored are refused, unless they ask for what
happens anyway.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import isfinite
from typing import Any, cast

from redraft.chain import Chain, Prompt
from redraft.engines.base import Engine
from redraft.errors import UsageError, fault_of, shown
from redraft.options import MAX_SEED, TEXT, check_values, wrong_item
from redraft.revision.api import prompt_of
from redraft.revision.budget import Budget
from redraft.revision.options import FULL, Options, budget_of, check_options, drafts_of, from_json, unpriced
from redraft.serve.errors import invalid, told
from redraft.serve.limits import Limits
from redraft.serve.logprobs import MOST_LIKELY, Noting, noting
from redraft.serve.models import Model, Models
from redraft.serve.passed import OF_CHAT, with_passed
from redraft.verify.base import Check, schema_of
from redraft.verify.parse import parse_check
from redraft.verify.schema import validator_of
from redraft.verify.structure import Json, JsonSchema, read_json

OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "seed": "seed",
    "stop": "stop",
    "tools": "tools",
}
"""Fields that are options, with the option's name."""

REVISION = {
    "min": "min_revisions",
    "max": "max_revisions",
    "checks": "checks",
    "budget": "budget",
}
"""The same for the parts of `revision`."""

OWN = (
    *("model", "messages", "stream", "stream_options", "n", "response_format", "revision", "redraft"),
    *("logprobs", "top_logprobs", "tool_choice", "parallel_tool_calls"),
)
"""Fields that are read here."""

WITHOUT_EFFECT = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
"""Fields that say nothing about the answer."""

UNSUPPORTED: Mapping[str, Sequence[Any]] = {
    "modalities": [["text"]],
    "functions": [[]],
    "function_call": ["none"],
    "audio": [],
    "prediction": [],
    "verbosity": [],
    "web_search_options": [],
}
"""Fields that cannot be met, with the values that ask for what happens anyway."""

FIELDS = (*OWN, *OPTIONS, *OF_CHAT, *WITHOUT_EFFECT, *UNSUPPORTED)

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""A lone surrogate in JSON. It may also be half of a pair, which is a character."""

_SEEDS_APART = 1000
"""Between the seeds of the answers to one request. Each call of a chain takes the next seed."""


@dataclass(frozen=True)
class Asked:
    """A request that was checked.

    Attributes:
        model: The name that was asked.
        prompt: The conversation.
        options: Those of its chains, the model's own included.
        answers: How many chains.
        stream: Send each piece as it comes.
        with_usage: Send the usage at the end of the stream.
        with_chain: Send the whole chain.
        noted: Has the log-probabilities of each answer; None if they were not asked for.
    """

    model: str
    prompt: Prompt
    options: Options
    answers: int = 1
    stream: bool = False
    with_usage: bool = False
    with_chain: bool = False
    noted: Noting | None = None

    @property
    def sure(self) -> bool:
        """Whether the first answer is certain to be the final one."""
        return self.options.get("max_revisions") == 0 and drafts_of(self.options) == 1

    def record_of(self, chain: Chain) -> dict[str, Any]:
        """Return a chain as JSON. Its value is that of an answer which had to be JSON."""
        if chain.passed and any(map(schema_of, cast("Any", self.options.get("checks", ())))):
            chain = chain.with_value(read_json(chain.answer)[0])
        found: dict[str, Any] = json.loads(chain.to_json())
        return found


def options_at(options: Options, index: int) -> Options:
    """Return the options of an answer. Each has its own seeds."""
    seed = options.get("seed")
    if seed is None or not index:
        return options
    return {**options, "seed": (seed + index * _SEEDS_APART) % (MAX_SEED + 1)}


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a request, without fields that are null.

    Raises:
        Refusal: It is not UTF-8, not JSON, not an object, or has half of a character or a name twice: a proxy
            could read the other one.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_once)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise invalid(f"the body is not UTF-8 at byte {error.start + 1}.", code="invalid_json") from None
    except UnicodeEncodeError:
        raise invalid("the body has a lone surrogate, half of a character.", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {fault_of(error)}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(f"the body is {shown(value)}, and should be a JSON object.", code="invalid_json")
    return {name: part for name, part in value.items() if part is not None}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r:.80} is there twice in one object")
    return found


def _finite(number: str) -> float:
    if not isfinite(value := float(number)):
        raise ValueError(f"{number:.40} is no finite number")
    return value


def chat_request(body: Mapping[str, Any], models: Models, limits: Limits) -> Asked:
    """Check the body of a chat request. It may take seconds if it has a large schema: not for the event loop.

    Raises:
        Refusal: A field is wrong; `param` names it. Or there is no such model.
    """
    check_names(body, FIELDS, "a chat request")
    check_unsupported(body, UNSUPPORTED)
    model = models.named(typed(body, "model", str, "the name of a model"))
    prompt = prompt_in(typed(body, "messages", list, _MESSAGES), "messages")
    options, noted = chain_options(body, model, limits, _format(body, limits)) | of_tools(body, model), None
    options = with_passed(options, body, model, OF_CHAT)
    most = alternatives(body, "top_logprobs")
    if flag(body, "logprobs"):
        options, noted = noting(options, model.name, most)
    elif most:
        raise invalid("top_logprobs needs logprobs to be true.", "top_logprobs")
    asked = Asked(
        model.name,
        prompt,
        options,
        answers=answers_in(body, limits),
        stream=flag(body, "stream"),
        with_usage=usage_wanted(body),
        with_chain=flag(body, "redraft"),
        noted=noted,
    )
    if asked.with_chain and asked.answers > 1:
        raise invalid("redraft gives the chain of one answer, and n asks for more.", "redraft")
    return asked


def check_names(part: Mapping[str, Any], known: Sequence[str], what: str, before: str = "") -> None:
    """Check that all fields are known.

    Args:
        part: The body, or an object in it.
        known: The fields that it may have.
        what: Its name for messages.
        before: What stands before the field in `param`.
    """
    for name in part:
        if name not in known:
            near = get_close_matches(name[:80], known, n=1)  # a long text takes 40 times its memory
            hint = f" Did you mean {near[0]!r}?" if near else f" It may have: {', '.join(known)}."
            message = f"there is no field {name!r:.80} in {what}.{hint}"
            raise invalid(message, f"{before}{name}"[:80], code="unknown_field")


def check_unsupported(body: Mapping[str, Any], unsupported: Mapping[str, Sequence[Any]]) -> None:
    """Check that fields which cannot be met ask for what happens anyway."""
    for name, neutral in unsupported.items():
        if name in body and not any(_same(body[name], each) for each in neutral):
            usual = f" It may be {' or '.join(map(json.dumps, neutral))}." if neutral else ""
            message = f"{name} is not supported. Leave it out.{usual}"
            raise invalid(message, name, code="unsupported")


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal in JSON, where true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


_NOTHING: Any = object()


def typed(body: Mapping[str, Any], name: str, kind: type, what: str, default: Any = _NOTHING) -> Any:
    """Return a field of a type. `what` describes it; without a default it is required."""
    if name not in body and default is not _NOTHING:
        return default
    value = body.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found = shown(value) if name in body else "missing"
        raise invalid(f"{name} is {found}. It should be {what}.", name)
    return value


def texts_in(body: Mapping[str, Any], name: str) -> list[str]:
    """Return a field that is a text or a list of texts, none of them empty."""
    given: Any = body.get(name)
    if isinstance(given, list) and (wrong := wrong_item(name, given, FULL)):
        raise invalid(told(wrong), name)
    if not given or not isinstance(given, str | list):
        found = shown(given) if name in body else "missing"
        raise invalid(f"{name} is {found}. It should be a text, or a list of texts.", name)
    return given if isinstance(given, list) else [given]


def flag(body: Mapping[str, Any], name: str, before: str = "") -> bool:
    """Return a field that is true or false; false if it is not there."""
    value = body.get(name)
    return value is not None and bool(typed({before + name: value}, before + name, bool, "true or false"))


def usage_wanted(body: Mapping[str, Any]) -> bool:
    """Return whether `stream_options` asks for the usage."""
    given = typed(body, "stream_options", dict, "an object", {})
    check_names(given, ("include_usage", "include_obfuscation"), "stream_options", "stream_options.")
    return flag(given, "include_usage", "stream_options.")


def answers_in(body: Mapping[str, Any], limits: Limits) -> int:
    """Return how many answers `n` asks for."""
    count = typed(body, "n", int, "a whole number", 1)
    if not 1 <= count <= limits.answers:
        raise invalid(f"n is {shown(count)}. It should be from 1 to {limits.answers}.", "n")
    return int(count)


def alternatives(body: Mapping[str, Any], name: str) -> int:
    """Return how many of the likeliest tokens a field asks for at each place; 0 if it is not there."""
    count = typed(body, name, int, f"a number from 0 to {MOST_LIKELY}", 0)
    if not 0 <= count <= MOST_LIKELY:
        raise invalid(f"{name} is {shown(count)}. It should be from 0 to {MOST_LIKELY}.", name)
    return int(count)


_MESSAGES = "a list of messages: [{'role': 'user', 'content': '…'}]"


def prompt_in(messages: list[Any], param: str) -> Prompt:
    """Return messages as a prompt. Errors name the field `param`."""
    try:
        return prompt_of(messages)
    except UsageError as error:
        raise invalid(told(error), param) from None


def chain_options(
    body: Mapping[str, Any],
    model: Model,
    limits: Limits,
    wanted: Sequence[Check],
    names: Mapping[str, str] = OPTIONS,
) -> Options:
    """Return the options of a chain: the model's own, and over them those of the request.

    Args:
        body: The request, with `revision`.
        model: The model that is asked.
        limits: What a request may ask for.
        wanted: Checks that other fields ask for.
        names: The fields that are options, with the option's name.

    Raises:
        Refusal: A field is wrong; `param` names it.
    """
    revision = typed(body, "revision", dict, "an object", {})
    check_names(revision, tuple(REVISION), "revision", "revision.")
    revision = {name: value for name, value in revision.items() if value is not None}
    own: dict[str, Any] = dict(model.options)
    if "revision" in body and own.get("max_revisions") == 0 and "max" not in revision:
        own = {name: value for name, value in own.items() if name not in ("max_revisions", "min_revisions")}
    _check_limits(body, names, limits)
    _check_limits(revision, REVISION, limits, "revision.")
    given = {**_given(body, names, ""), **_given(revision, REVISION, "revision.")}
    found: dict[str, Any] = {**own, **_checked(given)}
    if checks := [*_checks(given.get("checks", ()), limits), *wanted]:
        found["checks"] = [*own.get("checks", ()), *checks]
    found["budget"] = _budget(own.get("budget"), given.get("budget"), limits.seconds)
    if lacks := unpriced(found):
        of = "" if lacks[0] == "model" else f"the {lacks[0]} of "
        message = (
            f"revision.budget.usd needs a price, and {of}the model {model.name!r} has none on this server."
        )
        raise invalid(f"{message} Use revision.budget.tokens.", "revision.budget.usd")
    try:
        return check_options(found)
    except UsageError as error:
        raise invalid(told(error), "revision") from None


def _given(part: Mapping[str, Any], names: Mapping[str, str], before: str) -> dict[str, Any]:
    """Return the options in a part of a request, each checked by itself, so that errors name the field."""
    found: dict[str, Any] = {}
    for name, option in names.items():
        if name not in part:
            continue
        single = option == "stop" and isinstance(part[name], str)
        value = [part[name]] if single else part[name]
        try:
            check_values({option: value}, Options)
        except UsageError as error:
            message = told(error).replace(f"{option}: item 1" if single else option, f"{before}{name}", 1)
            raise invalid(message, f"{before}{name}") from None
        found[option] = value
    return found


def _checked(given: Mapping[str, Any]) -> Options:
    """Check the options of a request together. Few checks are allowed, and a budget needs the model."""
    try:
        return from_json({name: value for name, value in given.items() if name not in ("checks", "budget")})
    except UsageError as error:
        raise invalid(told(error), "revision") from None


def _check_limits(
    part: Mapping[str, Any], names: Mapping[str, str], limits: Limits, before: str = ""
) -> None:
    """Check numbers and lengths of lists. What is of another type is left to the options."""
    most = {
        "max_tokens": limits.tokens,
        "max_revisions": limits.revisions,
        "min_revisions": limits.revisions,
        "stop": limits.stops,
        "checks": limits.checks,
    }
    for name, option in names.items():
        value = part.get(name)
        size = len(value) if isinstance(value, list) else value
        if option in most and isinstance(size, int) and size > most[option]:
            found = f"has {size} texts" if isinstance(value, list) else f"is {shown(value)}"
            message = f"{before}{name} {found}, and this server allows {most[option]:,} at most."
            raise invalid(message, f"{before}{name}")


def _checks(texts: Sequence[Any], limits: Limits) -> list[Check]:
    """Read the checks of a request. Those that could run or read something are not known here."""
    if wrong := wrong_item("revision.checks", texts, TEXT):
        raise invalid(told(wrong), "revision.checks")
    if (size := max(map(len, texts), default=0)) > limits.check:
        message = f"a check has {size:,} characters, and this server allows {limits.check:,} at most."
        raise invalid(message, "revision.checks")
    try:
        return [parse_check(text, writer="anyone") for text in texts]
    except UsageError as error:
        raise invalid(told(error), "revision.checks") from None


def of_tools(body: Mapping[str, Any], model: Model) -> Options:
    """Return the fields beside `tools`, which go to the model's server as they are, as options."""
    found = {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body}
    choice = found.get("tool_choice", "auto")
    named = isinstance(choice, dict) and isinstance(choice.get("type"), str)
    if not (named or choice in ("none", "auto", "required")):
        message = f"tool_choice is {shown(choice)}. It should be none, auto, required or a tool's name."
        raise invalid(message, "tool_choice")
    flag(body, "parallel_tool_calls")
    if body.get("tools"):
        if not cast("Engine", model.options["model"]).info.tools:
            message = f"the model {model.name!r} takes no tools. Leave them out."
            raise invalid(message, "tools", code="unsupported")
        return {"extra_body": {**(model.options.get("extra_body") or {}), **found}} if found else {}
    if choice not in ("none", "auto"):
        raise invalid("tool_choice needs tools, and the request has none.", "tool_choice")
    return {}


def _format(body: Mapping[str, Any], limits: Limits) -> list[Check]:
    """Return `response_format` as checks."""
    wanted = typed(body, "response_format", dict, "an object", {"type": "text"})
    named = wanted.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    place = "response_format.json_schema.schema"
    return format_checks(wanted.get("type"), schema, limits, "response_format", place)


def format_checks(kind: Any, schema: Any, limits: Limits, param: str, place: str) -> list[Check]:
    """Return the format that an answer must have as checks.

    Args:
        kind: text, json_object or json_schema.
        schema: The schema, for json_schema.
        limits: What a request may ask for.
        param: The field that says it.
        place: The field with the schema.

    Raises:
        Refusal: It is another kind, or no schema.
    """
    if kind == "text":
        return []
    if kind == "json_object":
        return [Json()]
    if kind != "json_schema":
        found = f"{param}.type is {shown(kind)}"
        raise invalid(f"{found}. It should be text, json_object or json_schema.", f"{param}.type")
    if not isinstance(schema, dict):
        raise invalid(f"{param} has no schema.", place)
    if (size := len(json.dumps(schema, ensure_ascii=False))) > limits.schema:
        found = f"the schema has {size:,} characters"
        raise invalid(f"{found}, and this server allows {limits.schema:,} at most.", place)
    try:
        return [JsonSchema(param, validator_of(schema, param))]
    except UsageError as error:
        raise invalid(error.message, place) from None


def _budget(own: Any, asked: Any, seconds: float) -> Budget:
    """Return the budget of a chain: what the request asks for, within that of the model and the server."""
    budget = Budget(seconds=seconds)
    for other in filter(None, (budget_of(own), budget_of(asked))):
        parts = {name: _least(getattr(budget, name), getattr(other, name)) for name in vars(budget)}
        budget = replace(budget, **cast("Any", parts))
    return budget


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)
