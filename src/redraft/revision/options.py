"""Define and check the options of `revise`.

`check_options` checks everything that can be checked before a model is loaded. `choose_mode` checks that the
model supports the mode.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PlainValidator

from redraft.chain import Chain, Place, Usage, whole
from redraft.checks.base import Check
from redraft.checks.kinds import may_ask_judge
from redraft.checks.output import OutputCheck, from_type
from redraft.checks.tools import fault_of_tools
from redraft.engines.base import Engine, EngineInfo, Price, Sampling, is_number, price_of
from redraft.engines.load import references_of
from redraft.engines.retry import Patience
from redraft.errors import RecordError, UsageError, shown
from redraft.jobs.counting import counted
from redraft.options import A_HOOK, A_REFERENCE, PlainOptions, WaitOptions, is_async, option
from redraft.revision.cancel import CancelToken
from redraft.revision.prompts import wording_of

Mode = Literal["native", "prompted", "verified", "best-of", "repair"]


@dataclass(frozen=True)
class Budget:
    """The most that one chain may use. None means no limit.

    Tokens and money are summed over all attempts and models. At the limit, the chain ends with its best
    answer so far, and no error is raised.

    Attributes:
        tokens: Generated tokens. Only a judge's call may exceed the limit.
        seconds: Wall-clock time. Work in the engine is cancelled at the limit.
        usd: Money. Every model that is asked needs a price. No call starts once the money is spent, and a
            call generates only tokens that the remaining money pays for. So only the cost of a prompt or
            of a judge's call may exceed the limit.
    """

    tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "seconds", "usd"):
            value = getattr(self, name)
            whole = name == "tokens"
            if value is not None and not (is_number(value, whole=whole) and value > 0):
                raise UsageError(
                    f"budget.{name} is {value!r:.60}, which cannot be a limit.",
                    hint=f"Give a {'whole ' * whole}number above zero, or leave it out.",
                )

    def tokens_left(self, usage: Usage, price: Price | None) -> int | None:
        """Return how many more tokens a model with this price may generate, or None for no limit."""
        left = [] if self.tokens is None else [self.tokens - usage.completion_tokens]
        if self.usd is not None and price is not None and price.completion > 0:
            left.append(int(round(self.usd - (usage.cost_usd or 0), 9) * 1e6 / price.completion))
        return max(min(left), 0) if left else None

    def spent(self, usage: Usage, price: Price | None, seconds: float) -> bool:
        """Return whether a limit is reached. `price` is the price of the model to call next."""
        out_of_money = self.usd is not None and round(usage.cost_usd or 0, 9) >= self.usd
        out_of_time = self.seconds is not None and seconds >= self.seconds
        return out_of_money or out_of_time or self.tokens_left(usage, price) == 0


RECORDED = ("temperature", "top_p", "max_tokens", "seed")
"""The sampling parameters that a chain's record contains. Other parameters may contain secrets."""


def is_text(value: Any) -> bool:
    """Return whether a value is a text without lone surrogates."""
    return isinstance(value, str) and value == whole(value)


def is_full(value: Any) -> bool:
    """Return whether a value is a non-empty text that UTF-8 can encode."""
    return is_text(value) and value != ""


FULL = is_full, "a non-empty text"


def _if(holds: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    return read


_several = _if(lambda value: isinstance(value, Sequence) and not isinstance(value, str))


def _or_none(holds: Callable[[Any], bool]) -> Callable[[Any], Any]:
    return _if(lambda value: value is None or holds(value))


def _or_nothing(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: () if value is None else read(value)


def _items(holds: Callable[[Any], bool]) -> PlainValidator:
    return PlainValidator(_or_nothing(_if(lambda it: isinstance(it, list | tuple) and all(map(holds, it)))))


def budget_of(value: Any) -> Budget:
    """Return a budget unchanged, or convert a mapping to a budget. None becomes a budget without limits."""
    if value is None or isinstance(value, Budget):
        return value or Budget()
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004  (readers raise ValueError)
    try:
        return Budget(**value)
    except TypeError:
        parts = inspect.signature(Budget).parameters
        found = ", ".join(repr(name) for name in value if name not in parts)
        raise UsageError(f"a budget cannot limit {found:.80}.", hint=f"Limits: {', '.join(parts)}") from None


def _is_engine(value: Any) -> bool:
    return is_text(value) or hasattr(value, "info")


def _is_json_object(value: Any) -> bool:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _of_chats(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert a tool of the Responses API or of Anthropic to the format of chat completions."""
    if tool.get("type", "function") != "function" or "name" not in tool:
        return tool
    named = {"parameters" if key == "input_schema" else key: part for key, part in tool.items()}
    return {"type": named.pop("type", "function"), "function": named}


_tools = AfterValidator(lambda tools: tuple(map(_of_chats, tools)))

_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""Matches the name of a header (RFC 9110, 5.6.2)."""

_OF_CONNECTION = re.compile(
    "connection|content-length|expect|host|keep-alive|te|trailer|transfer-encoding|upgrade", re.IGNORECASE
)
"""Matches headers that control the connection. A wrong value breaks the request."""


def _headers(value: Any) -> Mapping[str, str] | None:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError
    for name, text in (value or {}).items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            found = f"{shown(name)}, which is not a header name"
            hint = "Use letters, digits and -, as in 'X-Team'."
        elif name.lower() == "authorization":
            found, hint = f"the header {name!r}", "Put the key into REDRAFT_KEY_HOST: docs/engines.md#keys."
        elif _OF_CONNECTION.fullmatch(name):
            found, hint = f"the header {name!r}", "redraft sets it for each request: leave it out."
        elif not (isinstance(text, str) and text.isascii() and text.isprintable() and text == text.strip()):
            found = f"a value for {name!r} that cannot be sent"
            hint = "Use printable ASCII on one line, without spaces around it."
        else:
            continue
        raise UsageError(f"extra_headers has {found}.", hint=hint)
    return value


_REFERENCE = f"{A_REFERENCE} or an engine"
_PLACES = "pairs of a place and a wish: [('40 dollars', 'in euros')], or one wish: ['make it shorter']"


def is_place(value: Any) -> bool:
    """Return whether a value is a wish, or a pair: a place (text, positions or JSON pointer) and a wish."""
    pair: Any = value if isinstance(value, list | tuple) and len(value) == 2 else ("-", value)
    if isinstance(pair[0], list | tuple):
        return len(pair[0]) == 2 and all(type(each) is int for each in pair[0]) and is_place(pair[1])
    return all(is_text(each) and each.strip() for each in pair)


class RevisionOptions(WaitOptions, PlainOptions):
    """The options of `revise`, `arevise` and `stream`. Use `check_options` to create valid options."""

    model: Annotated[str | Engine, PlainValidator(_if(_is_engine))] = option(
        "a model reference (docs/engines.md), or an engine, which stays open",
        default="default",
        what=_REFERENCE,
    )
    checks: Annotated[
        Sequence[str | Check | Mapping[str, Any] | Callable[..., Any]],
        PlainValidator(_or_nothing(_several)),
    ] = option(
        "checks: short forms, check objects, JSON Schemas, or your own functions (docs/checks.md)",
        default=(),
        what='a list: ["words<=50"]',
    )
    critic: Annotated[str | Engine | None, PlainValidator(_or_none(_is_engine))] = option(
        "let another model or engine write the criticisms", what=_REFERENCE
    )
    judge: Annotated[str | Engine | None, PlainValidator(_or_none(_is_engine))] = option(
        "the model or engine that runs `judge:` checks or, without checks, chooses a draft", what=_REFERENCE
    )
    budget: Annotated[
        Budget, PlainValidator(budget_of, json_schema_input_type=Budget | Mapping[str, float | None] | None)
    ] = option(
        "the most that the whole chain may use: tokens, seconds, usd",
        default=Budget(),
        what='a budget in tokens, seconds or usd: {"tokens": 500}',
    )
    price: Annotated[
        Price | None,
        PlainValidator(price_of, json_schema_input_type=Price | Mapping[str, float | None] | str | None),
    ] = option(
        "the price of the writer's tokens; by default, the engine's price",
        what="a price: Price(prompt=0.5, completion=1.5), a dictionary with these names, or '0.5,1.5'",
    )
    gold: str = option(
        "a right answer for the critic, whose template needs `{gold}`; the writer never sees it", default=""
    )
    given: str = option("a first answer to criticise and revise, in place of the model's", default="")
    places: Annotated[Sequence[str | tuple[Place, str]] | None, _items(is_place)] = option(
        "changes that a person wants in the given or last answer; an empty list rewrites only parts that fail"
        " checks",
        what=f"a list of {_PLACES}",
        item=(is_place, _PLACES),
    )
    prefer_last: bool = option("of equally good answers, choose the last and not the first", default=False)
    id: str = option("the id to give the chain", default="")
    cancel: Annotated[CancelToken | None, PlainValidator(_or_none(lambda v: isinstance(v, CancelToken)))] = (
        option("a token that can end the chain early, from outside", what="a CancelToken")
    )
    stop: Annotated[Sequence[str], _items(is_full)] = option(
        "texts that end an answer and are not part of it",
        default=(),
        what='a list of texts: ["END"]',
        item=FULL,
    )
    tools: Annotated[Sequence[Mapping[str, Any]], _items(_is_json_object), _tools] = option(
        "tools that an answer may call, for servers and some GGUF models; the calls are in `step.tool_calls`",
        default=(),
        what="a list of tools: [{'type': 'function', 'function': {'name': …}}]",
        item=(_is_json_object, "a tool: {'type': 'function', 'function': {'name': …}}"),
    )
    extra_body: Annotated[Mapping[str, Any] | None, PlainValidator(_or_none(_is_json_object))] = option(
        "more fields for each request to the model's server",
        what="a dictionary that JSON can hold: {'top_k': 20}",
    )
    extra_headers: Annotated[Mapping[str, str] | None, PlainValidator(_headers)] = option(
        "more headers for each request to the model's server",
        what="a dictionary of ASCII texts: {'X-Team': 'birds'}; an API key belongs in the environment "
        "(docs/engines.md)",
    )
    cache: Annotated[
        str | Path | None, PlainValidator(_or_none(lambda v: v and (is_text(v) or isinstance(v, Path))))
    ] = option(
        "a file that stores replies, so that no request is sent twice (docs/engines.md)",
        what="a path: 'replies.db'",
    )
    on_event: Annotated[
        Callable[[Any], object] | None, PlainValidator(_or_none(lambda v: callable(v) and not is_async(v)))
    ] = option("a function to call with every event; if it crashes, the chain ends", what=A_HOOK)
    trace: Annotated[
        Any, PlainValidator(_or_none(lambda v: isinstance(v, bool) or hasattr(v, "get_tracer")))
    ] = option(
        "report the chain to OpenTelemetry: True, or a provider of its SDK (docs/python.md)",
        default=False,
        what="True, False or a TracerProvider",
    )
    resume: Annotated[Chain | None, PlainValidator(_or_none(lambda v: isinstance(v, Chain)))] = option(
        "continue a cut chain of the same prompt; the chain's complete steps are kept",
        what="a chain that was cut: resume=error.chain",
    )
    output: Annotated[
        OutputCheck | None,
        PlainValidator(
            lambda v: v if v is None or isinstance(v, OutputCheck) else from_type(v),
            json_schema_input_type=Any,
        ),
    ] = option(
        "the type of the answer, which is JSON: a pydantic model, `list[Model]`, a union or a "
        "TypedDict; the value is `chain.value`",
        what="a type that pydantic reads: Person, list[Person]",
    )
    output_context: Any = option(
        "the `info.context` for validators of `output`, such as the text to quote from", what="any value"
    )

    @property
    def most_drafts(self) -> int:
        """The largest number of drafts."""
        return self.drafts or (DRAFTS if self.mode == "best-of" else 1)

    @property
    def most_revisions(self) -> int:
        """The largest number of revisions. Without `max_revisions`, this is at least `min_revisions`."""
        given = "max_revisions" in self.model_fields_set
        return self.max_revisions if given else max(self.max_revisions, self.min_revisions)

    @property
    def checked(self) -> bool:
        """Whether there are checks or an output type."""
        return bool(self.checks) or self.output is not None

    @property
    def asks_judge(self) -> bool:
        """Whether a judge may have to choose a draft or run a check. Any check object may need a judge."""
        if not self.checked:
            return self.most_drafts > 1
        return any(not isinstance(check, str) or may_ask_judge(check) for check in self.checks)

    @property
    def unpriced(self) -> tuple[str, str] | None:
        """If the budget limits money, the role and name of the first model without a price, otherwise None.

        References to servers are skipped: their price is not known yet.
        """
        if self.budget.usd is None:
            return None
        for role in ("model", "critic", "judge"):
            model = getattr(self, role)
            given = role == "model" and self.price is not None
            if model is None or given or (isinstance(model, str) and "://" in "".join(references_of(model))):
                continue
            if isinstance(model, str):
                return role, model
            if model.info.price is None:
                return role, model.info.name
        return None

    @property
    def sampling(self) -> Sampling:
        """The sampling parameters."""
        names = (*RECORDED, "max_thoughts", "extra_body", "extra_headers")
        given: Any = {name: value for name, value in self.explicit.items() if name in names}
        return Sampling(**given, unset=frozenset({"temperature", "top_p", "max_tokens"} - given.keys()))


def patience_of(options: WaitOptions, *, usual: float = 0.0, **known: Any) -> Patience:
    """Return the waiting times for servers. By default, wait `usual` seconds if a server is down."""
    if (limit := options.timeout) is not None:
        known |= {"first_token": limit, "between_tokens": limit, "connect": min(limit, Patience.connect)}
    outage = usual
    if options.patience is not None:
        outage = known["longest_asked"] = options.patience
    return Patience(tries=1 + options.retries, outage=outage, **known)


BY_CHECKS: tuple[Mode, ...] = ("verified", "repair")
"""The modes in which only checks find faults."""

DRAFTS = 4  # default number of samples in mode `best-of`


def check_options(options: Mapping[str, Any]) -> RevisionOptions:
    """Read options, and check everything that needs no model."""
    found = RevisionOptions.read(options)
    if found.output_context is not None:
        if found.output is None:
            raise UsageError("output_context is given without output.", hint="Give both, or neither.")
        found = found.model_copy(update={"output": replace(found.output, context=found.output_context)})
    check_together(found)
    return found


def check_together(found: RevisionOptions) -> None:
    """Raise `UsageError` if options do not fit together, as far as redraft can tell without the model."""
    least, most = found.min_revisions, found.most_revisions
    if least > most:
        message = f"the minimum of {counted(least, 'revision')} is above the maximum of {most}."
        raise UsageError(message, hint=f"Set max_revisions to {least} or more.")
    check_engines(found)
    for faults in (_faults_of_tools, _faults_of_drafts, _faults_of_wording, _faults_of_mode):
        for fault, hint in faults(found):
            raise UsageError(fault, hint=hint)
    check_checks([check for check in found.checks if isinstance(check, Check)], found)
    for role in ("model", "critic", "judge"):
        if found.cache and not isinstance(getattr(found, role), str | None):
            raise UsageError(
                f"the {role} is given as an engine, whose weights the cache cannot identify.",
                hint=f"Give its reference: {role}='http://host/v1#model'. Or leave out the cache.",
            )
    if found.judge is not None and not found.asks_judge:
        hint = "Add a check: 'judge:Is it kind?'. Or set drafts and no checks: the judge then picks a draft."
        raise UsageError("a judge was given, but nothing asks it.", hint=hint)


def check_checks(checks: Sequence[Check], options: RevisionOptions) -> None:
    """Raise `RecordError` if no answer can pass all checks."""
    if not checks:
        return
    from redraft.checks.exclusion import fault_of

    if fault := fault_of(checks, None if options.given else options.max_tokens):
        raise RecordError(fault[0], hint=fault[1])


def check_engines(options: RevisionOptions) -> None:
    """Raise `UsageError` if an engine lacks a price for the budget, or cannot cut thoughts short."""
    writer = options.model
    if options.max_thoughts is not None and not (isinstance(writer, str) or writer.info.thinks):
        raise UsageError(
            f"--max-thoughts (max_thoughts) was given, but redraft cannot limit the thoughts of "
            f"{writer.info.name}.",
            hint="Leave it out. Many servers accept reasoning_effort, in a request or in extra_body.",
        )
    if (found := options.unpriced) is None:
        return
    role, name = found
    give = "--price PROMPT,COMPLETION, price=Price(prompt, completion), or " if role == "model" else ""
    raise UsageError(
        f"a limit of {options.budget.usd} USD needs the price of the {role} {name!r}.",
        hint=f'Give USD per million tokens: {give}[prices."host#model"] in the config file.',
    )


def _faults_of_tools(options: RevisionOptions) -> Iterator[tuple[str, str]]:
    if fault := fault_of_tools({f"tools[{number}]": tool for number, tool in enumerate(options.tools)}):
        found, _, todo = fault[0].partition(". Send ")
        yield f"{found}.", f"Send {todo}"


def _faults_of_drafts(options: RevisionOptions) -> Iterator[tuple[str, str]]:
    if (drafts := options.most_drafts) == 1:
        return
    if options.mode == "native":
        yield "mode 'native' writes one draft, but several were asked for.", "Use mode 'verified'."
    if not (options.checked or options.judge):
        yield f"nothing can choose among {drafts} drafts.", "Add a check, such as words<=50, or a judge."
    if options.given:
        hint = "Leave out the answer or the drafts."
        yield f"the first answer is given, but {drafts} drafts were asked for.", hint
    if options.tools:
        hint = "Drafts are compared as texts. Leave out the tools or the drafts."
        yield f"tools were given, but {drafts} drafts were asked for.", hint


def _faults_of_wording(options: RevisionOptions) -> Iterator[tuple[str, str]]:
    wording = wording_of(options.prompts)
    if options.gold and options.mode not in ("auto", "prompted"):
        yield f"gold was given, but mode {options.mode!r} has no critic to see it.", "Use mode 'prompted'."
    if options.gold and not wording.shows_gold:
        hint = "Use prompts='teacher', or write {gold} in the template 'criticise' (docs/recipes.md)."
        yield f"gold was given, but the prompts {wording.name!r} do not show it to the critic.", hint
    if options.accept_score is not None and not wording.scores:
        hint = "Use prompts='teacher', or write {verdict} in the template 'criticise' (docs/recipes.md)."
        yield f"accept_score was given, but the prompts {wording.name!r} ask for no score.", hint


def _faults_of_mode(options: RevisionOptions) -> Iterator[tuple[str, str]]:
    drafts, critic = options.most_drafts, options.critic is not None
    if options.places and not (options.given or options.resume):
        yield "places were given without the answer that contains them.", "Give the answer too: given='…'"
    if options.places and options.mode == "native":
        yield "mode 'native' writes the whole answer, but places were given.", "Use mode 'auto'."
    if options.mode == "native" and (critic or options.checked):
        own = "a check" if options.checks else "a type of output"
        given, other = ("a critic", "prompted") if critic else (own, "verified")
        yield f"in mode 'native' the model judges itself, but {given} was given.", f"Use mode {other!r}."
    if options.mode == "native" and options.given:
        yield "mode 'native' writes the first answer itself, but one was given.", "Use mode 'prompted'."
    if options.mode in BY_CHECKS and not options.checked:
        hint = "Add one, such as words<=50. docs/checks.md lists them."
        yield f"mode {options.mode!r} needs checks, but none were given.", hint
    if options.mode in BY_CHECKS and critic:
        hint = "Use mode 'prompted'. There, the critic reads the answers that fail a check."
        yield f"mode {options.mode!r} has no critic, but one was given.", hint
    if options.mode == "best-of" and options.min_revisions:
        hint = f"Use mode 'verified' and drafts={drafts}. The best draft is then revised."
        yield f"mode 'best-of' revises nothing, but min_revisions is {options.min_revisions}.", hint
    if options.mode == "best-of" and critic:
        hint = f"Use mode 'prompted' and drafts={drafts}. The critic then judges the best draft."
        yield "mode 'best-of' has no critic, but one was given.", hint


def choose_mode(
    mode: Mode | Literal["auto"],
    info: EngineInfo,
    *,
    has_checks: bool,
    has_critic: bool,
    drafts: int = 1,
    by_chat: bool = False,
) -> Mode:
    """Choose the mode for a call. Raise `UsageError` if the model does not support `mode`.

    `by_chat`: whether an option, such as a gold answer, rules out native revision.
    """
    if mode == "native" and not info.continues:
        message = f"{info.name!r} cannot continue raw text, which native revision needs."
        raise UsageError(message, hint="Use mode 'prompted', or a GGUF file of the model.")
    if mode in ("prompted", "best-of", *BY_CHECKS) and not info.chats:
        raise UsageError(f"{info.name!r} does not answer chat messages.", hint="Use mode 'native'.")
    own = info.native and drafts == 1 and not (by_chat or has_checks or has_critic)
    if mode == "native" or (mode == "auto" and own):
        return "native"
    if mode != "auto":
        return mode
    return "prompted" if has_critic or not has_checks else "verified"
