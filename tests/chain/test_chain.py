from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import (
    Chain,
    CheckResult,
    Feedback,
    Finish,
    Prompt,
    Step,
    Stop,
    Usage,
    Verdict,
    read_jsonl,
    write_jsonl,
)
from redraft.chain.texts import turns_of
from redraft.errors import OutputError, RecordError, UsageError
from tests.chain.test_spans import talk

numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=3)
unknown = st.dictionaries(
    st.sampled_from(["x", "answers", "value", "passed", "model_config", "_value", "ünïcode"]),
    json_values,
    max_size=2,
)
usages = st.builds(
    Usage,
    prompt_tokens=counts,
    cached_tokens=counts,
    completion_tokens=counts,
    seconds=numbers,
    cost_usd=st.none() | numbers,
)
checks = st.builds(
    CheckResult, name=st.text(), passed=st.booleans(), score=st.floats(0, 1), message=st.text()
)
feedbacks = st.builds(
    Feedback,
    text=st.text(),
    verdict=st.sampled_from(get_args(Verdict)),
    by=st.sampled_from(["model", "checks", "both"]),
    checks=st.lists(checks, max_size=2).map(tuple),
)
steps = st.builds(
    Step,
    answer=st.text(),
    feedback=st.none() | feedbacks,
    finish=st.sampled_from(get_args(Finish)),
    usage=usages,
    echo=st.booleans(),
)
prompts = st.builds(
    Prompt,
    instruction=st.text(),
    input=st.text(),
    messages=st.none() | st.lists(objects, max_size=2).map(tuple),
)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    made = tuple(draw(st.lists(steps, max_size=3)))
    return Chain(
        id=draw(st.text()),
        prompt=draw(prompts),
        steps=made,
        best=draw(st.none() | st.integers(0, len(made) - 1)) if made else None,
        stop=draw(st.none() | st.sampled_from(get_args(Stop))),
        model=draw(objects),
        sampling=draw(objects),
        usage=draw(usages),
        meta=draw(objects),
    )


class TestRoundTrip:
    @pytest.mark.slow
    @given(chains())
    def test_nothing_is_lost(self, chain: Chain) -> None:
        line = chain.to_json()
        assert "\n" not in line
        assert (Chain.from_json(line), Chain.from_json(line.encode()).to_json()) == (chain, line)

    @given(chains(), unknown, unknown, unknown)
    def test_unknown_fields_are_kept_wherever_they_are(
        self, chain: Chain, top: dict[str, Any], inner: dict[str, Any], deep: dict[str, Any]
    ) -> None:
        record = {**top, **json.loads(chain.to_json())}
        record["prompt"] = {**inner, **record["prompt"]}
        record["steps"] = [{**inner, **step} for step in record["steps"]]
        for step in record["steps"]:
            step["feedback"] = step["feedback"] and {**deep, **step["feedback"]}
            step["usage"] = {**deep, **step["usage"]}
        assert json.loads(Chain.from_json(json.dumps(record)).to_json()) == record

    def test_other_programs_find_the_answer_and_read_it_again(self) -> None:
        checked = CheckResult(name="words<=1", passed=True, score=1.0, message="Fine.")
        step = Step(answer='{"n": 1}', feedback=Feedback(text="", verdict="accept", checks=(checked,)))
        chain = Chain(id="a", steps=(step,), best=0).with_value({"n": 1})
        record = json.loads(chain.to_json())
        assert (record["answer"], record["passed"], record["value"]) == ('{"n": 1}', True, {"n": 1})
        read = Chain.from_json(json.dumps({**record, "answer": "forged", "passed": False}))
        assert (read, read.model_extra, read.to_json()) == (chain, {}, chain.to_json())
        assert read.model_copy(update={"id": "b"}).value == {"n": 1}
        assert read.model_copy(update={"steps": (Step(answer="2"),)}).value is None
        assert Chain(steps=(step,), best=0).with_value(float("nan")).to_json().endswith('"value":null}')

    @pytest.mark.parametrize("kind", [Path, str])
    def test_files(self, tmp_path: Path, kind: Callable[[Path], Path | str]) -> None:
        path, made = kind(tmp_path / "chains.jsonl"), [Chain(id="a"), Chain(id="ü\u2028\ufffd")]
        write_jsonl(path, made)
        assert list(read_jsonl(path)) == made

    def test_a_file_is_whole_or_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "x.jsonl"
        write_jsonl(path, [Chain(id="old")])

        def failing() -> Any:
            yield Chain(id="new")
            raise RuntimeError("cut")

        with pytest.raises(RuntimeError, match="cut"):
            write_jsonl(path, failing())
        assert [chain.id for chain in read_jsonl(path)] == ["old"]


class TestErrors:
    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
            ('{"id": "a"', "Invalid JSON: EOF while parsing an object at line 1 column 10"),
            (
                '{"version": 2}',
                "version is 2, but this redraft reads version 1\n  A newer redraft made this file: ",
            ),
            ('{"steps": [{}]}', "steps.0.answer: Field required"),
            (
                '{"steps": [{"answer": "a", "feedback": {"text": "f", "verdict": "maybe"}}]}',
                "steps.0.feedback.verdict: Input should be 'accept', 'revise' or 'unknown' (found 'maybe')",
            ),
            ('{"best": 0}', "best is 0, but the number of steps is 0"),
            (
                '{"id": 1, "steps": 2}',
                "id: Input should be a valid string (found 1); steps: Input should be a valid",
            ),
            ('{"id": ' + "[" * 70 + "]" * 70 + "}", "id: Input should be a valid string (found [[["),
        ],
    )
    def test_what_is_wrong_is_said(self, line: str, message: str) -> None:
        with pytest.raises(RecordError, match=r"^out\.jsonl:12: " + re.escape(message)):
            Chain.from_json(line, where="out.jsonl:12")

    def test_a_file_names_the_line(self, tmp_path: Path) -> None:
        path = tmp_path / "x.jsonl"
        path.write_text(f"{Chain().to_json()}\n\n{{}}\nnot JSON\n")
        with pytest.raises(RecordError, match=re.escape(f"{path}:4: Invalid JSON: ")):
            list(read_jsonl(path))


class TestMeaning:
    def test_the_answer_is_the_best_one(self) -> None:
        made = (Step(answer="a"), Step(answer="b"))
        assert (Chain(steps=made, best=0).answer, Chain(steps=made).answer) == ("a", "")
        assert (Chain(steps=made).revisions, Chain().revisions) == (1, 0)

    def test_the_score_is_the_mean_whatever_weight_an_old_record_names(self) -> None:
        results = (
            CheckResult(name="x", passed=True, score=1.0, message="", weight=3.0),  # type: ignore[call-arg]
            CheckResult(name="y", passed=False, score=0.0, message=""),
        )
        step = Step(answer="a", feedback=Feedback(text="", verdict="revise", by="checks", checks=results))
        assert (step.score, step.passed) == (0.5, False)
        assert Chain(steps=(step,), best=0).passed is False
        assert (Step(answer="a").score, Step(answer="a").passed) == (None, None)
        assert json.loads(results[1].model_dump_json()).keys() == {"name", "passed", "score", "message"}

    def test_a_step_is_complete_when_it_ended_or_was_judged(self) -> None:
        judged = Feedback(text="f", verdict="revise")
        assert Step(answer="a").complete
        assert Step(answer="a", feedback=judged, finish="max_tokens").complete
        assert not Step(answer="a", finish="max_tokens").complete

    def test_the_prompt_in_words(self) -> None:
        assert Prompt(instruction="i", input="x").text == "i\n\nx"
        assert talk("a", "b", "c").prompt.text == "c"
        parts = [{"type": "text", "text": "see "}, {"type": "image_url"}, {"type": "text", "text": "this"}]
        assert Prompt(messages=({"role": "user", "content": parts},)).text == "see this"
        assert Prompt(messages=({"role": "system", "content": "s"},)).text == ""

    @given(usages, usages)
    def test_usage_adds_up(self, one: Usage, other: Usage) -> None:
        both = one + other
        assert both.prompt_tokens == one.prompt_tokens + other.prompt_tokens
        assert (both.cost_usd is None) == (one.cost_usd is None and other.cost_usd is None)
        assert one + Usage() == one


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["no/out.jsonl", "."])
def test_files_that_cannot_be_opened_are_errors_of_redraft(name: str) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_jsonl(name, [])
    with pytest.raises(UsageError, match="cannot read"):
        list(read_jsonl(name))


def test_only_chains_are_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5 is not a chain"):
        write_jsonl(tmp_path / "out.jsonl", [5])  # type: ignore[list-item]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("role", [5, {"a": 1}, None])
def test_the_role_of_a_turn_is_a_text_whatever_a_message_has(role: Any) -> None:
    chain = Chain(prompt=Prompt(messages=({"role": role, "content": "a"},)))
    assert [turn.role for turn in turns_of(chain)] == [str(role)]


def test_a_printed_chain_is_short() -> None:
    chain = Chain(prompt=Prompt(instruction="Hi."), steps=(Step(answer="A"),), best=0, stop="accepted")
    assert str(chain) == "Chain(answer='A', passed=None, stop='accepted')"


def test_fields_that_say_nothing_are_not_in_the_record() -> None:
    empty = Step(answer="A", feedback=Feedback(text="B", verdict="accept")).model_dump()
    assert empty.keys() == {"answer", "feedback", "finish", "usage", "echo"}
    assert empty["feedback"].keys() == {"text", "verdict", "by", "checks"}
    assert "estimated" not in empty["usage"]
    told: dict[str, Any] = {"tool_calls": ({"id": "1"},), "fresh": True, "steered": ("x",), "reasoning": "C"}
    full = Step(answer="A", usage=Usage(estimated=True), **told).model_dump()
    assert {name: full[name] for name in told} == told
    assert full["usage"]["estimated"]
