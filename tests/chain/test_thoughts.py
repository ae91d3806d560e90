"""Thoughts inside a text are an answer's reasoning: in records, on engines, in files, before any check."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.chain import Step
from redraft.chain.read.records import read_records
from redraft.chain.thoughts import PAIRS, Splitter, apart, tags_of
from redraft.chain.write import to_alpaca, to_messages, to_sharegpt
from redraft.checks.base import run_checks
from redraft.checks.parse import parse_check
from redraft.engines.base import Delta, Engine, EngineInfo, Replies
from redraft.engines.scripted import ScriptedEngine
from redraft.engines.wrapped import GuardedEngine

SAID = "<think>hm 42 </think>Rain falls."
HARMONY = (
    "<|channel|>analysis<|message|>We need 42.<|end|><|start|>assistant<|channel|>final<|message|>Rain falls."
)
SPLIT = [
    (SAID, "hm 42", "Rain falls."), ("\n<think>\nhm\n</think>\n\nRain\n\nfalls.", "hm", "Rain\n\nfalls."),
    ("<think>\n\n</think>\n\nRain falls.", "", "Rain falls."),
    ("<think>One.</think>Rain\n<think>Two.</think>\nfalls.", "One.Two.", "Rain\n\nfalls."),
    ("<think>cut off here", "cut off here", ""),
    ("the prompt opened it\n</think>\n\nRain falls.", "the prompt opened it", "Rain falls."),
    ("so 42</think>Rain falls.", "so 42", "Rain falls."), ("[THINK]hm[/THINK]Rain", "hm", "Rain"),
    ("◁think▷hm◁/think▷Rain", "hm", "Rain"), ("<|START_THINKING|>hm<|END_THINKING|>Rain", "hm", "Rain"),
    ("<reasoning>\nhm\n</reasoning>\nRain", "hm", "Rain"),
    ("hm</reasoning>\n<answer>\nRain\n</answer>", "hm", "<answer>\nRain\n</answer>"),
    ("<Thought>hm</Thought>Rain", "hm", "Rain"),
    ("<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>\nA\n<|end_of_solution|>", "hm", "A\n"),
    ("<unused94>thought\nhm<unused95>Rain", "hm", "Rain"),
    ("<|im_start|>think\nhm<|im_start|>answer\nRain", "hm", "Rain"), (HARMONY, "We need 42.", "Rain falls."),
    (f"{HARMONY}<|return|>", "We need 42.", "Rain falls."),
    ("<|channel|>final<|message|>Rain falls.", "", "Rain falls."),
    ("analysisWe need 42.assistantfinalRain falls.", "We need 42.", "Rain falls."),
]  # fmt: skip

WHOLE = [
    "", "Rain falls.", "  I think\n\nthat rain falls. ", "Write your thoughts between <think> and </think>.",
    "Close it with `</think>`, as in `hm</think>`.", "The tag </think> closes it.",
    "```\n<think>\nhm\n</think>\n```\nis a template.", '{"tags": ["<think>", "</think>"]}',
    "analysis of rain: assistantfinal", "An <|end|> token.",
]  # fmt: skip


@pytest.mark.parametrize(("text", "reasoning", "answer"), SPLIT)
def test_thoughts_are_reasoning(text: str, reasoning: str, answer: str) -> None:
    assert apart(text) == (reasoning, answer)
    step = Step(answer=text)
    assert (step.reasoning, step.answer) == (reasoning, answer)
    assert Step.model_validate_json(step.model_dump_json()) == step
    assert apart(step.written) == (reasoning, answer)


@pytest.mark.parametrize("text", WHOLE)
def test_prose_and_code_about_tags_stay_whole(text: str) -> None:
    assert apart(text) == ("", text)
    assert "reasoning" not in Step(answer=text).model_dump()


PIECES = st.sampled_from(
    [
        *(tag for pair in PAIRS for tag in pair),
        *("<", "|", "th", "```", "\n", " ", "Rain", ".", "[", "<scratch>"),
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_a_stream_split_anywhere_says_the_same(text: str, sizes: list[int]) -> None:
    whole, split = Splitter(), Splitter()
    said, pieces, place = [whole.add(text, last=True)], list[tuple[str, str]](), 0
    while place < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(split.add(text[place : place + size]))
        place += size
    pieces.append(split.add("", last=True))
    for each in (0, 1):
        assert "".join(piece[each] for piece in pieces) == "".join(piece[each] for piece in said)


QWEN = (
    r"{%- if reasoning_content %}{{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content"
    r".strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
)


@pytest.mark.parametrize(
    ("template", "written", "prompt", "closed_by"),
    [
        ("{{ message.content }}", (), "<think>", "</think>"),
        (QWEN, ("<think>", "</think>"), "<|im_start|>assistant\n<think>\n", "</think>"),
        (QWEN, ("<think>", "</think>"), "<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        (
            "{% if m.thinking %}<scratch>{{ m.thinking }}</scratch>{% endif %}",
            ("<scratch>", "</scratch>"),
            "<scratch>",
            "</scratch>",
        ),
    ],
)
def test_a_template_names_tags_and_may_open_one(
    template: str, written: tuple[str, ...], prompt: str, closed_by: str
) -> None:
    tags = tags_of(template)
    assert (tags.written, tags.opened(prompt)) == (written, closed_by)
    for start, close in tags.pairs[len(PAIRS) :]:
        assert Splitter(tags.pairs).add(f"{start}hm{close}Rain") == ("hm", "Rain")


def chain_of(reply: str, chunk: int, *checks: str, **more: object) -> redraft.Chain:
    return redraft.revise("Describe rain.", model=ScriptedEngine([reply], chunk=chunk), checks=checks, **more)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("reply", [SAID, HARMONY, "hm 42 </think>Rain falls."])
def test_checks_and_the_record_see_the_answer_alone(reply: str, chunk: int) -> None:
    chain = chain_of(reply, chunk, "words<=3", "number=42", max_revisions=0)
    assert chain.answer == "Rain falls."
    assert "42" in chain.steps[0].reasoning
    assert [result.passed for result in chain.steps[0].checks] == [True, False]


def test_thoughts_alone_are_no_answer() -> None:
    with pytest.raises(redraft.RedraftError, match="thoughts alone"):
        chain_of("<think>It goes on and on", 4, max_revisions=0)


def test_a_critic_that_thinks_decides_by_its_words() -> None:
    replies = ["Rain falls.", "<think>Revision is needed?</think>It is good. Revision is not needed."]
    chain = redraft.revise("Describe rain.", model=ScriptedEngine(replies), mode="prompted")
    assert chain.steps[0].feedback is not None
    assert (chain.stop, chain.steps[0].feedback.reasoning) == ("accepted", "Revision is needed?")


class Plugin(Engine):
    info = EngineInfo("other", "other", chats=True)

    async def chat(self, *_: object) -> Replies:
        for piece in ("<thi", "nk>hm</think>", "Rain."):
            yield Delta(piece)
        yield Delta(finish="stop", completion_tokens=3)


def test_an_engine_of_a_package_thinks_apart() -> None:
    chain = redraft.revise("Describe rain.", model=GuardedEngine(Plugin()), max_revisions=0)
    assert (chain.answer, chain.steps[0].reasoning) == ("Rain.", "hm")


def test_answers_that_are_given_are_split(tmp_path: Path) -> None:
    [found] = asyncio.run(run_checks([parse_check("words<=3")], SAID, redraft.Prompt()))
    assert found.passed
    file = tmp_path / "answers.jsonl"
    records = [
        {"prompt": "Describe rain.", "response": SAID},
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": SAID}]},
        {"version": 1, "prompt": {"instruction": "?"}, "steps": [{"answer": SAID}], "best": 0},
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    for chain in read_records(file):
        assert (chain.answer, chain.steps[0].reasoning) == ("Rain falls.", "hm 42")
        for make in (to_alpaca, to_sharegpt, to_messages):  # and no export loses them
            assert "hm 42" in json.dumps(make(chain))
