"""Calls of tools are judged by their tools, and made again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import redraft
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import UsageError
from redraft.revision.calls import judged, reread, whole
from tests.engines.able import Able

PAY: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "pay",
        "parameters": {
            "type": "object",
            "properties": {
                "amount": {"type": "number", "exclusiveMinimum": 0},
                "unit": {"enum": ["EUR", "USD"]},
                "day": {"type": "string", "format": "date"},
                "to": {"type": "object", "properties": {"id": {"type": "string", "pattern": "^A[0-9]+$"}}},
            },
            "required": ["amount", "unit"],
        },
    },
}
GOOD = {"amount": 3, "unit": "EUR"}


def call(arguments: Any, name: str = "pay", call_id: str = "c1") -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (GOOD, None), ({**GOOD, "day": "2024-02-29", "to": {"id": "A1"}}, None),
        ({"amount": 3}, "'unit' is a required property"), ({**GOOD, "note": "x"}, "'note' was unexpected"),
        ({**GOOD, "to": {"id": "A1", "name": "x"}}, "'name' was unexpected"),
        ({**GOOD, "amount": "3"}, '$.amount: the text "3" should be the number 3.'),
        ({**GOOD, "amount": "3 EUR"}, "'3 EUR' is not of type 'number'"),
        ({**GOOD, "unit": "euro"}, "is not one of"), ({**GOOD, "day": "2026-02-30"}, "is not a 'date'"),
        ({**GOOD, "to": {"id": "B7"}}, "does not match"), ('{"amount": 3, "un', "cannot be read as JSON"),
        ("[3]", "not a JSON object"), ("[" * 100_000, "cannot be read as JSON"),
        ('{"amount": 3, "unit": "EUR", "day": "\\ud83d"}', "half a character"),
    ],
)  # fmt: skip
def test_arguments_fit_the_schema_of_their_tool(arguments: Any, said: str | None) -> None:
    [found] = judged([call(arguments)], [PAY])
    assert found.passed == (said is None)
    assert (said or "") in found.message


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("date-time", "2026-02-28T10:00:00+01:00", "2026-02-30T10:00:00Z"), ("time", "10:30:00Z", "25:00:00"),
        ("duration", "P1DT2H30M", "1h"), ("email", "ann@a.org", "ann at a.org"),
        ("hostname", "a-1.example.org", "-a.example.org"), ("uri", "mailto:ann@a.org", "www.a.org"),
        ("uuid", "12345678-1234-5678-1234-567812345678", "1234"), ("uri-template", "x", None),
    ],
)  # fmt: skip
def test_formats_are_checked(kind: str, good: str, bad: str | None) -> None:
    where = {"type": "object", "properties": {"a": {"format": kind}}}
    tool = {"type": "function", "function": {"name": "pay", "parameters": where}}
    made = [call({"a": value}) for value in (good, 7, bad or good)]
    assert [each.passed for each in judged(made, [tool])] == [True, True, bad is None]


@pytest.mark.parametrize(
    ("made", "tool", "said"),
    [
        (call({**GOOD, "amount": "x"}), PAY, "Call it again with arguments that fit."),
        (call(GOOD, "fly"), PAY, "This call was not run. There is no tool 'fly'. There are: pay."),
        (call({}, "fly"), {"type": "web_search"}, "There is no tool 'fly'. Answer in words."),
        (call(GOOD), PAY, "This call was not run. Call fly first, and pay when it has answered."),
    ],
)
def test_other_arguments_are_asked_for_only_if_arguments_are_wrong(made: Any, tool: Any, said: str) -> None:
    engine = ScriptedEngine([ScriptedReply(tool_calls=[made]), "No.", "No."])
    redraft.revise("Pay.", model=engine, tools=[tool], checks=["tool:pay after fly"], max_revisions=1)
    assert engine.calls[-1][-1]["content"].endswith(said)


@pytest.mark.parametrize("form", [{"type": "function", "parameters": {}}, {"input_schema": {}}])
def test_a_tool_in_the_form_of_another_api_reaches_the_model_in_the_form_of_chats(form: Any) -> None:
    engine = Able([ScriptedReply(tool_calls=[call(GOOD)])])
    chain = redraft.revise("Pay.", model=engine, tools=[{"name": "pay", **form}], checks=["words<=3"])
    assert (chain.stop, chain.passed, chain.steps[0].verdict) == ("tool_calls", True, "accept")
    assert engine.asked[0].tools == ({"type": "function", "function": {"name": "pay", "parameters": {}}},)


@pytest.mark.parametrize(
    ("tools", "said", "hint"),
    [
        ([12], "item 1 is 12", "It should be a tool"),
        ([{"type": "function"}], "tools[0].name is missing", "Send a text"),
        ([PAY, PAY], "tools[1].name is 'pay', and so is tools[0].name", "Send tools with different names"),
        ([{"type": "function", "function": {"name": "a b"}}], "tools[0].name is 'a b'", "Send letters"),
    ],
)
def test_wrong_tools_are_refused_before_a_model_is_asked(tools: Any, said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        redraft.revise("Pay.", model="http://127.0.0.1:9", tools=tools)
    assert hint in str(raised.value.hint)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "nonsense"}, {"anyOf": [GOOD, {}]}])
def test_what_a_schema_leaves_open_is_right(parameters: Any) -> None:
    tool = {"type": "function", "function": {"name": "pay", "parameters": parameters}}
    assert judged([call({"a": 1}), call("")], [tool])[0].passed


@pytest.mark.parametrize(
    "parameters", [None, {}, {"type": "object"}, {"anyOf": [{"required": ["unit"]}, {}]}]
)
def test_a_rule_about_an_argument_that_the_schema_leaves_open_keeps_the_others(parameters: Any) -> None:
    tool = {"type": "function", "function": {"name": "pay", "parameters": parameters}}
    replies = [ScriptedReply(tool_calls=[call({**GOOD, "amount": 900})]), '{"/amount": 3}']
    engine = ScriptedEngine([*replies, ScriptedReply(tool_calls=[call(GOOD)])])
    chain = redraft.revise("Pay.", model=engine, tools=[tool], checks=["tool:pay.amount<=60"])
    assert (chain.stop, chain.passed) == ("tool_calls", True)
    assert json.loads(chain.steps[-1].tool_calls[0]["function"]["arguments"]) == GOOD


def test_a_patch_that_does_not_help_is_followed_by_another_call() -> None:
    wrong = call({"unit": "EUR", "amount": "three", "day": "2024-02-29"})
    replies = [ScriptedReply(tool_calls=[wrong]), '{"/amount": "3"}', ScriptedReply(tool_calls=[call(GOOD)])]
    chain = redraft.revise("Pay.", model=ScriptedEngine(replies), tools=[PAY], max_revisions=3)
    assert (chain.stop, chain.passed, len(chain.steps)) == ("tool_calls", True, 3)


def test_arguments_under_other_names_are_kept_where_no_right_one_comes() -> None:
    odd = call({"euros": 4})
    model = ScriptedEngine([ScriptedReply(tool_calls=[odd]), "I cannot say.", "Nor can I."])
    chain = redraft.revise("Pay.", model=model, tools=[PAY], max_revisions=1)
    assert chain.steps[0].tool_calls == (odd,)
    assert not any(step.patch for step in chain.steps)


@pytest.mark.parametrize(
    ("written", "read", "asked"),
    [
        ('{"amount": 3.10, "unit": "EUR", "Day": "2026-03-14"}', {"day"}, 0),
        ('{"amount": 3.10, "unit": "EUR", "Day": "2026-03-14", "DAY": "2026-03-15"}', set(), 0),
        ('{"amount": "three", "unit": "EUR", "Day": "2026-03-14"}', {"day"}, 1),
    ],
)
def test_an_argument_in_another_spelling_has_its_own_name(written: str, read: set[str], asked: int) -> None:
    engine = ScriptedEngine([ScriptedReply(tool_calls=[call(written)]), '{"/amount": 3.10}'])
    chain = redraft.revise("Pay.", model=engine, tools=[PAY], max_revisions=1)
    said = chain.steps[-1].tool_calls[0]["function"]["arguments"]
    assert (chain.passed, len(engine.calls), "3.10" in said) == (True, 1 + asked, True)
    assert json.loads(said).keys() == {"amount", "unit", *read}


def test_of_wrong_calls_the_one_with_the_fewest_faults_is_best() -> None:
    texts = ({"amount": 900, "unit": "USD"}, {"amount": 900, "unit": "EUR"}, {"amount": 901, "unit": "USD"})
    engine = ScriptedEngine([x for text in texts for x in (ScriptedReply(tool_calls=[call(text)]), "No.")])
    checks = ["tool:pay.amount<=100", "tool:pay.unit contains:EUR"]
    chain = redraft.revise("Pay.", model=engine, tools=[PAY], max_revisions=2, checks=checks)
    assert chain.steps[chain.best or 0].tool_calls == (call(texts[1]),)


def test_a_choice_of_tools_and_a_scripted_call_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match="tool_choice is 'often'") as raised:
        redraft.revise(
            "Pay.", model=ScriptedEngine(["No."]), tools=[PAY], extra_body={"tool_choice": "often"}
        )
    assert "required" in str(raised.value.hint)
    with pytest.raises(UsageError, match="has no function"):
        ScriptedReply(tool_calls=[{"name": "pay", "arguments": "{}"}])


def test_a_wrong_call_is_made_again_and_the_right_one_stays() -> None:
    right, wrong = call(GOOD, call_id="a"), call({**GOOD, "amount": "3"}, call_id="b")
    again = ScriptedReply(tool_calls=[right, call(GOOD)])
    engine = ScriptedEngine([ScriptedReply(tool_calls=[right, wrong]), "I cannot say.", again])
    chain = redraft.revise("Pay 3 euros, twice.", model=engine, tools=[PAY], max_revisions=2)
    assert chain.stop == "tool_calls"
    assert chain.passed
    assert chain.steps[chain.best or 0].tool_calls == (right, call(GOOD))
    *_, said, kept, refused = engine.calls[2]
    assert said["tool_calls"] == [right, wrong]  # type: ignore[index]
    assert "is kept" in kept["content"]  # type: ignore[index]
    assert "should be the number 3" in refused["content"]  # type: ignore[index]
    assert (kept["tool_call_id"], refused["tool_call_id"]) == ("a", "b")  # type: ignore[index]


AGAIN = call(GOOD, call_id="n")
PAID, SKY = call({**GOOD, "amount": 9}, call_id="b"), call({}, "sky", call_id="s")


@pytest.mark.parametrize(
    ("replies", "left"),
    [
        ([PAID], [call(GOOD), SKY, PAID]),
        ([call({**GOOD, "amount": 4}), call({"a": 1}, "sky"), PAID], [call(GOOD), SKY, PAID]),
        ([call(GOOD), SKY, AGAIN], [call(GOOD), SKY, AGAIN]),
        ([PAID, call({"a": 1}, "sky", call_id="n"), AGAIN], [call(GOOD), SKY, PAID]),  # in another order
        ([call({**GOOD, "amount": 4}), SKY, PAID], [call(GOOD), SKY, PAID]),
        ([call(GOOD)], [call(GOOD), SKY]),
        ([call(GOOD), PAID, SKY, call({}, "sky")], [call(GOOD), SKY, PAID]),
        ([SKY], [call(GOOD), SKY]),
        ("I may not pay nine.", [call(GOOD), SKY]),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "repair"])
def test_right_calls_stay_where_a_wrong_one_is_made_again(replies: Any, left: Any, mode: Any) -> None:
    first = [call(GOOD), SKY, call({**GOOD, "amount": "nine"}, call_id="b")]
    again = replies if isinstance(replies, str) else ScriptedReply(tool_calls=replies)
    engine = ScriptedEngine([ScriptedReply(tool_calls=first), "I cannot say.", again])
    tools = [PAY, {"type": "function", "function": {"name": "sky"}}]
    options: Any = {"max_revisions": 2, "mode": mode, "checks": ["tool:sky once"]}
    chain = redraft.revise("Pay.", model=engine, tools=tools, **options)
    best = chain.steps[chain.best or 0]
    assert ([*best.tool_calls], best.answer) == (left, replies if isinstance(replies, str) else "")
    assert (chain.stop, chain.passed) == ("tool_calls", True)


@pytest.mark.parametrize(
    ("reply", "choice", "stands"),
    [
        ("I may not pay that much.", "auto", True),
        ("I may not pay that much.", "required", False),
        ("I may not pay that much.", {"type": "function", "function": {"name": "pay"}}, False),
        ('{"/amount": 3}', "auto", False),
        ('Here it is:\n```json\n[{"op": "replace", "path": "/amount", "value": 3', "auto", False),
    ],
)
def test_what_follows_a_wrong_call_is_a_call_or_an_answer(reply: str, choice: Any, stands: bool) -> None:
    engine = ScriptedEngine([ScriptedReply(tool_calls=[call({**GOOD, "amount": 900})]), "No.", reply])
    options: Any = {"checks": ["tool:pay.amount<=100"], "extra_body": {"tool_choice": choice}}
    chain = redraft.revise("Pay.", model=engine, tools=[PAY], max_revisions=1, **options)
    assert (chain.passed, chain.best, chain.steps[1].echo) == (stands, int(stands), not stands)


TWO = [call(GOOD, call_id="a"), call({**GOOD, "amount": "3"}, call_id="b")]
SEARCH = {"type": "function", "function": {"name": "search"}}
SOME = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [SEARCH]}}
RAINS = "It rains."


@pytest.mark.parametrize(
    ("asked", "text", "then", "left"),
    [
        ({"parallel_tool_calls": False}, "", None, TWO[:1]),
        ({"tool_choice": "none"}, RAINS, None, []),
        ({"tool_choice": "none"}, "", RAINS, []),
        ({"tool_choice": SEARCH}, "", call({}, "search"), [call({}, "search")]),
        ({"tool_choice": SOME}, RAINS, call({}, "search"), [call({}, "search")]),
        ({"tool_choice": "auto"}, "", RAINS, TWO[:1]),
    ],
)
def test_calls_that_the_request_rules_out_do_not_leave(asked: Any, text: str, then: Any, left: Any) -> None:
    again = ScriptedReply(tool_calls=[then]) if isinstance(then, dict) else then
    for most in (0, 2):
        engine = ScriptedEngine([ScriptedReply(text, tool_calls=TWO), *([again] * 2 if again else [])])
        options: Any = {"extra_body": asked, "max_revisions": most}
        chain = redraft.revise("Pay.", model=engine, tools=[PAY, SEARCH], **options)
        assert chain.passed == (most > 0)
    best = chain.steps[chain.best or 0]
    assert ([*best.tool_calls], best.answer) == (left, RAINS if RAINS in (then or text) else "")


def test_a_call_that_was_not_judged_or_by_another_program_is_judged_when_resumed() -> None:
    prompt = redraft.Prompt(instruction="Pay.")
    other = redraft.Feedback(text="Not that one.", verdict="revise")
    for text, feedback, replies in ((GOOD, None, 0), ("{", None, 1), ("{", other, 1)):
        step = redraft.Step(answer="", tool_calls=(call(text),), feedback=feedback)
        chain = redraft.Chain(prompt=prompt, steps=(step,), stop="cancelled")
        engine = ScriptedEngine([ScriptedReply(tool_calls=[call(GOOD)])])
        made = redraft.revise("Pay.", model=engine, tools=[PAY], resume=chain)
        assert (made.stop, made.steps[-1].tool_calls) == ("tool_calls", (call(GOOD),))
        assert len(engine.calls) == replies


def test_a_call_that_cannot_be_read_is_demanded_again_and_not_quoted() -> None:
    engine = Able([ScriptedReply(tool_calls=[call('{"amount": 3,')]), ScriptedReply(tool_calls=[call(GOOD)])])
    other = {**PAY, "function": {**PAY["function"], "name": "other"}}
    assert redraft.revise("Pay.", model=engine, tools=[other, PAY], max_revisions=1).passed
    assert (engine.asked[1].extra_body, engine.asked[1].tools) == ({"tool_choice": "required"}, (PAY,))
    said: Any = engine.calls[1][1]
    assert said["tool_calls"] == [call({})]


@pytest.mark.parametrize(
    "written",
    [
        "```json\n{}\n```", json.dumps(json.dumps(GOOD)), "{'amount': 3, 'unit': 'EUR',}", "\ufeff{}",
        '{"day": "2024-02-29\n"}',
    ],
)  # fmt: skip
def test_arguments_in_another_form_than_json_are_read_without_another_request(written: str) -> None:
    engine = ScriptedEngine([ScriptedReply(tool_calls=[call(written.replace("{}", json.dumps(GOOD)))])])
    [made] = redraft.revise("Pay.", model=engine, tools=[PAY], max_revisions=1).steps[-1].tool_calls
    read = json.loads(made["function"]["arguments"])
    assert (read, len(engine.calls)) == ({"day": "2024-02-29\n"} if "day" in written else GOOD, 1)


@pytest.mark.parametrize(
    "written", ["{'amount': 1, \"amount\": 3}", json.dumps('{"amount": 1, "amount": 3}')]
)
def test_arguments_that_give_a_name_twice_are_not_read_in_any_form(written: str) -> None:
    assert reread(written) is None
    assert reread(written.replace("amount", "unit", 1)) is not None


def test_a_local_model_writes_a_wrong_value_behind_the_right_ones() -> None:
    wrong = call('{"unit": "euro", "amount": 3.10}')
    engine = Able([ScriptedReply(tool_calls=[wrong]), '"EUR"'], about={"resumes": True, "schemas": True})
    checks = ["tool:pay.amount<=100"]
    chain = redraft.revise("Pay 3.10.", model=engine, tools=[PAY], max_revisions=1, checks=checks)
    assert engine.calls[1] == ({"role": "user", "content": "Pay 3.10."},)  # no demand to copy from
    asked = engine.asked[1]
    assert (asked.begun, asked.schema) == ('{"amount": 3.10, "unit":', {"enum": ["EUR", "USD"]})
    [made] = chain.steps[-1].tool_calls
    assert made["function"]["arguments"] == '{"amount": 3.10, "unit": "EUR"}'


def test_a_call_that_was_cut_is_none() -> None:
    assert whole([call(GOOD), call('{"amount"')]) == (call(GOOD),)
    assert whole([call(GOOD)]) == (call(GOOD),)
    engine = ScriptedEngine([ScriptedReply("I pay.", tool_calls=[call('{"amount"')], finish="max_tokens")])
    chain = redraft.revise("Pay.", model=engine, tools=[PAY], max_revisions=0)
    assert (chain.stop, chain.steps[0].tool_calls, chain.answer) == ("max_tokens", (), "I pay.")


def test_calls_before_one_that_was_cut_are_mended_and_the_cut_is_told() -> None:
    wrong, cut = call({**GOOD, "amount": "three"}), call('{"amount"', call_id="c2")
    engine = ScriptedEngine([ScriptedReply(tool_calls=[wrong, cut], finish="max_tokens"), '{"/amount": 3}'])
    chain = redraft.revise("Pay.", model=engine, tools=[PAY], max_revisions=1)
    best = chain.steps[chain.best or 0]
    assert (chain.stop, len(best.tool_calls), best.finish) == ("tool_calls", 1, "max_tokens")
    assert json.loads(best.tool_calls[0]["function"]["arguments"]) == GOOD


DETAILED: dict[str, Any] = {**GOOD, "day": "2026-03-14", "to": {"id": "A7"}}


def spoiled(kind: str) -> dict[str, Any]:
    changes: Any = {"extra": "x", "amount": "3", "unit": "euro", "day": "2026-02-30", "to": {"id": "Ada"}}
    made = DETAILED | ({kind: changes[kind]} if kind in changes else {})
    if kind == "missing":
        del made["unit"]
    return call(json.dumps(made)[: -9 if kind == "cut" else None], "pey" if kind == "name" else "pay")


@pytest.mark.parametrize("kind", ["extra", "amount", "unit", "day", "to", "missing", "cut", "name"])
@pytest.mark.parametrize("others", [0, 59])
def test_an_able_model_mends_a_fault_and_nothing_else(kind: str, others: int) -> None:
    def able(asked: Any) -> ScriptedReply | str:
        if wanted := re.findall(r'"/(\w+)(?:/id)?": ', asked[-1]["content"]) if asked[1:] else []:
            named = {"to": "/to/id"}
            return json.dumps({named.get(n, f"/{n}"): "A7" if n == "to" else DETAILED[n] for n in wanted})
        return ScriptedReply(tool_calls=[call(DETAILED) if asked[1:] else spoiled(kind)])

    tools = [PAY, *({**PAY, "function": {**PAY["function"], "name": f"pay{n}"}} for n in range(others))]
    engine = ScriptedEngine(able)
    chain = redraft.revise("Pay Ada.", model=engine, tools=tools, max_revisions=2)
    assert len(engine.calls) == 1 + (kind != "extra")
    [made] = chain.steps[chain.best or 0].tool_calls
    assert (chain.stop, chain.passed, len(chain.steps)) == ("tool_calls", True, 2)
    assert (json.loads(made["function"]["arguments"]), made["id"]) == (DETAILED, "c1")
    assert bool(chain.steps[1].patch) == (kind not in ("cut", "name"))
