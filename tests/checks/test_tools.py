from __future__ import annotations

import json
from typing import Any

import pytest

import redraft
from redraft.checks.parse import parse_check
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import CheckSyntaxError, UsageError
from redraft.revision.calls import tell_unmet
from tests.engines.able import Able


def call(name: str, call_id: str = "c1", **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


ITEMS = {"type": "array", "items": {"properties": {"x": {"minimum": 1}}, "additionalProperties": True}}
LOOSE = {"type": "object", "properties": {"amount": {}, "to": {"type": "string"}, "items": ITEMS}}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": LOOSE}}
    for name in ("pay", "bank.pay", "search")
]


def asked(checks: list[Any], *replies: Any, prompt: Any = "Pay Ann.", **options: Any) -> Any:
    made = [ScriptedReply(tool_calls=reply) if isinstance(reply, list) else reply for reply in replies]
    return redraft.revise(prompt, model=ScriptedEngine(made), tools=TOOLS, checks=checks, **options)


@pytest.mark.parametrize(
    ("check", "wrong", "said"),
    [
        ("tool:pay.amount<=100", {"amount": 500}, "It is 500, and must be at most 100."),
        ("tool:pay.amount>0", {"amount": "none"}, 'It is the text "none", and must be a number.'),
        ("tool:pay.amount<=100", {"amount": "500"}, 'It is the text "500", and must be at most 100.'),
        ("tool:pay.items.0.note words<=2", {"items": [{"note": "one two three"}]}, "3 words"),
        ("tool:pay.items.*.x words<=2", {"items": [{"x": "a"}, {}, {"x": "a b c"}]}, "pay.items.2.x:"),
        ("tool:pay.to lacks:Bob", {"to": "Bob"}, "Bob"),
        (r"tool:pay.to lacks[regex]:\(o+\)", {"to": "(oo)"}, "(oo)"),
        ("tool:pay keys:to", {"to": "Ann", "amount": 1}, "amount"),
        ("tool:pay after search", {}, "Call search first, and pay when it has answered."),
        ("tool:bank.pay.amount<=100", {"amount": 500}, "at most 100"),
        ("tool:bank.pay after search", {}, "Call search first"),
        ("tool:pay.amount<=100", {"amount": 10**400}, "at most 100"),
        ("tool:pay.amount<=100", {"amount": True}, "must be a number"),
        ("tool:pay.amount<=100", {"amount": "\ud800"}, "a lone surrogate"),
        ("tool:pay.to grounded", {"to": "Bob"}, "Bob"),
    ],
)
def test_a_call_that_fails_is_made_again(check: str, wrong: dict[str, Any], said: str) -> None:
    made = call("bank.pay" if "bank" in check else "pay", **wrong)
    [found] = asked([check], [made], "No.", "No.", max_revisions=1).steps[0].checks
    assert not found.passed
    assert said in found.message


def test_a_function_judges_the_value_itself() -> None:
    cheap = redraft.tool_check("pay.amount", lambda amount: amount <= 100 or "Too much.")
    chain = asked([cheap], [call("pay", amount=500)], '{"/amount": 50}')
    assert chain.steps[0].checks[0].message == "pay.amount: Too much."
    assert chain.passed
    plain = redraft.tool_check("pay.to", lambda to: to == "Bo")
    [found] = asked([plain], [call("pay", to="Al")]).steps[0].checks
    assert found.message.endswith(" rejects the answer.")


@pytest.mark.parametrize(
    ("wrong", "reply"), [({"to": "Ann", "note": "lunch"}, ""), ({"to": 7}, ', "/to": "Ann"')]
)
def test_arguments_that_break_the_schema_or_a_check_are_mended_at_once(wrong: Any, reply: str) -> None:
    made = call("pay", amount=500, **wrong)
    chain = asked(["tool:pay.amount<=100"], [made], f'{{"/amount": 50{reply}}}')
    assert chain.steps[-1].tool_calls[0]["function"]["arguments"] == '{"amount": 50, "to": "Ann"}'
    assert (chain.passed, len(chain.steps)) == (True, 2)


def test_a_call_that_passes_is_left_alone_and_so_is_a_text() -> None:
    checks = ["tool:pay.amount<=100", "tool:search.amount words<=3", "tool:pay.to words<=1"]
    made = [call("pay", amount=100)]
    chain = asked(checks, made)
    assert (chain.steps[0].tool_calls, chain.stop, chain.passed) == (tuple(made), "tool_calls", True)
    assert asked(checks, "I paid.").passed


def test_a_name_that_no_tool_has_is_told(caplog: pytest.LogCaptureFixture) -> None:
    checks = ["tool:fly.amount<=100", "tool:pay once", "tool:pay.items.*.x<=1", "tool:pay after mail"]
    for _ in range(2):
        asked(checks, [call("pay", amount=500)])
        redraft.revise("Pay.", model=ScriptedEngine(["Yes."]), checks=["tool:pay.amount<=99"])
    assert caplog.messages == [
        "the check 'tool:fly.amount<=100' is about an unknown tool (offered: pay, bank.pay, search)",
        "the check 'tool:pay after mail' waits for an unknown tool (offered: pay, bank.pay, search)",
        "the check 'tool:pay.amount<=99' is about an unknown tool (offered: none)",
    ]


def test_a_tool_that_is_spelt_differently_is_an_error_that_names_it() -> None:
    near = {"Pay.amount<=100": "pay", "pay after se_arch": "search", "serch.to words<=2": "search"}
    for check, name in {**near, "bank.pay.amuont<=9": "amuont"}.items():
        with pytest.raises(UsageError, match=r"unknown tool|no argument of 'bank.pay'") as raised:
            asked([f"tool:{check}"], [call("pay", amount=500)])
        assert name in f"{raised.value}"
    asked(["tool:repay.amount<=100"], [call("pay", amount=500)])  # offered in another turn, perhaps


def test_a_list_without_the_star_is_told(caplog: pytest.LogCaptureFixture) -> None:
    items = {"type": "array", "items": {"type": "object", "properties": {"price": {}}}}
    parameters = {"type": "object", "properties": {"items": items}}
    tools = [{"type": "function", "function": {"name": "pay", "parameters": parameters}}]
    tell_unmet([parse_check(f"tool:pay.items{way}.price<=9") for way in ("", ".*", ".0")], tools)
    assert [("'price'" in each, "items.price" in each) for each in caplog.messages] == [(True, True)]


def test_every_wrong_item_is_told_and_mended_within_its_bounds() -> None:
    made = call("pay", items=[{"x": 90}, {"x": 1}, {"x": 80}])
    replies = [ScriptedReply(tool_calls=[made]), '{"/items/0/x": 9, "/items/2/x": 8}']
    engine = Able(replies, about={"schemas": True})
    checks = [f"tool:pay.items.*.x{bound}" for bound in ("<=50", "<=60", ">0", ">=0")]
    chain = redraft.revise("Pay Ann.", model=engine, tools=TOOLS, checks=checks)
    wanted = (engine.asked[1].schema or {})["properties"]
    stricter = {"minimum": 1, "maximum": 50, "exclusiveMinimum": 0}
    assert wanted["/items/0/x"] == wanted["/items/2/x"] == stricter
    assert chain.steps[0].checks[0].message.count("at most 50") == 2
    assert (chain.passed, chain.steps[1].patch) == (True, ("/items/0/x", "/items/2/x"))


@pytest.mark.parametrize("target", ["", "pay.", "tool:pay.amount", "pay once", None])
def test_a_function_is_about_a_tool(target: Any) -> None:
    with pytest.raises(CheckSyntaxError, match="does not name a tool"):
        redraft.tool_check(target, bool)


def test_what_was_called_before_counts() -> None:
    again = [call("pay", "c2")]
    prompt = [
        {"role": "user", "content": "Pay Ann."},
        {"role": "assistant", "content": None, "tool_calls": [call("search")]},
        {"role": "tool", "tool_call_id": "c1", "content": "Ann: A1"},
    ]
    chain = asked(["tool:pay after search", "tool:pay once"], again, prompt=prompt)
    assert (chain.stop, len(chain.steps)) == ("tool_calls", 1)
    odd: Any = {"role": "assistant", "content": "x", "tool_calls": ["x", {"id": [], "function": None}]}
    odd = [*prompt, odd, {"role": "user", "content": "Go."}]
    assert asked(["tool:pay after search"], again, prompt=odd).stop == "tool_calls"
    twice = asked(["tool:pay once"], [call("pay"), call("pay", "c2")], "No.", max_revisions=1)
    assert [found.passed for found in twice.steps[0].checks] == [True, False]


@pytest.mark.parametrize("arguments", ['{"amount": 1, "amount": 500}', "[" * 100_000, "1" * 5000])
def test_what_programs_read_in_two_ways_or_not_at_all_is_refused(arguments: str) -> None:
    made = {**call("pay"), "function": {"name": "pay", "arguments": arguments}}
    chain = asked(["tool:pay.amount<=100"], [made], "No.", "No.", max_revisions=1)
    assert "cannot be read as JSON" in chain.steps[0].checks[0].message
    assert "sys." not in chain.steps[0].checks[0].message


@pytest.mark.parametrize(
    "check",
    [
        "tool", "tool:", "tool:pay", "tool:pay.a", "tool:pay sometimes", "tool:.a once",
        "any(json; tool :pay once)", "tool:pay tool:pay once",
    ],
)  # fmt: skip
def test_a_wrong_form_is_refused(check: str) -> None:
    with pytest.raises(CheckSyntaxError):
        parse_check(check)
