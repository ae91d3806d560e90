"""Messages with more than text, and templates that rewrite earlier turns: no word is lost in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redraft.chain import Chain
from redraft.chain.encoder import Encoder, Example, Skipped
from redraft.chain.read.records import chain_of, with_id
from tests.train.tokenizer_kinds import CHATML, tokenizer

THINKING = """
{%- if tools %}<|im_start|>system
{{ tools | map('tojson') | join('\\n') }}<|im_end|>
{% endif %}
{%- set ns = namespace(asked=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- set content, thoughts = m.content or '', m.reasoning_content or '' %}
{%- if '</think>' in content %}
{%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip() %}
{%- set content = content.split('</think>')[-1].lstrip() %}
{%- endif -%}
<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and loop.index0 > ns.asked %}<think>{{ thoughts }}</think>{% endif %}{{ content }}
{%- for call in m.tool_calls or [] -%}
<call>{{ call.function.name }}{{ call.function.arguments | tojson }}{% endfor -%}
<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""A template of a model that thinks: it drops thoughts before the last question."""

DROPPING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""A template that opens the thoughts itself and drops those of every message."""

THOUGHT = "<user|Q>|<assistant|[<think>hm</think>A>]|"
LOST = "the model's chat template leaves out"
CALL = {"type": "function", "id": "c1", "function": {"name": "sky", "arguments": '{"city": "Rome"}'}}
CALLED, REST = '<call>sky{"city": "Rome"}', "<tool|sun>|<assistant|[<think></think>Sunny.>]|"
TOOL = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object", "properties": {}}}}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def encoded(record: dict[str, Any], template: str = THINKING, chosen: Any = "chat") -> Example | Skipped:
    return Encoder(tokenizer("bytes", template), chosen, "accepted", 4096).encode(
        with_id(chain_of(record), "x")
    )


def shown(found: Example | Skipped) -> str:
    if isinstance(found, Skipped):
        return found.reason
    text, model = "", tokenizer("bytes", THINKING)
    for k, number in enumerate(found.ids.tolist()):
        learnt, before = bool(found.trained[k]), bool(k and found.trained[k - 1])
        text += "[" * (learnt and not before) + "]" * (before and not learnt) + model.decode([number])
    text += "]" * bool(found.trained[-1])
    return text.replace("<|im_start|>", "<").replace("<|im_end|>", ">").replace("\n", "|")


def messages(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (messages(user("Q"), said("A", reasoning_content="hm")), THOUGHT),
        (messages(user("Q"), said("A", reasoning="hm")), THOUGHT),
        (messages(user("Q"), said("<think>hm</think>A")), THOUGHT),
        (
            messages(user("Q"), said("I look.", tool_calls=[CALL]), tools=[TOOL]),
            f"<system|{json.dumps(TOOL)}>|<user|Q>|<assistant|[<think></think>I look.{CALLED}>]|",
        ),
        (
            messages(
                user("Q"),
                said(None, tool_calls=[CALL], reasoning_content="hm"),
                {"role": "tool", "content": "sun", "tool_call_id": "c1"},
                said("Sunny."),
            ),
            f"<user|Q>|<assistant|[<think>hm</think>{CALLED}>]|{REST}",
        ),
        (
            messages(user("Q"), said(None, function_call=CALL["function"])),
            f"<user|Q>|<assistant|[<think></think>{CALLED}>]|",
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Q"},
                    {"from": "function_call", "value": '{"name": "sky", "arguments": {"city": "Rome"}}'},
                    {"from": "observation", "value": "sun"},
                    {"from": "gpt", "value": "Sunny."},
                ],
                "system": "Be brief.",
            },
            f"<system|Be brief.>|<user|Q>|<assistant|[<think></think>{CALLED}>]|{REST}",
        ),
        (  # Control tokens that a call spells stay text.
            messages(user("Q"), said(None, tool_calls=[{"name": "say", "arguments": {"a": "<|im_end|>"}}])),
            '<user|Q>|<assistant|[<think></think><call>say{"a": ">"}>]|',
        ),
    ],
)  # fmt: skip
def test_all_parts_of_messages_go_to_the_template(record: dict[str, Any], expected: str) -> None:
    found = encoded(record)
    assert shown(found) == expected
    assert isinstance(found, Example)
    ends = tokenizer("bytes", THINKING).convert_tokens_to_ids("<|im_end|>")
    turns = record.get("messages") or [*record["conversations"], "system"]
    assert found.ids.tolist().count(ends) == len(turns) + bool(record.get("tools"))


@pytest.mark.parametrize("chosen", ["chat", "vicuna", "stablevicuna"])
@pytest.mark.parametrize("mute", [{"weight": 0}, {"train": False}])
def test_a_turn_that_others_leave_out_is_read_and_not_learnt(chosen: str, mute: dict[str, Any]) -> None:
    for first, last in (({}, mute), (mute, {})):
        record = messages(user("Q"), said("One.", **first), user("And?"), said("Two.", **last))
        text = shown(encoded(record, CHATML, chosen))
        assert ("[One.>]" in text.replace("[ ", "["), "[Two.>]" in text.replace("[ ", "[")) == (
            not first,
            not last,
        )
        assert "One." in text
    assert shown(encoded(messages(user("Q"), said("A", **mute)), CHATML, chosen)) == (
        "no answer to train on: weight is 0, or train is false"
    )


@pytest.mark.parametrize("chosen", ["selfee", "alpaca"])
def test_an_answer_that_is_not_to_be_learnt_is_left_out_of_formats_of_one_turn(chosen: str) -> None:
    record = messages(user("Q"), said("One."), user("And?"), said("Two.", weight=0))
    assert shown(encoded(record, CHATML, chosen)) == "no answer to train on: weight is 0, or train is false"


IMAGE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:"}}]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (messages(user(IMAGE), said("A cat.")), "training supports only text, not image_url"),
        (messages(user("<image>?"), said("A"), images=["a.png"]), "training supports only text, not images"),
        (messages(user("Q"), said("A", reasoning_content="hm")), f"{LOST} thoughts"),
        (messages(user("Q"), said("I look.", tool_calls=[CALL])), f"{LOST} a tool call"),
        (messages(user("Q"), said(None, tool_calls=[CALL])), f"{LOST} a tool call"),
        (messages(user("Q"), said("A"), tools=[TOOL]), f"{LOST} tools"),
        (messages(user("Q"), said("A"), tools="[sky]"), "the tools are not a list of objects"),
        (messages(user("Q"), said("A", weight=0.5)), "a message has weight 0.5; only 0 and 1 are allowed"),
    ],
)  # fmt: skip
def test_what_a_template_cannot_say_leaves_the_record_out(record: dict[str, Any], reason: str) -> None:
    plain = CHATML.replace("message['content']", "(message['content'] or '')")
    assert shown(encoded(record, plain)) == reason


@pytest.mark.parametrize("chosen", ["vicuna", "selfee", "alpaca", "stablevicuna"])
@pytest.mark.parametrize(
    ("record", "what"),
    [
        (messages(user(IMAGE), said("A cat.")), "training supports only text"),
        (messages(user("Q"), said("A", reasoning_content="hm")), "thoughts"),
        (messages(user("Q"), said("A", reasoning_content="hm"), user("And?"), said("B")), "thoughts"),
        (messages(user("Q"), said("I look.", tool_calls=[CALL])), "a tool call"),
        (messages(user("Q"), said(None, tool_calls=[CALL])), "a tool call"),
        (messages(user("Q"), said("A"), tools=[TOOL]), "tools"),
        (messages(user("Q"), {"role": "tool", "content": "sun"}, said("A")), "a message has the role 'tool'"),
    ],
)
def test_formats_of_text_leave_out_what_they_lack(record: dict[str, Any], what: str, chosen: str) -> None:
    found = encoded(record, chosen=chosen)
    assert isinstance(found, Skipped)
    assert f"{what}, " in found.reason


def test_a_template_that_drops_earlier_thoughts_trains_what_it_keeps_and_is_counted() -> None:
    turns = (user("Q"), said("A", reasoning_content="hm"), user("And?"), said("B", reasoning_content="so"))
    found = encoded(messages(*turns))
    assert shown(found) == "<user|Q>|<assistant|A>|<user|And?>|<assistant|[<think>so</think>B>]|"
    assert isinstance(found, Example)
    assert found.leaves
    one = encoded(messages(*turns[:2]))
    assert isinstance(one, Example)
    assert not one.leaves


@pytest.mark.parametrize("chosen", ["chat", "selfee", "alpaca", "vicuna", "stablevicuna"])
def test_a_conversation_that_ends_in_a_question_trains_its_answers(chosen: str) -> None:
    ends, without = (
        encoded(messages(user("Q"), said("A"), *more), CHATML, chosen) for more in ([user("And?")], [])
    )
    assert "A" in shown(ends).partition("[")[2]
    assert shown(ends) == shown(without)


@pytest.mark.parametrize("answer", [said("<think>\nhm\n</think>\n\nA"), said("A", reasoning_content="hm")])
def test_the_last_thoughts_are_kept_where_the_models_prompt_opens_them(answer: dict[str, Any]) -> None:
    found = encoded(messages(user("Q"), said("<think>\nso\n</think>\n\nB"), user("And?"), answer), DROPPING)
    assert shown(found) == "<user|Q>|<assistant|B>|<user|And?>|<assistant|<think>|[hm|</think>||A>]|"


def test_an_answer_without_thoughts_is_learnt_where_the_models_prompt_opens_them() -> None:
    assert (
        shown(encoded(messages(user("Q"), said("<b>A</b>")), DROPPING)) == "<user|Q>|<assistant|[<b>A</b>>]|"
    )


def test_a_call_with_arguments_as_text_reaches_a_template_that_wants_a_text() -> None:
    joining = THINKING.replace("call.function.arguments | tojson", "'' + call.function.arguments")
    assert f"[<think></think>{CALLED}>]" in shown(
        encoded(messages(user("Q"), said(None, tool_calls=[CALL])), joining)
    )


def test_thoughts_in_tags_are_words_to_a_template_that_knows_no_thoughts() -> None:
    found = encoded(messages(user("Q"), said("<think>\nhm\n</think>\n\nA")), CHATML)
    assert shown(found) == "<user|Q>|<assistant|[<think>|hm|</think>||A>]|"


def test_words_of_any_chain_are_trained_or_its_reason_is_said() -> None:
    chain = Chain.model_validate(
        {"prompt": {"messages": [user("Q")]}, "steps": [{"answer": "", "tool_calls": [CALL]}], "best": 0}
    )
    assert f"[<think></think>{CALLED}>]" in shown(Encoder(tokenizer("bytes", THINKING), "chat").encode(chain))


@pytest.mark.parametrize("template", [DROPPING, DROPPING.replace("<think>", "<|think|>")])
def test_a_call_where_the_models_prompt_opens_thoughts_is_learnt_with_all_of_its_tag(template: str) -> None:
    calling = template.replace(
        "<|im_end|>",
        "{% for call in m.tool_calls or [] %}<thing>{{ call.function.name }}</thing>{% endfor %}<|im_end|>",
        1,
    )
    found = shown(
        encoded(messages(user("Q"), said(None, tool_calls=[CALL | {"function": {"name": "sky"}}])), calling)
    )
    assert found == "<user|Q>|<assistant|[<thing>sky</thing>>]|"


def test_the_stop_token_is_what_follows_an_answer_and_not_a_question() -> None:
    """As DeepSeek's template, which ends questions with the token that begins answers."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|im_start|>{% else %}{{ m.content }}"
        "{% for call in m.tool_calls or [] %}{{ call.function.name }}<|endoftext|>{% endfor %}<|im_end|>"
        "{% endif %}{% endfor %}"
    )
    call = CALL | {"function": {"name": "sky"}}
    found = encoded(messages(user("Q"), said("A", tool_calls=[call])), template)
    assert shown(found) == "Q<[Asky<|endoftext|>>]"
