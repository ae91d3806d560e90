"""Judge tool calls by the tool's name and its JSON Schema, before the client runs the calls.

If a call does not fit, the model gets the error that the tool would raise, and calls again.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, time
from difflib import get_close_matches
from functools import lru_cache
from secrets import token_hex
from typing import Any

from redraft.chain import CheckResult, Feedback, Prompt, Step
from redraft.checks.base import Check, Outcome, failed, passed
from redraft.checks.json_reading import once
from redraft.checks.schema import OPEN, validator_of
from redraft.checks.structure import JsonSchema
from redraft.checks.tools import ToolCheck
from redraft.engines.base import Message
from redraft.errors import CheckError, CheckSyntaxError, UsageError
from redraft.revision.state import Plan

_warn = lru_cache(256)(logging.getLogger(__name__).warning)  # once: each chain has the same checks

WRONG = "This call was not run. {found}"
AGAIN = " Call it again with arguments that fit."
NONE = CheckResult(name="tool_choice", passed=False, score=0.0, message="A tool call was due, but none came.")
WORDS = CheckResult(name="tool_choice", passed=True, score=1.0, message="The answer needs no call.")
ONE = failed("Only one call at a time is allowed.")
RIGHT = "This call fits, and is kept. Do not make it again."
Tables = Sequence[Mapping[str, Any]]
_DATA = re.compile(r"""\s*+(?:[^\n{]*:\s*)?(?:```\w*\s*)?(?:\[\s*)?\{\s*["']""")
"""Matches the beginning of JSON, as in a patch or in a call's arguments."""
_FENCE = re.compile(r"(?:(?<!\s)\s++)?```\w*\n(.*?)\n?```\s*", re.DOTALL)
_FORMATS: Mapping[str, Callable[[str], Any]] = {
    "date-time": datetime.fromisoformat,
    "time": time.fromisoformat,
    "duration": re.compile(r"P(?=.)(\d+[YMWD])*(T([\d.]+[HMS])+)?").fullmatch,
    "email": re.compile(r"[^@\s]+@[^@\s]+").fullmatch,
    "hostname": re.compile(r"(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*\.?").fullmatch,
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+").fullmatch,
}
"""Checks of formats that jsonschema checks only with other packages installed."""


def judged(calls: Tables, tools: Tables, asked: Mapping[str, Any] | None = None) -> tuple[CheckResult, ...]:
    """Check that each call names a tool, and that the arguments fit the tool's schema. Return the results.

    Properties that are missing in the schema are refused. A tool without a schema accepts any JSON object.
    `asked` contains a request's `tool_choice` and `parallel_tool_calls`.
    """
    asked, known, found = asked or {}, _named(tools), list[CheckResult]()
    may = _callable(known, asked.get("tool_choice"))
    for number, call in enumerate(calls):
        name, arguments = (call.get("function", {}).get(part) for part in ("name", "arguments"))
        do = f"There are: {', '.join(known)}" if known else "Answer in words"
        rule, outcome = "tools", failed(f"There is no tool {name!r:.80}. {do}.")
        if name in known and name not in may:
            do = f"Call {', '.join(may)}" if may else "Answer in words"
            rule, outcome = "tool_choice", failed(f"{name} may not be called now. {do}.")
        elif number and asked.get("parallel_tool_calls") is False:
            rule, outcome = "parallel_tool_calls", ONE
        elif name in known:
            rule, outcome = f"tool:{name}", _fits(arguments, _check_of(known[name]))
        found.append(CheckResult(name=rule, **vars(outcome)))
    return tuple(found)


def _callable(known: Mapping[str, Any], choice: Any) -> Mapping[str, Any]:
    if choice == "none":
        return {}
    with suppress(LookupError, TypeError, AttributeError):  # the choice may be anything
        part = choice[choice["type"]]
        wanted = _named(part.get("tools") or [part])
        return {name: tool for name, tool in known.items() if name in wanted} or known
    return known


def kept(step: Step, plan: Plan) -> tuple[dict[str, Any], ...]:
    """Return the calls of a step that the request allows: all, the first, or none."""
    asked = plan.sampling.extra_body or {}
    if asked.get("tool_choice") == "none":
        return ()
    return step.tool_calls[:1] if asked.get("parallel_tool_calls") is False else step.tool_calls


def _named(tools: Tables) -> dict[str, Mapping[str, Any]]:
    functions = [tool.get("function") or tool for tool in tools]
    return {str(name): function for function in functions if (name := function.get("name"))}


def _fits(arguments: Any, check: JsonSchema | None) -> Outcome:
    try:
        value = json.loads(arguments or "{}", object_pairs_hook=once)
        if not isinstance(value, dict):
            return failed("The arguments are not a JSON object.")
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
        return check.check(text, Prompt()) if check else passed("")
    except CheckError:  # the schema's patterns take too long
        return passed("")
    except RecursionError:
        return failed("The arguments cannot be read as JSON: they are nested too deeply.")
    except UnicodeEncodeError:
        return failed("The arguments have a lone surrogate (half a character).")
    except (TypeError, ValueError) as error:
        return failed(f"The arguments cannot be read as JSON: {str(error).partition(';')[0]}.")


def _check_of(function: Mapping[str, Any]) -> JsonSchema | None:
    return _check(json.dumps(function.get("parameters") or {}))


@lru_cache(256)
def _check(parameters: str) -> JsonSchema | None:
    from jsonschema import FormatChecker

    known = FormatChecker(["date", "ipv4", "ipv6", "uuid"])
    for name, read in _FORMATS.items():
        known.checks(name, raises=ValueError)(lambda it, read=read: not isinstance(it, str) or bool(read(it)))
    try:
        validator = validator_of(_closed(json.loads(parameters)), "tool")
    except CheckSyntaxError:
        return None
    return JsonSchema("tool", validator.evolve(format_checker=known))


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict) or schema.keys() & OPEN:
        return schema
    made = {name: _closed(part) if name == "items" else part for name, part in schema.items()}
    if properties := schema.get("properties"):
        named = {name: _closed(part) for name, part in properties.items()}
        made = {"additionalProperties": False, **made, "properties": named}
    return made


def tell_unmet(checks: Iterable[Check], tools: Tables, *, strict: bool = False) -> None:
    """Warn of checks on unknown tools or arguments.

    If `strict`, raise for unknown arguments and for misspelt tools.
    """
    offered = _named(tools)
    bare = {_bare(name): name for name in offered}
    known = f"an unknown tool (offered: {', '.join(offered)[:200] or 'none'})"
    for check in checks:
        if not isinstance(check, ToolCheck):
            continue
        of = next(filter(check.concerns, offered), None)
        if of is None or (check.after and check.after not in offered):
            does, name = ("is about", check.target) if of is None else ("waits for", check.after)
            near = get_close_matches(_bare(name.split(".")[0]), bare, 1, 0.85)  # else a tool of another turn
            fault, hint = f"{does} {known}", f"Write {bare[near[0]]!r}." if near else ""
        elif lost := _unknown(check.target[len(of) :].split(".")[1:], offered[of].get("parameters")):
            fault = f"is about {lost!r}, but no argument of {of!r} has that name"
            hint = "Name an argument of the tool's schema. `*` stands for every item of a list: items.*.price"
        else:
            continue
        if strict and hint:
            raise UsageError(f"the check {check.name!r} {fault}.", hint=hint)
        _warn("the check %r %s", check.name, fault)


def _unknown(way: Sequence[str], schema: Any) -> str:
    for key in way:
        schema = _closed(schema)
        if not isinstance(schema, dict) or schema.keys() & OPEN:
            return ""
        items, named = schema.get("items"), schema.get("properties") or {}
        closed = key not in named and schema.get("additionalProperties") is False
        if closed if items is None else key != "*" and not key.isdecimal():
            return key
        schema = named.get(key) if items is None else items
    return ""


async def judged_by(checks: Iterable[Check], calls: Tables, prompt: Prompt) -> tuple[CheckResult, ...]:
    """Run the tool checks. Return a result for each call. Unreadable arguments pass."""
    found, before, answered, named = list[CheckResult](), list[str](), list[str](), dict[str, str]()
    for message in prompt.messages or ():
        for call in message.get("tool_calls") or ():
            before.append(_name_of(call))
            named[str(call.get("id") if isinstance(call, Mapping) else "")] = before[-1]
        if message.get("role") == "tool":
            answered.append(named.get(str(message.get("tool_call_id")), ""))
    for call in calls:
        tool, given = (call.get("function", {}).get(part) for part in ("name", "arguments"))
        mine = [check for check in checks if isinstance(check, ToolCheck) and check.concerns(str(tool))]
        outcomes = list[Outcome]()
        with suppress(TypeError, ValueError, RecursionError):  # `judged` rejects these
            value = json.loads(given or "{}")
            outcomes = [await check.of_call(str(tool), value, before, answered, prompt) for check in mine]
        wrong = [each for each in outcomes if not each.passed]
        places = [place for each in wrong for place in each.places] if all(w.places for w in wrong) else []
        said, score = " ".join(each.message for each in wrong), 0.75 + 0.25 / (1 + len(places or wrong))
        outcome = failed(said, score=score, places=places) if wrong else passed("")
        pairs = zip(mine, outcomes, strict=False)  # faults of the order have names of their own
        name = next((check.name for check, each in pairs if not (check.inner or each.passed)), f"tool:{tool}")
        found.append(CheckResult(name=name, **vars(outcome)))
        before.append(str(tool))
    return tuple(found)


def joined(fits: CheckResult, own: CheckResult) -> CheckResult:
    """Join a call's results by schema (`fits`) and checks (`own`). If both reject an argument, use `fits`."""
    if fits.passed or not (fits.places and own.places) or {*fits.places} & {*own.places}:
        return own if fits.passed else fits
    both = {"message": f"{fits.message} {own.message}", "places": fits.places + own.places}
    return fits.model_copy(update=both)


def _name_of(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    return str(function.get("name")) if isinstance(function, Mapping) else ""


def base_of(call: Mapping[str, Any], found: CheckResult, tools: Tables) -> tuple[Step, Any]:
    """Return a step (a call's arguments as answer, `found` as feedback) and the tool's schema."""
    function = call["function"]
    criticism = Feedback(text=found.message, verdict="revise", by="checks", checks=(found,))
    check = _check_of(_named(tools).get(function["name"], {}))
    return Step(answer=str(function.get("arguments")), feedback=criticism), check and check.schema


def reread(arguments: str) -> str | None:
    """Convert arguments in a code fence, in quotes, in Python syntax or with raw line breaks to valid JSON.

    Return None for arguments that are a JSON object already, cannot be read, or repeat a name.
    """
    with suppress(ValueError, RecursionError):
        if isinstance(json.loads(arguments), dict):
            return None
    text = _FENCE.sub(r"\1", arguments)[:65_536].strip("\ufeff \n")
    for read in (json.JSONDecoder(strict=False, object_pairs_hook=once).decode, _python):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            value = read(text)
            value = json.loads(value, object_pairs_hook=once) if isinstance(value, str) else value
            return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else None
    return None


def respelt(call: dict[str, Any], tools: Tables) -> dict[str, Any]:
    """Return a call with the schema's spelling of argument names: `user_id` for `userId`."""
    with suppress(ValueError, RecursionError, TypeError, LookupError, AttributeError):
        function, text = call["function"], call["function"]["arguments"]
        schema = _closed(_named(tools)[function["name"]].get("parameters"))
        given, named = json.loads(text), schema["properties"]
        for key in given.keys() - named if schema["additionalProperties"] is False else ():
            near = [name for name in (*named, *given) if _bare(name) == _bare(key)]
            if len(near) == 2 and near[0] in named and text.count(quoted := json.dumps(key)) == 1:
                text = text.replace(quoted, json.dumps(near[0]))
                call = {**call, "function": {**function, "arguments": text}}
    return call


def _python(text: str) -> Any:
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            once([(ast.dump(key), None) for key in node.keys if key is not None])
    return ast.literal_eval(tree)


def due(plan: Plan) -> bool:
    """Return whether the request demands a tool call."""
    choice = (plan.sampling.extra_body or {}).get("tool_choice")
    if isinstance(choice, Mapping):
        choice = (choice.get("allowed_tools") or {"mode": "required"}).get("mode")
    return bool(plan.options.tools) and choice in ("required", "any")


def replaces(text: str, steps: Sequence[Step], plan: Plan) -> bool:
    """Return whether a text replaces a call: if a call is due, or if the text is JSON after earlier calls."""
    data = plan.json is None and _DATA.match(text)
    return due(plan) or bool(data and any(step.tool_calls for step in steps))


def _bare(name: str) -> str:
    return name.replace("_", "").casefold()


def beside_right(new: Sequence[dict[str, Any]], steps: Sequence[Step]) -> tuple[dict[str, Any], ...]:
    """Return the calls of the last reply, with the wrong calls replaced by `new` calls.

    Calls in `new` that repeat a right call are left out.
    """
    last = next((step for step in reversed(steps) if not step.echo), Step(answer=""))
    judged, left = list(zip(last.tool_calls, last.checks, strict=False)), list(new)
    right = [call for call, result in judged if result.passed]
    placed = [each for each, (_, result) in zip(left, judged, strict=False) if not result.passed]
    meant, named = [*map(_meaning, right)], [_name_of(call) for call, _ in judged]
    if [*map(_name_of, left)] == named and not any(_meaning(each) in meant for each in placed):
        left = placed  # the model made all calls again, in the same order
    else:
        for call in right:
            again = [each for each in left if _meaning(each) == _meaning(call)]
            left = [each for each in left if each is not again[0]] if again else left
        wrong = {_name_of(call) for call, result in judged if not result.passed}
        left.sort(key=lambda each: _name_of(each) not in wrong)
    ids = {call.get("id") for call in right} - {None}
    rest = iter({**each, "id": f"call_{token_hex(12)}"} if each.get("id") in ids else each for each in left)
    made = [call if result.passed else next(rest, None) for call, result in judged]
    more = (each for each in rest if _name_of(each) not in map(_name_of, right))
    return tuple(filter(None, (*made, *more)))


def _meaning(call: Mapping[str, Any]) -> tuple[str, Any]:
    with suppress(ValueError, RecursionError):
        return _name_of(call), json.loads(call["function"]["arguments"])
    return _name_of(call), call["function"]["arguments"]


def whole(calls: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the calls of a reply. A last call that was cut is left out."""
    return tuple(calls if calls and _reads(calls[-1]) else calls[:-1])


def _reads(call: Mapping[str, Any]) -> bool:
    try:
        json.loads(call["function"]["arguments"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return False
    return True


def unread(steps: Sequence[Step], tools: Tables) -> Mapping[str, Any] | None:
    """Return the tool of the last step's only call if the call's arguments are not JSON, otherwise None."""
    match steps[-1].tool_calls if steps else ():
        case (call,) if not _reads(call):
            return next((tool for tool in tools if _name_of(call) in _named([tool])), None)
    return None


def told(step: Step) -> list[Message]:
    """Return an assistant message with a step's calls, and a tool message with the verdict on each call."""
    results = dict(enumerate(step.checks))
    calls = [  # servers refuse a conversation whose calls are not JSON
        call if _reads(call) else {**call, "function": {"name": _name_of(call), "arguments": "{}"}}
        for call in step.tool_calls
    ]
    said: list[Message] = [{"role": "assistant", "content": step.answer or None, "tool_calls": calls}]
    for number, call in enumerate(calls):
        result = results.get(number)  # the chain may be another program's
        content = RIGHT
        if result and not result.passed:
            content = WRONG.format(found=result.message) + AGAIN * (result.name == f"tool:{_name_of(call)}")
        said.append({"role": "tool", "tool_call_id": str(call.get("id", "")), "content": content})
    return said
