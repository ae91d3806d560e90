from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.chain.read.records import chain_of
from redraft.chain.read.shapes import read_shape, shape_of, shapes
from redraft.chain.write import to_selfee
from redraft.errors import RecordError
from tests.plugin_packages import install

SHAPE_OF = [
    ("SelFee training chain", {"instruction": "i", "outputs": []}),
    ("SelFee answer", {"question_id": 1, "text": "a", "whole_generation": "a", "answer_id": "x"}),
    ("FastChat answer", {"question_id": 1, "answer_id": "x", "text": "a"}),
    ("FastChat answer", {"question_id": 1, "choices": [{"turns": ["a"]}]}),
    ("question", {"question_id": 1, "text": "q", "category": "c"}),
    ("answer of a policy", {"rollout": 0, "row": 1, "prompt": "p", "answer": "a", "reward": 0.5}),
    ("MT-bench question", {"question_id": 1, "turns": ["q", "r"]}),
    ("CoNaLa", {"question_id": 1, "intent": "i", "rewritten_intent": None, "snippet": "s"}),
    ("ShareGPT conversation", {"id": "x", "conversations": [{"from": "human", "value": "q"}]}),
    ("messages", {"messages": [{"role": "user", "content": "q"}]}),
    ("OASST1 tree", {"message_tree_id": "x", "prompt": {"text": "q", "role": "prompter", "replies": []}}),
    ("AQuA", {"question": "q", "options": ["A)1"], "rationale": "r", "correct": "A"}),
    ("GSM8K", {"question": "q", "answer": "#### 1"}),
    ("MATH", {"problem": "p", "level": "1", "type": "t", "solution": "s"}),
    ("MBPP", {"task_id": 1, "text": "t", "code": "c", "test_list": []}),
    ("CodeContests", {"name": "n", "description": "d", "public_tests": {}, "solutions": {}}),
    ("FLAN", {"inputs": "i", "targets": "t", "task": "x"}),
    ("Self-Instruct task", {"id": "x", "instruction": "i", "instances": [{"input": "", "output": "o"}]}),
    ("Alpaca", {"instruction": "i", "input": "", "output": "o"}),
    ("GPT4All", {"prompt": "p", "response": "r", "source": "s"}),
    ("HumanEval", {"task_id": "HumanEval/0", "prompt": "p", "entry_point": "f", "test": "t"}),
    ("prompt", {"task_id": "HumanEval/0", "prompt": "p", "canonical_solution": "c", "test": "t"}),
    ("prompt", {"key": 1, "prompt": "p", "instruction_id_list": [], "kwargs": []}),
]


@pytest.mark.parametrize(("name", "record"), SHAPE_OF)
def test_a_record_is_known_by_its_fields(name: str, record: dict[str, Any]) -> None:
    shape = shape_of(record)
    assert shape is not None
    assert shape.name == name
    chain_of(record)


TASKS: list[tuple[dict[str, Any], str, str, Any, dict[str, Any]]] = [
    ({"instruction": "i", "input": "x", "output": "o"}, "i", "x", "o", {}),
    ({"instruction": "i", "input": None, "output": ""}, "i", "", "", {}),  # `clean` drops it
    ({"question": "q", "answer": "1+1\n#### 2"}, "q", "", "2", {"answer": "1+1\n#### 2"}),
    ({"question": "q", "answer": "two"}, "q", "", "two", {}),
    (
        {"question": "q", "options": ["A)1", "B)2"], "rationale": "r", "correct": "B"},
        "q\nA)1\nB)2", "", "B", {"options": ["A)1", "B)2"]},
    ),
    ({"problem": "p", "solution": r"\boxed{2}", "answer": "two"}, "p", "", "two", {}),
    ({"task_id": 1, "text": "t", "code": "c"}, "t", "", "c", {"task_id": 1}),
    ({"intent": "a", "rewritten_intent": "b", "snippet": "s"}, "b", "", "s", {"intent": "a"}),
    ({"instruction": "i", "instances": [{"input": "x", "output": "o"}]}, "i", "x", "o", {}),
    (
        {"instruction": "i", "instances": [{"output": "o"}, {"output": "p"}]},
        "i",
        "",
        "o",
        {"instances": [{"output": "o"}, {"output": "p"}]},
    ),
    (
        {"prompt": "p", "canonical_solution": "c", "entry_point": "f", "test": "x = 1"},
        "p",
        "",
        "c",
        {"entry_point": "f", "test": "x = 1"},
    ),
    ({"prompt": "p", "canonical_solution": "c", "entry_point": "f"}, "p", "", "c", {"entry_point": "f"}),
    ({"prompt": {"instruction": "i", "input": "x"}}, "i", "x", None, {}),
    ({"question_id": 1, "turns": ["q"], "reference": ["r"]}, "q", "", ["r"], {"question_id": 1}),
    ({"question_id": 1, "turns": ["q", "r"]}, "q", "", None, {"question_id": 1, "turns": ["q", "r"]}),
    ({"inputs": "i", "targets": "t", "task": "x"}, "i", "", "t", {"task": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("record", "instruction", "extra", "reference", "source"), TASKS)
def test_a_task_gives_its_prompt_its_reference_and_the_rest(
    record: dict[str, Any], instruction: str, extra: str, reference: Any, source: dict[str, Any]
) -> None:
    before = repr(record)
    chain = chain_of(record)
    assert chain.prompt == Prompt(instruction=instruction, input=extra)
    assert (chain.steps, chain.best, chain.meta.get("reference")) == ((), None, reference)
    assert chain.meta.get("source", {}) == source
    assert repr(record) == before


def test_a_text_beside_a_prompt_is_its_input() -> None:
    for text, said in ("Zoë", "Zoë"), (None, ""), (["Zoë"], ""):
        record = {"id": "a", "prompt": "Repeat it.", "input": text}
        assert chain_of(record, "f:1").prompt == Prompt(instruction="Repeat it.", input=said)


def test_a_training_chain() -> None:
    chain = chain_of(
        {
            "instruction": "i",
            "input": "x",
            "output": "gold",
            "outputs": [
                {"output": " a\n", "feedback": "Revision is needed."},
                {"output": "b", "feedback": ""},
            ],
            "iteration": 2,
        }
    )
    assert [step.answer for step in chain.steps] == [" a\n", "b"]
    assert [step.feedback.verdict for step in chain.steps if step.feedback] == ["revise", "unknown"]
    assert (chain.best, chain.stop, chain.meta["reference"]) == (1, "ended", "gold")
    assert chain.meta["source"] == {"iteration": 2}


@pytest.mark.parametrize(
    ("last", "count", "truncated", "stop"),
    [
        ("No revision is needed.", 5, True, "accepted"),
        ("Revision is needed.", 5, True, "max_revisions"),
        ("Revision is needed.", 2, True, "context"),
        ("Revision is needed.", 2, False, "ended"),
    ],
)
def test_why_a_training_chain_stopped(last: str, count: int, truncated: bool, stop: str) -> None:
    outputs = [{"output": "a", "feedback": "Revision is needed."}] * (count - 1) + [
        {"output": "b", "feedback": last}
    ]
    assert chain_of({"instruction": "i", "outputs": outputs, "iteration_truncated": truncated}).stop == stop


def test_a_training_chain_that_was_cut_is_written_and_read_back() -> None:
    cut = Step(answer="a", finish="context")
    record = to_selfee(Chain(steps=(cut,), best=0, stop="context", meta={"reference": "r"}))
    assert isinstance(record, dict)
    assert (record["iteration_truncated"], record["outputs"]) == (True, [{"output": "a"}])
    assert (record["output"], chain_of(record).steps) == ("r", (Step(answer="a"),))


def test_a_selfee_answer_without_a_generation_is_an_answer() -> None:
    chain = chain_of({"question_id": 1, "text": "a", "whole_generation": None, "model_id": "m"})
    assert (chain.steps, chain.best, chain.model) == ((Step(answer="a"),), 0, {"name": "m"})


def test_a_released_text_that_is_nowhere_in_the_generation_is_kept() -> None:
    chain = chain_of({"question_id": 1, "text": "other", "whole_generation": "a\n\n### Feedback 1:\nf"})
    assert (chain.answer, chain.meta["source"]["text"]) == ("a", "other")
    assert chain.steps[0].feedback == Feedback(text="f", verdict="unknown")


def test_a_fastchat_answer_of_two_turns_keeps_both() -> None:
    choices = [{"index": 0, "turns": ["a", "b"]}]
    chain = chain_of({"question_id": 1, "answer_id": "x", "choices": choices})
    assert (chain.answer, chain.meta["source"]["choices"]) == ("a", choices)


USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"instruction": 3}, "f:1: instruction should be a text (found 3)."),
        ({"prompt": "q", "completion": "a", "label": False}, "f:1: label is false: the completion was"),
        ({"outputs": []}, "f:1: instruction is missing."),
        ({"instruction": "i", "outputs": "x"}, "f:1: outputs should be a list (found 'x')."),
        ({"instruction": "i", "outputs": [{}]}, "f:1: outputs.0: output is missing."),
        ({"question_id": 1, "choices": [{}]}, "f:1: choices.0.turns should be a list of texts (found None)."),
        ({"question_id": 1, "turns": []}, "f:1: turns is empty."),
        ({"question_id": 1, "turns": [1]}, "f:1: turns.0 should be a text (found 1)."),
        ({"conversations": []}, "f:1: conversations is empty."),
        (
            {"conversations": [{"from": "alien", "value": "x"}]},
            "f:1: conversations.0: from should be one of human, user, prompter, gpt, chatgpt, bing, bard, ",
        ),
        (
            {"messages": [{"role": "user", "content": 1}]},
            "f:1: messages.0: content should be a text (found 1).",
        ),
        ({"message_tree_id": "x", "prompt": "p"}, "f:1: prompt should be an object (found 'p')."),
        (
            {"prompt": {"instruction": 1}},
            "f:1: prompt: instruction: Input should be a valid string (found 1)",
        ),
        ({"chosen": "a", "rejected": "b"}, "f:1: the record is a pair of answers (redraft train reward "),
        ({"a": 1, "b": 2}, "f:1: the record has no known shape; its fields: 'a', 'b'.\n  A prompt is a te"),
        ({"message": [{}]}, "its fields: 'message'; 'message' is a list of objects: name it 'messages'."),
        (
            {"a": 1},
            'A prompt with an answer is {"instruction": "…", "output": "…"} or {"messages": […]}.',
        ),
        ({"version": 9, "steps": []}, "f:1: version is 9, but this redraft reads version 1\n  A newer"),
        ({"version": 1, "steps": [{}]}, "f:1: steps.0.answer: Field required"),
    ],
)
def test_a_bad_field_is_named(record: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=re.escape(message)):
        chain_of(record, "f:1")


NAMES = sorted(
    {name for _, record in SHAPE_OF for name in record} | {"from", "value", "role", "content", "output"}
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["human", "assistant"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from([record for _, record in SHAPE_OF]), st.dictionaries(st.sampled_from(NAMES), values))
def test_any_record_is_read_or_refused(good: dict[str, Any], changed: dict[str, Any]) -> None:
    for record in (changed, good | changed):
        try:
            chain = chain_of(record)
        except RecordError:
            continue
        assert Chain.from_json(chain.to_json()) == chain


def test_a_text_without_an_id_is_told_what_lacks() -> None:
    with pytest.raises(RecordError, match="has no known shape") as caught:
        read_shape({"text": "Describe rain."}, "a.jsonl:1")
    assert "'question_id'" in str(caught.value.hint)
    assert "{prompt: .text}" in str(caught.value.hint)


RIVERS = """
from redraft.chain import Prompt
from redraft.chain.read.fields import Format, Shape, answered

def read(fields):
    return answered(Prompt(instruction=f"Where does the {fields.text('river')} end?"), fields.text("prompt"))

RIVERS = Format([Shape("river", {"river", "prompt"}, read)])
"""


def test_a_format_of_another_package_is_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "some-rivers", {"redraft.formats": {"rivers": "some_rivers:RIVERS"}}, RIVERS)
    monkeypatch.syspath_prepend(tmp_path)
    shapes.cache_clear()
    try:
        chain = chain_of({"river": "Elbe", "prompt": "In the sea.", "length": 1094})
    finally:
        shapes.cache_clear()
        sys.modules.pop("some_rivers", None)
    assert (chain.prompt.text, chain.answer) == ("Where does the Elbe end?", "In the sea.")
    assert chain.meta["source"] == {"length": 1094}
