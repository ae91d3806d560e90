"""A patch writes only what failed: what is around it stays to the byte, and a misfit is not taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

import redraft
from redraft.chain import CheckResult, Step
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.json_reading import keys_of, pointer, span_of
from redraft.checks.schema import list_of_one
from redraft.engines.base import EngineInfo, Message, Replies, Sampling
from redraft.engines.steering.draft import segment_of
from redraft.errors import CheckError
from redraft.revision.budget import Budget
from tests.revision.play import NATIVE, Stream, plan, play

OWLS = (
    "Owls hunt at night. They see well in the dark, as Dr. Hale says. "
    "A mouse is what they like best. They live in woods and in barns."
)
QUESTION = "Tell me about owls."
PERSON = (
    '{\n  "name": "Ada Lovelace",\n  "born": "long ago",\n  "city": "London",\n  "trade": "mathematician"\n}'
)


class Person(BaseModel):
    name: str
    born: int
    city: str
    trade: str


class Steered(redraft.ScriptedEngine):
    """Replies to the beginning of an answer, and keeps what it was asked; other replies are `again`."""

    def __init__(self, replies: Sequence[str], again: str = "Another text.") -> None:
        super().__init__(replies, resumes=True)
        self.asked: list[Sampling] = []
        self.again = redraft.ScriptedEngine([again])

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, schemas=True, forms=True)

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        self.asked.append(sampling)
        one = sampling.form is not None and sampling.form.one
        return (super() if sampling.begun or one else self.again).chat(messages, sampling, stop)


def owls(engine: Steered, **options: Any) -> redraft.Chain:
    return redraft.revise(QUESTION, model=engine, **{"given": OWLS, "checks": ["lacks:mouse"], **options})


def person(engine: Steered, answer: str, **options: Any) -> redraft.Chain:
    return redraft.revise("Who was Ada?", model=engine, **{"given": answer, "output": Person, **options})


def test_the_sentence_with_a_forbidden_word_is_written_anew() -> None:
    engine = Steered([" Voles feed them well. They also"])
    chain = owls(engine)
    assert chain.answer == OWLS.replace("A mouse is what they like best.", "Voles feed them well.")
    assert (chain.stop, chain.passed, chain.revisions) == ("passed", True, 1)
    (begin, end) = chain.steps[1].patch[0]
    assert chain.answer[begin:end] == "Voles feed them well."
    (asked,) = engine.asked
    assert asked.begun == OWLS.partition(" A mouse")[0]
    assert asked.form is not None
    assert (asked.form.one, asked.form.lacks) == (True, ("mouse",))
    assert [message["content"] for message in engine.calls[0]] == [
        f'{QUESTION}\n\nDo not use "mouse" in the answer.'
    ]


def test_another_try_follows_one_that_fails_repeats_or_does_not_end() -> None:
    endless = "and so on " * 40
    chain = owls(Steered(["A mouse again.", "They live in woods and in barns.", endless, "Voles do."]))
    assert (chain.revisions, chain.passed) == (1, True)
    assert "Voles do. They live" in chain.answer
    assert chain.steps[1].usage.completion_tokens > 4 * len("Voles do.")


def test_after_a_patch_in_vain_the_next_way_follows() -> None:
    engine = Steered(["A mouse again."])
    chain = owls(engine)
    assert [bool(step.patch) for step in chain.steps] == [False, True, False]
    assert (chain.stop, chain.answer) == ("passed", "Another text.")
    assert [bool(sampling.begun) for sampling in engine.asked] == [True] * 4 + [False]


def test_a_patch_that_comes_closer_is_followed_by_another() -> None:
    checks = ["lacks:mouse", "lacks:night"]
    engine = Steered(
        ["By night they hunt.", "Voles.", *["By night.", "Voles feed them."] * 3, "By day.", "Mice."]
    )
    chain = owls(engine, checks=checks)
    assert [bool(step.patch) for step in chain.steps] == [False, True, True]
    assert chain.passed


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "verified"},
        {"min_revisions": 1},
        {"checks": ["words<=5", "lacks:mouse"]},  # one does not know where
        {"given": "A mouse is what owls like best. They do."},  # more than half of it
        {"tools": [{"type": "function", "function": {"name": "look"}}]},
    ],
)
def test_elsewhere_a_revision_is_whole(options: dict[str, Any]) -> None:
    engine = Steered(["Voles."])
    chain = owls(engine, max_revisions=1, **options)
    assert not any(sampling.begun for sampling in engine.asked)
    assert chain.revisions == 1


def test_a_text_that_was_ended_at_a_fault_goes_on_from_its_sentence() -> None:
    engine = Steered(["They eat voles. They live in barns."], again=OWLS + " And more." * 40)
    chain = redraft.revise(QUESTION, model=engine, checks=["lacks:mouse"])
    assert [step.finish for step in chain.steps] == ["lost", "stop"]
    assert chain.answer == f"{OWLS.partition(' A mouse')[0]} They eat voles. They live in barns."
    assert engine.asked[1].form is not None
    assert not engine.asked[1].form.one


@pytest.mark.parametrize(
    ("answer", "mended"),
    [
        (PERSON, PERSON.replace('"long ago"', "1815")),
        (
            PERSON.replace(' "born": "long ago",\n ', ""),
            PERSON.replace('"born": "long ago",\n  ', "")[:-2] + ',\n  "born": 1815\n}',
        ),
        (f"Here:\n```json\n{PERSON}\n```", f"Here:\n```json\n{PERSON}\n```".replace('"long ago"', "1815")),
    ],
)
def test_a_value_that_is_wrong_or_missing_is_written_by_its_own_schema(answer: str, mended: str) -> None:
    engine = Steered(["[1815]"])
    chain = person(engine, answer)
    assert chain.answer == mended
    assert chain.value == Person(name="Ada Lovelace", born=1815, city="London", trade="mathematician")
    assert chain.steps[1].patch == ("/born",)
    (asked,) = engine.asked
    assert asked.begun.endswith('"born":')
    assert asked.schema is not None
    assert asked.schema["items"]["type"] == "integer"


def test_a_validator_is_told_from_the_second_try_on() -> None:
    class Even(Person):
        @field_validator("born")
        @classmethod
        def _even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("it should be even")
            return value

    engine = Steered(["[1815]", "[1816]"])
    chain = person(engine, PERSON.replace('"long ago"', "1817"), output=Even)
    assert chain.value.born == 1816
    said = [call[-1]["content"] for call in engine.calls]
    assert ["it should be even" in each for each in said] == [False, True]


def test_records_without_places_stay_as_they_were() -> None:
    result = CheckResult(name="a", passed=False, score=0.0, message="m")
    assert "places" not in result.model_dump_json()
    assert "patch" not in Step(answer="a").model_dump_json()
    step = Step(answer="a", patch=((0, 1), "/b"))
    assert Step.model_validate_json(step.model_dump_json()) == step


def test_a_check_of_ones_own_gives_places() -> None:
    class NoMouse:
        name = "no mouse"

        def check(self, answer: str, prompt: redraft.Prompt) -> Outcome:
            at = answer.find("mouse")
            return passed("None.") if at < 0 else failed("A mouse.", places=[(at, at + 5)])

    assert owls(Steered(["Voles do."]), checks=[NoMouse()]).steps[1].patch
    NoMouse.check = lambda self, answer, prompt: failed("A mouse.", places=["here", 3])  # type: ignore[assignment,list-item]
    with pytest.raises(CheckError, match="wrong outcome"):
        owls(Steered(["Voles do."]), checks=[NoMouse()])


def test_lost_budgets_and_cut_chains_are_as_elsewhere() -> None:
    engine = Steered(["A mouse again and again and again."])
    chain = owls(engine, budget=Budget(tokens=20))
    assert chain.stop == "budget"
    assert chain.usage.completion_tokens <= 20
    again = owls(Steered(["Voles do."]), resume=chain)
    assert (again.passed, [bool(step.patch) for step in again.steps]) == (True, [False, True])


words = st.text(st.sampled_from('ab .\n-1é½,{}"'), max_size=12)


@given(words, words, words)
def test_a_segment_holds_its_place_and_no_line_break(before: str, place: str, behind: str) -> None:
    assume("\n" not in place and place.strip())
    text = before + place + behind
    begin, end = segment_of(text, len(before), len(before) + len(place))
    assert begin <= len(before) <= len(before) + len(place) <= end
    assert "\n" not in text[begin:end]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(["Cats sleep.", "A mouse ran!", "Dr. No came.", "½ the ﬁsh, é."]), min_size=3),
    words,
)
def test_what_is_outside_a_patch_stays_to_the_byte(said: list[str], new: str) -> None:
    text = " ".join(said)
    results = redraft.parse_check("lacks:mouse").check(text, redraft.Prompt())
    assert isinstance(results, Outcome)
    assert [text[begin:end] for begin, end in results.places] == ["mouse"] * text.count("mouse")  # type: ignore[misc]
    chain = owls(Steered([new or "x"]), given=text, max_revisions=1)
    if not (chain.steps[1:] and chain.steps[1].patch):
        return
    last, rest, at = chain.steps[1], text, 0
    for begin, end in last.patch:  # type: ignore[misc]
        kept = last.answer[at:begin]
        assert rest.startswith(kept)
        rest, at = rest[len(kept) :].removeprefix("A mouse ran!"), end
    assert rest == last.answer[at:]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab/~"é', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


def paths(value: Any) -> list[list[str]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [[], *([str(key), *path] for key, inner in pairs for path in paths(inner))]


@given(values, st.sampled_from([None, 2]))
def test_every_value_of_an_object_is_found_by_its_pointer(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    for path in paths(value):
        assert keys_of(pointer(path)) == path
        begin, end, lead = span_of(text, path) or (0, 0, "?")
        found = value
        for key in path:
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert (json.loads(text[begin:end]), lead) == (found, "")


@pytest.mark.parametrize(
    ("schema", "path", "used", "items"),
    [
        ({"properties": {"a": {"type": "integer"}}}, "/a", 1, {"type": "integer"}),
        (
            {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"properties": {"b": {"const": 1}}}}},
            "/3/b",
            2,
            {"const": 1},
        ),
        (
            {"properties": {"a": {"anyOf": [{"items": {"const": 1}}, {"type": "null"}]}}},
            "/a/0",
            2,
            {"const": 1},
        ),
        (
            {"properties": {"a": {"anyOf": [{"items": {}}, {"type": "object"}]}}},
            "/a/0",
            1,
            {"anyOf": [{"items": {}}, {"type": "object"}]},
        ),
        ({"additionalProperties": {"const": 1}}, "/x", 1, {"const": 1}),
    ],
)
def test_the_smallest_value_with_a_schema_of_its_own(schema: Any, path: str, used: int, items: Any) -> None:
    found = list_of_one(schema, keys_of(path))
    assert found is not None
    assert (found[0], found[1]["items"]) == (used, items)
    assert list_of_one({"properties": {"a": {"$ref": "#"}}}, ["a"]) is None


@pytest.mark.model
def test_the_default_model_patches_a_text_and_an_object(default_model: Path) -> None:
    options: dict[str, Any] = {"model": str(default_model), "seed": 1}
    chain = redraft.revise(QUESTION, given=OWLS, checks=["lacks:mouse"], **options)
    before, behind = OWLS.split("A mouse is what they like best.")
    assert chain.passed
    assert chain.steps[1].patch
    assert chain.answer.startswith(before)
    assert chain.answer.endswith(behind)
    asked = "Ada Lovelace, a mathematician of London, was born in 1815. Give her data."
    made = redraft.revise(asked, given=PERSON, output=Person, **options)
    first, last = PERSON.split('"long ago"')
    assert made.passed
    assert made.answer.startswith(first)
    assert made.answer.endswith(last)
    assert made.steps[1].usage.completion_tokens <= 60


@settings(deadline=None)
@given(
    st.lists(
        st.builds(Stream, st.sampled_from(["", "bad", "A mouse.", "Voles do.", "no end"])),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 4),
    st.none() | st.integers(1, 60),
)
def test_the_loop_ends_within_its_limits(streams: list[Stream], most: int, tokens: int | None) -> None:
    info = replace(NATIVE, resumes=True)
    made = plan(
        mode="verified",
        checks=("toy",),
        patches=True,
        info=info,
        told=2,
        max_revisions=most,
        given=OWLS,
        budget=Budget(tokens=tokens),
    )
    chain = play(made, streams, lambda answer: "mouse" not in answer).chain
    assert len(chain.steps) <= most + 1
    assert tokens is None or chain.usage.completion_tokens <= tokens
    assert chain.stop
