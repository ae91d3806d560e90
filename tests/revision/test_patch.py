"""A patch writes only what failed: what is around it stays to the byte, and a misfit is not taken."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel

import redraft
from redraft.chain import CheckResult, Step, is_blank
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.code import CodeCheck
from redraft.checks.json_reading import keys_of, pointer, pointer_at, span_of
from redraft.checks.schema import schema_at
from redraft.engines.base import EngineInfo, Message, Replies, Sampling
from redraft.engines.steering.form import Form, Gap
from redraft.errors import CheckError
from redraft.revision.patch import values_of
from redraft.revision.replies import pieces_of
from tests.engines.able import Able

ABLE = {"forms": True, "logprobs": True, "resumes": True}
FIRST, MOUSE = "Owls hunt at night. They see in the dark, as Dr. Hale says.", "A mouse is what they like."
OWLS = f"{FIRST} {MOUSE} They live in barns."
PERSON = '{\n  "name": "Ada King",\n  "born": "long ago",\n  "city": "London",\n  "trade": "mathematician"\n}'
BORN = '"born": "long ago"'


class Person(BaseModel):
    name: str
    born: int
    city: str
    trade: str


def even(value: int) -> int:
    if value % 2:
        raise ValueError("it should be even")
    return value


class Steered(redraft.ScriptedEngine):
    def __init__(self, *replies: str, again: str = "Another text.") -> None:
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


def owls(engine: redraft.ScriptedEngine, **options: Any) -> redraft.Chain:
    given = {"model": engine, "given": OWLS, "checks": ["lacks:mouse"], **options}
    return redraft.revise("Tell me about owls.", **given)


def test_the_sentence_with_a_forbidden_word_is_written_anew() -> None:
    engine = Steered(" Voles feed them well. They also")
    chain = owls(engine)
    assert chain.answer == OWLS.replace(MOUSE, "Voles feed them well.")
    assert (chain.stop, chain.revisions) == ("passed", 1)
    ((begin, end),) = chain.steps[1].patch  # type: ignore[misc]
    assert chain.answer[begin:end] == "Voles feed them well."
    (asked,) = engine.asked
    assert (asked.begun, asked.form) == (FIRST, Form(one=True, lacks=("mouse",)))


def test_another_word_comes_first_and_then_another_sentence() -> None:
    engine = Able([" vole is what they like."], about=ABLE)
    chain = owls(engine)
    assert chain.answer == OWLS.replace("mouse", "vole")
    assert engine.asked[0].begun == f"{FIRST} A"
    rest = " is what they like."
    near = frozenset(re.findall(r"\w+", "dark as dr hale says a is what they like live"))  # six on each side
    assert engine.asked[0].form == Form(one=True, lacks=("mouse",), gap=Gap(" mouse", rest, rest, True, near))
    for text in (OWLS, f"{FIRST}\n{MOUSE} They live in barns."):  # "A" is a part of the place, or not
        chain = owls(Able([" owl is what they like."], about=ABLE), given=text)
        assert chain.answer == text.replace("A mouse", "An owl")
    chain = owls(Able([" bird would do. They"], about=ABLE))  # from the word on, its sentence is another
    assert chain.answer == OWLS.replace(MOUSE, "A bird would do.")
    short = "A mouse is what owls like best. They do."  # most of it stays, whatever the sentence's length
    assert owls(Able([" vole is what owls like best."], about=ABLE), given=short).steps[1].patch == ((2, 30),)
    chain = owls(Able(["", "Voles do."], about=ABLE))
    assert (chain.answer, chain.usage.completion_tokens) == (OWLS.replace(MOUSE, "Voles do."), 9)


BEHIND = "\n\nOwls hunt at night, and they see in the dark as well as anyone does. They live in woods."


@pytest.mark.parametrize(
    ("given", "reply", "answer"),
    [
        ("- a mouse\n- a rat", "[1] - a vole", "- a vole\n- a rat"),
        ("1. A mouse.\n2. A rat.", "[1] 1. A vole.", "1. A vole.\n2. A rat."),
        ("# The mouse", "# The vole", "# The vole"),
        ("| x | a mouse |", "[1] | x | a vole |", "| x | a vole |"),
        ("A mouse is food. It eats.", "[1] A vole is food", "A vole is food. It eats."),
        ("A mouse is food. It eats.", '[1] "A vole is food."', "A vole is food. It eats."),
        (
            "A mouse is. The mouse eats. So.",
            "[1] A vole is. [2] The vole eats.",
            "A vole is. The vole eats. So.",
        ),
        ("- red nuts\n- a mouse", "[1] nuts", "- red nuts\n- nuts"),  # which the answer has elsewhere
    ],
)
def test_a_reply_loses_what_stands_around_its_place(given: str, reply: str, answer: str) -> None:
    engine = redraft.ScriptedEngine([reply])
    chain = redraft.revise("?", model=engine, given=given + BEHIND, checks=["lacks:mouse"], max_revisions=1)
    assert (chain.answer, chain.passed) == (answer + BEHIND, True)


def test_a_text_that_has_no_room_is_not_written_anew_as_a_whole() -> None:
    text = "A mouse eats." + BEHIND * 2
    engine = redraft.ScriptedEngine(["A mouse eats.", "Another text."])
    chain = redraft.revise("?", model=engine, given=text, checks=["lacks:mouse"], max_tokens=20)
    assert (chain.answer, chain.stop) == (text, "unchanged")


def test_the_same_sentence_is_not_put_in_twice() -> None:
    new = "They sleep under the big old oak behind the barn."
    given = f"{FIRST} A mouse is food. {FIRST} So is a mouse at night. {FIRST} {FIRST}"
    assert owls(Steered(new, again=new), given=given, max_revisions=1).answer.count(new) == 1


def test_a_text_in_json_keeps_its_kind_and_the_fault_is_told() -> None:
    engine = Able(['{"/bio": "A wide mind"}'], about={"schemas": True})
    given = json.dumps({"name": "Ada", "bio": "A big mind"}, indent=1).replace("\n", "\r\n")
    chain = redraft.revise("?", model=engine, given=given, checks=["keys:name,bio", "lacks:big"])
    assert chain.answer == given.replace("big", "wide")
    assert engine.asked[0].schema["properties"] == {"/bio": {"type": "string"}}  # type: ignore[index]
    assert 'Wrong: The answer contains "big" once' in engine.calls[0][-1]["content"]  # type: ignore[index]


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_a_wrong_number_is_replaced_by_others_and_then_its_sentence(temperature: float) -> None:
    def sums(answer: str) -> Outcome:
        found = [each for each in re.finditer(r"= (\d+)", answer) if each[1] not in ("12", "36")]
        return failed("A sum is wrong.", places=[each.span(1) for each in found]) if found else passed("")

    text = "They catch 3 * 4 = 52 crabs. Of 100 - 64 = 36 fish they eat all. It is summer, and warm there."
    others = tuple(f" {number} crabs." for number in (12, 13, 14, 16))
    engine = Able([" 15 crabs.", " catch some."], about=ABLE, others=others)
    chain = redraft.revise("?", model=engine, given=text, checks=[sums], temperature=temperature)
    assert (chain.answer, len(engine.asked)) == (text.replace("52", "12"), 1)
    engine = Able([" 15 crabs.", " catch some."], about=ABLE, others=others[1:] * 2)
    chain = redraft.revise("?", model=engine, given=text, checks=[sums], temperature=temperature)
    assert chain.answer == text.replace("They catch 3 * 4 = 52 crabs.", "They catch some.")
    assert len(chain.steps) == 2
    engine, no = Able([" 15 crabs."], about=ABLE), failed("No.", places=[(18, 27)])  # not only the number
    redraft.revise("?", model=engine, given=text, checks=[lambda answer: no if "52" in answer else True])
    assert engine.asked[0].form.gap.old == " 52 crabs"  # type: ignore[union-attr]
    two = text.replace("36", "30")  # nothing fits the second, which is asked for first
    engine = Able([" 30 fish they eat all.", " 12 crabs.", " Of the fish they eat some."], about=ABLE)
    chain = redraft.revise("?", model=engine, given=two, checks=[sums], temperature=temperature)
    assert chain.answer.startswith("They catch 3 * 4 = 12 crabs. Of the fish they eat some."), chain.answer


@pytest.mark.parametrize(
    ("sentence", "gap"),
    [
        ("Mouse, they say, is food.", ("Mouse", ", they say, is food.", "They say, is food.")),
        ("A rat, mouse, or hare.", (" mouse", ", or hare.", " or hare.")),
        ("A rat (a mouse), or hare.", (" mouse", "), or hare.", "), or hare.")),
        ("A mouse, mouse eats.", (" mouse, mouse", " eats.", " eats.")),
        ("A dormouse eats.", None),  # a part of a word
        ("A mouse and mouse.", (" mouse", ".", ".")),  # of two places, the last one comes first
        ("Pets: a mouse", None),  # nothing follows it
    ],
)
def test_a_word_and_what_stands_around_it(sentence: str, gap: Any) -> None:
    engine, given = Able([""], about=ABLE), f"{sentence} \n\nOwls hunt at night, and sleep by day."
    owls(engine, given=given, checks=["lacks[part]:mouse"], max_revisions=1)
    form: Any = engine.asked[0].form
    assert (form.gap and form.gap[:3]) == gap


def test_two_words_of_a_sentence_are_each_replaced_alone() -> None:
    given = OWLS.replace("they like", "an old mouse likes")
    filled = Able([" owl likes.", " hare is what an old"], about=ABLE)
    chain = owls(filled, given=given, checks=["lacks:mouse"])
    assert chain.answer == OWLS.replace(MOUSE, "A hare is what an old owl likes.")
    begin = len(FIRST) + 1
    assert chain.steps[1].patch == ((begin, begin + 21), (begin + 22, begin + 32))
    none = Able([" owl likes.", " hare that", " A hare is food. They"], about=ABLE)
    chain = owls(none, given=given)  # as nothing fits the first one, the sentence is written anew
    assert chain.answer == OWLS.replace(MOUSE, "A hare is food.")


def test_a_word_does_not_come_twice_over_the_seam() -> None:
    given = f"{FIRST}\n{MOUSE} They live in barns."
    chain = owls(Steered(" a vole is food.", " vole is food."), given=given)
    assert chain.answer == given.replace(MOUSE, "A vole is food.")


TABLE = "| owl | food |\n|---|---|\n| barn owl | a mouse. A rat |\n| eagle owl | hares |\n"


@pytest.mark.parametrize("engine", [Steered(" voles |"), redraft.ScriptedEngine(["[1] voles"])], ids=str)
def test_a_cell_of_a_table_is_written_anew(engine: redraft.ScriptedEngine) -> None:
    assert owls(engine, given=TABLE).answer == TABLE.replace("a mouse. A rat", "voles")


def test_another_try_follows_one_that_fails_repeats_or_does_not_end() -> None:
    chain = owls(Steered("A mouse again.", "They live in barns.", "and so on " * 40, "Voles do."))
    assert (chain.revisions, chain.answer) == (1, OWLS.replace(MOUSE, "Voles do."))
    assert chain.usage.completion_tokens > len("A mouse again. They live in barns.")


def test_only_a_patch_that_comes_closer_is_followed_by_another() -> None:
    engine = Steered("A mouse again.")
    chain = owls(engine)
    assert [bool(step.patch) for step in chain.steps] == [False, True, False]
    assert (chain.answer, len(engine.asked)) == ("Another text.", 5)
    engine = Steered(*[" wake at night.", "Voles do."] * 4, "by day.", " wake by day.")
    chain = owls(engine, checks=["lacks:mouse", "lacks:night"])
    assert engine.asked[0].begun == "Owls"  # the first word of a line stays
    assert [bool(step.patch) for step in chain.steps] == [False, True, True]
    engine = Steered(", they say, eat voles. They", " eat voles. They")
    assert owls(engine, given=f"Owls eat a mouse. {FIRST} So.").answer == f"Owls eat voles. {FIRST} So."
    engine = Steered("voles are what they like.")
    chain = owls(engine, given=f"{FIRST}\n\nSo, a mouse is what they like. They live in barns.")
    assert "\n\nSo, voles are what they like. They live" in chain.answer


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
    engine = Steered("Voles.")
    assert owls(engine, max_revisions=1, **options).revisions == 1
    assert not any(sampling.begun for sampling in engine.asked)


def test_a_text_that_was_ended_at_a_fault_goes_on_from_its_sentence() -> None:
    engine = Steered("They eat a mouse. They live in barns.", "They eat voles. And", again=OWLS + " So." * 90)
    chain = owls(engine, given="")
    assert [(step.finish, bool(step.patch)) for step in chain.steps] == [("lost", 0), *[("stop", 1)] * 2]
    assert chain.answer == f"{FIRST} They eat voles. They live in barns."


WITHOUT = PERSON.replace(f"{BORN},\n  ", "")


@pytest.mark.parametrize(
    ("answer", "mended"), [(f"```json\n{PERSON}\n```", BORN), (PERSON, BORN), (WITHOUT, WITHOUT[-2:])]
)
def test_a_value_that_is_wrong_or_missing_is_written_by_its_own_schema(answer: str, mended: str) -> None:
    engine = Steered("1815,")
    chain = redraft.revise("Who was Ada?", model=engine, given=answer, output=Person)
    new = '"born": 1815' if mended == BORN else f',\n  "born": 1815{mended}'
    assert chain.answer == answer.replace(mended, new)
    assert (chain.value.born, chain.steps[1].patch) == (1815, ("/born",))
    (asked,) = engine.asked
    assert asked.begun.endswith('"born":')
    assert asked.schema == {"title": "Born", "type": "integer"}


def test_two_missing_values_each_get_their_own() -> None:
    engine = redraft.ScriptedEngine(['{"/b": "x", "/c": "y"}'])
    chain = redraft.revise("?", model=engine, given='{"a": 1}', checks=["keys:a,b,c"])
    assert json.loads(chain.answer) == {"a": 1, "b": "x", "c": "y"}


def test_values_are_written_from_last_to_first_behind_the_text_that_the_engine_has_read() -> None:
    engine = Steered('"y"', '"x"')
    chain = redraft.revise("?", model=engine, given='{"a": 1}', checks=["keys:a,b,c"])
    assert json.loads(chain.answer) == {"a": 1, "b": "x", "c": "y"}
    assert [asked.begun for asked in engine.asked] == [f'{{"a": 1, "{key}":' for key in "cb"]


def test_a_word_in_a_value_is_a_fault_of_that_value() -> None:
    answer = "Here:\n```json\n" + PERSON.replace('"long ago"', "1815") + "\n```"
    free = dict[str, str | int]  # in which no name is due
    for check, kind, places in (("lacks:London", Person, ("/city",)), ("lacks:born", free, ())):
        options: dict[str, Any] = {"output": kind, "checks": [check], "max_revisions": 1}
        chain = redraft.revise("Who was Ada?", model=Steered('"Bath"'), given=answer, **options)
        assert chain.steps[1].patch == places
        assert not places or chain.answer == answer.replace("London", "Bath")


def test_an_engine_without_schemas_writes_a_value_and_checks_judge_it() -> None:
    engine = redraft.ScriptedEngine([' "in 1815",\n  "city": "Rome"', " 1815,\n"], resumes=True)
    chain = redraft.revise("Who was Ada?", model=engine, given=PERSON, output=Person)
    assert chain.answer == PERSON.replace('"long ago"', "1815")
    assert (chain.revisions, len(engine.calls)) == (1, 2)


def test_a_validator_is_told_from_the_second_try_on() -> None:
    kind = dict[str, Annotated[int, AfterValidator(even)]]
    engine = Steered("1815", "1816")
    answer = '{"daughter of Byron": 0, "born": 1817}'
    assert redraft.revise("Who was Ada?", model=engine, given=answer, output=kind).value["born"] == 1816
    chain = redraft.revise("Who was Ada?", model=Steered('"long ago"'), given=PERSON, output=Person)
    assert not any(step.patch for step in chain.steps)  # the same value is no patch
    assert ["it should be even" in str(call[-1]) for call in engine.calls] == [False, True]


def test_records_without_places_stay_as_they_were() -> None:
    assert "places" not in CheckResult(name="a", passed=False, score=0.0, message="m").model_dump_json()
    assert not {"patch", "steered"} & Step(answer="a").model_dump().keys()
    step = Step(answer="a", patch=((0, 1), "/b"), steered=("words<=3",))
    assert Step.model_validate_json(step.model_dump_json()) == step


def test_a_check_of_ones_own_gives_places() -> None:
    @dataclass
    class NoMouse:
        places: Any
        name = "no mouse"

        def check(self, answer: str, prompt: redraft.Prompt) -> Outcome:
            return failed("A mouse.", places=self.places) if "mouse" in answer else passed("None.")

    at = OWLS.index("mouse")
    assert owls(Steered("Voles do."), checks=[NoMouse([(at, at + 5)])]).steps[1].patch
    with pytest.raises(CheckError, match="invalid outcome"):
        owls(Steered("Voles do."), checks=[NoMouse(["here", 3])])


def test_a_patch_keeps_to_its_budget_and_goes_on_later() -> None:
    chain = owls(Steered("A mouse again and again and again."), budget={"tokens": 20})
    assert (chain.stop, chain.usage.completion_tokens) == ("budget", 20)
    again = owls(Steered("Voles do."), resume=chain)
    assert (again.passed, [bool(step.patch) for step in again.steps]) == (True, [False, True])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from(["Cats sleep.", "A mouse ran!", "Dr. No came.", "- é, “so”.\n"]), min_size=3),
    st.text('ab .\n-é½"', max_size=12),
)
def test_what_is_outside_a_patch_stays_to_the_byte(said: list[str], new: str) -> None:
    text = " ".join(said)
    step = owls(Steered(new or "x"), given=text, max_revisions=1).steps[-1]
    rest, at = text, 0
    for begin, end in step.patch:  # type: ignore[misc]
        kept = step.answer[at:begin]
        assert rest.startswith(kept)
        gone = "mouse ran!" if kept.endswith("A ") else "A mouse ran!"
        assert rest[len(kept) :].startswith(gone)
        rest, at = rest[len(kept) + len(gone) :], end
    assert not step.patch or rest == step.answer[at:]


values = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('ab/~"é', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


def paths(value: Any) -> list[tuple[list[str], Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [([], value), *(([str(key), *path], it) for key, inner in pairs for path, it in paths(inner))]


@given(values, st.sampled_from([None, 2]))
def test_every_value_of_an_object_is_found_by_its_pointer(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    for path, found in paths(value):
        assert keys_of(pointer(path)) == path
        begin, end, lead = span_of(text, path) or (0, 0, "?")
        assert (json.loads(text[begin:end]), lead) == (found, "")
        assert pointer_at(text, begin, end) == pointer(path)


@pytest.mark.parametrize(
    ("schema", "path", "used", "part"),
    [
        ({"properties": {"a": {"type": "integer"}}}, "/a", 1, {"type": "integer"}),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"items": {"const": 1}}}}, "/3/0", 2, {"const": 1}),
        ({"properties": {"a": {"anyOf": [{}, {}]}}}, "/a/0", 1, {"anyOf": [{}, {}]}),
        ({"properties": {"a": {"$ref": "#"}}}, "/a", None, None),
    ],
)
def test_the_smallest_value_with_a_schema_of_its_own(schema: Any, path: str, used: Any, part: Any) -> None:
    found = schema_at(schema, keys_of(path))
    named = {name: each for name, each in schema.items() if name == "$defs"}
    assert found == (used and (used, {**part, **named}))


@pytest.mark.model
def test_the_default_model_patches_a_text_and_an_object(default_model: Path) -> None:
    options: dict[str, Any] = {"model": str(default_model), "seed": 1}
    text = owls(Steered("-"), **options)
    asked = "Ada Lovelace, a mathematician of London, was born in 1815. Give her data."
    made = redraft.revise(asked, given=PERSON, output=Person, **options)
    for chain, (first, last) in ((text, OWLS.split(MOUSE)), (made, PERSON.split('"long ago"'))):
        assert chain.passed
        assert chain.answer.startswith(first)
        assert chain.answer.endswith(last)
        assert 0 < chain.steps[1].usage.completion_tokens <= 60


# Engines that do not go on with an answer are asked for parts by number.


def chat(*replies: str) -> redraft.ScriptedEngine:
    return redraft.ScriptedEngine(replies)


def test_a_server_writes_parts_by_number() -> None:
    engine = chat("[1] Voles feed them well.\n\nI took the rodent out.")
    chain = owls(engine)
    assert chain.answer == OWLS.replace(MOUSE, "Voles feed them well.")
    assert (chain.passed, chain.revisions, len(engine.calls)) == (True, 1, 1)
    ((begin, end),) = chain.steps[1].patch  # type: ignore[misc]
    assert chain.answer[begin:end] == "Voles feed them well."
    *_, said, asked = engine.calls[0]
    assert said == {"role": "assistant", "content": OWLS}
    assert f"[1] {MOUSE}\nWrong: " in asked["content"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        ("[1] A.\n[2] B.", {1: "A.", 2: "B."}), ("Here they are:\n\n**[2]**\nB.\n", {2: "B."}),
        ("```\n1. A.\n(2) 3.5 m\n```", {1: "A.", 2: "3.5 m"}), ("1. A.\n2. B.\n3. C.", {}),
        ("[1] A.\n[3] C.", {}), ("[1] A.\n[1] B.", {}), ("Owls are birds. They\n[1] A.", {}),
        ("Owls are birds.", {}),
    ],
)  # fmt: skip
def test_parts_are_read_strictly(reply: str, parts: dict[int, str]) -> None:
    assert pieces_of(reply, ["old", "older"]) == parts
    assert pieces_of(reply, ["old", "older"], whole=False) == dict([*parts.items()][:-1])


@pytest.mark.parametrize(
    ("replies", "patched", "answer"),
    [
        (["Voles do."], [True], OWLS.replace(MOUSE, "Voles do.")),  # the one part, without its number
        ([f"[1] {FIRST} Voles do. They live in barns."], [False], f"{FIRST} Voles do. They live in barns."),
        (["Owls are birds of the night and eat voles and frogs. They live in barns, too."], [False], None),
        (["[4] Voles.", "A mouse! Mouse!", "Owls eat voles."], [False, False], None),  # of no use: asked once
        ([OWLS, "Owls eat voles."], [False], None),
        ([f"{OWLS} So it is.", "Owls eat voles."], [False], None),  # its fault is there still
        (["[1] A mouse!", "[1] More mouse!", "Owls eat voles."], [True, False], None),
    ],
)
def test_a_reply_in_another_form_is_a_revision(replies: list[str], patched: list[bool], answer: str) -> None:
    engine = chat(*replies)
    chain = owls(engine)
    assert (chain.answer, chain.passed) == (answer or replies[-1], True)
    assert [bool(step.patch) for step in chain.steps[1:]] == patched
    assert len(engine.calls) == len(replies)
    assert chain.usage.completion_tokens == len("".join(replies))


def test_a_patch_by_number_costs_little_keeps_to_its_budget_and_goes_on_later() -> None:
    said = [f"Owl {number} of the barn sleeps by day and hunts in the fields." for number in range(12)]
    given, new = " ".join([*said[:5], "A mouse is there.", *said[6:]]), "[1] Owl 5 is at home."
    chain = owls(chat(new), given=given)
    assert chain.passed
    assert 8 * chain.usage.completion_tokens <= len(given)  # which a whole revision writes
    cut = owls(chat(new), given=given, budget={"tokens": 9})
    assert (cut.stop, cut.revisions, cut.usage.completion_tokens) == ("budget", 0, 9)
    again = owls(chat(new), given=given, resume=cut)
    assert (again.answer, again.usage.completion_tokens) == (chain.answer, len(new) + 9)


def test_a_patch_by_number_may_be_worse_and_is_no_echo() -> None:
    chain = owls(chat("[1] A mouse is a mouse is a mouse."), max_revisions=1)
    assert (chain.answer, bool(chain.steps[1].patch)) == (OWLS, True)
    chain = owls(chat("Okay.", "Owls eat voles."))
    assert chain.answer == "Owls eat voles."


def test_a_wording_of_ones_own_is_not_passed_over() -> None:
    engine = chat("Owls eat voles.")
    owls(engine, prompts={"revise": "Anders, bitte.\n\n{found}"})
    assert engine.calls[0][-1]["content"].startswith("Anders, bitte.")  # type: ignore[index]


LINES = [
    "- A mouse, é “so”", "```", "  run(mouse)  # 鼠", "```", "", "| a | mouse |",
    "Dr. No came. A mouse ran! So",
]  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from([*LINES, "猫は寝る。鼠 mouse だ。", "Cats sleep. "]), min_size=4),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.text("ab .-é鼠", min_size=1, max_size=12),
)
def test_what_is_outside_numbered_parts_stays_to_the_byte(said: list[str], line: str, new: str) -> None:
    text, shown = line.join(said), list[str]()
    assume(not is_blank(text))

    def reply(call: Any) -> str:
        if "by number" not in call[-1]["content"]:
            return text
        shown[:] = re.findall(r"^\[\d+\] (.*(?:\n.+)*)\nWrong: ", call[-1]["content"], re.M)
        return "\n".join(f"[{number}] {new}{number}" for number, _ in enumerate(shown, start=1))

    step = owls(redraft.ScriptedEngine(reply), given=text, max_revisions=1).steps[-1]
    rest, at = text, 0
    for (begin, end), old in zip(step.patch or (), shown, strict=bool(step.patch)):  # type: ignore[misc]
        kept = step.answer[at:begin]
        assert rest.startswith(kept + old)
        assert "mouse" in old
        rest, at = rest[len(kept) + len(old) :], end
    assert not step.patch or rest == step.answer[at:]


TWO = PERSON.replace('"mathematician"', "7")
MANY = json.dumps({"people": [{"name": f"P{n}", "born": 1800 + n} for n in range(9)], "note": "-"}, indent=1)
PEOPLE = {
    "type": "object",
    "properties": {
        "people": {"type": "array", "items": {"$ref": "#/$defs/P"}},
        "boss": {"anyOf": [{"$ref": "#/$defs/P"}, {"type": "null"}]},
    },
    "additionalProperties": False,
    "$defs": {
        "P": {
            "allOf": [{"properties": {"name": {"type": "string"}}, "required": ["name"]}],
            "properties": {"name": {}, "born": {"type": "integer"}},
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize("schemas", [False, True])
def test_a_server_writes_values_by_pointer(schemas: bool) -> None:
    engine = Able(['{"/born": 1815, "/trade": "mathematician"}'], about={"schemas": schemas})
    chain = redraft.revise("Who was Ada?", model=engine, given=TWO, output=Person)
    assert chain.answer == TWO.replace('"long ago"', "1815").replace("7", '"mathematician"')
    assert (chain.value.trade, chain.steps[1].patch, len(engine.calls)) == (
        "mathematician",
        ("/born", "/trade"),
        1,
    )
    assert '"/born": "long ago"\n"/trade": 7\nWrong: ' in engine.calls[0][-1]["content"]  # type: ignore[index]
    if schemas:
        schema: Any = engine.asked[-1].schema
        assert schema["properties"]["/born"]["type"] == "integer"
        assert schema["required"] == ["/born", "/trade"]


@pytest.mark.parametrize(
    ("answer", "reply", "mended"),
    [
        (PERSON, "1815", {"born": 1815}),
        (PERSON, '```json\n{"born": 1815}\n```', {"born": 1815}),  # a part of it
        (WITHOUT, '{"/born": 1815}', {"born": 1815}),
        (PERSON, PERSON.replace('"long ago"', "9").replace("Ada ", ""), {"born": 9}),  # all of it
    ],
)
def test_values_in_another_form(answer: str, reply: str, mended: dict[str, Any]) -> None:
    chain = redraft.revise("Who was Ada?", model=chat(reply), given=answer, output=Person, max_revisions=1)
    assert json.loads(chain.answer) == {**json.loads(PERSON), **mended}
    assert chain.steps[1].patch == ("/born",)


@pytest.mark.parametrize(
    ("path", "wrong", "reply", "calls"),
    [
        ("/people/3/born", "-", "1803", 1),
        ("/people/3/name", 7, '"P3"', 1),
        ("/boss", {"name": "Q", "born": "-"}, '{"/boss/born": 1}', 1),
        ("/people/0/age", 3, "", 0),
        ("/else", {"more": 3}, "", 0),
        ("/note", "-", "", 0),
    ],
)
def test_the_smallest_value_at_fault(tmp_path: Path, path: str, wrong: Any, reply: str, calls: int) -> None:
    (tmp_path / "s.json").write_text(json.dumps(PEOPLE))
    value = json.loads(MANY)
    del value["note"]
    right = json.dumps(value, indent=1)
    *keys, last = [int(key) if key.isdecimal() else key for key in keys_of(path)]
    within = value
    for key in keys:
        within = within[key]
    within[last] = wrong
    engine = chat(reply or "None.")
    options: dict[str, Any] = {"model": engine, "checks": [f"json-schema:{tmp_path / 's.json'}"]}
    chain = redraft.revise("Who?", given=json.dumps(value, indent=1), max_revisions=1, **options)
    assert (chain.passed, len(engine.calls), bool(chain.steps[1].patch)) == (True, calls, True)
    if path != "/boss":
        assert json.loads(chain.answer) == json.loads(right)


@given(st.dictionaries(st.text("ab/~", max_size=2), values, min_size=1, max_size=6), st.data())
def test_properties_that_may_not_be_there_are_removed(value: dict[str, Any], data: Any) -> None:
    kept = data.draw(st.lists(st.sampled_from([*value, "z"]), unique=True))
    value = {"z": 1, **value} if data.draw(st.booleans()) else {**value, "z": 1}
    text = json.dumps(value, indent=data.draw(st.sampled_from([None, 1])))
    schema = {"properties": {key: {} for key in kept}, "additionalProperties": False}
    left, at = "", 0
    for edit in values_of(text, [pointer([name]) for name in value if name not in kept], schema):
        assert edit.made == ""
        left, at = left + text[at : edit.begin], edit.end
    assert json.loads(left + text[at:]) == {name: value[name] for name in value if name in kept}


# A program is mended by functions.

CODE = '''Here it is:

```python
class Box:
    side = 3

    def area(self):
        return self.side + side


def mean(row):
    """Return the mean of numbers."""

    return sum(row) / 7


LIMIT = 1 / len("")
```

All of it is plain Python.
'''
AREA = "def area(self):\n        return self.side + side"
MEAN = 'def mean(row):\n    """Return the mean of numbers."""\n\n    return sum(row) / 7'
LIMIT = 'LIMIT = 1 / len("")'
SQUARE, RATIO, ONE = AREA.replace("+ side", "* 3"), MEAN.replace("7", "len(row)"), "LIMIT = 1"
FROM, SUM = "from math import (\n    fsum,\n)", "def mean(row):\n    return fsum(row) / len(row)"
TESTS = ("assert Box().area() == 9", "assert mean([1, 2, 3]) == 2")
RIGHT = CODE.replace(AREA, SQUARE).replace(MEAN, RATIO).replace(LIMIT, ONE)
TWICE = "@(lambda *_: lambda f: f)(\n        1\n    )\n    "  # a decorator of several lines


@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("right", "old", "reply", "new"),
    [
        (SQUARE, AREA, "[1] def area(self):\n    return self.side * 3", SQUARE),
        (SQUARE, TWICE + AREA, "def area(self):\n    return self.side * 3", SQUARE),
        (RATIO, MEAN, f"```python\nimport os\n{FROM}\n{SUM}\n```", f"{FROM}\nimport os\n\n\n{SUM}"),
        (RATIO, MEAN.replace("row):", "row:"), f"[1] {RATIO}\n\nprint(mean([1]))", RATIO),
        (RATIO, f"{RATIO} + 1", f"[1] {RATIO}", RATIO),  # the old one begins with it
        (ONE, LIMIT, f"[1]\n```python\n{ONE}\n```", ONE),
    ],
)
@pytest.mark.usefixtures("a_sandbox")
def test_the_function_or_statement_that_a_test_names(
    right: str, old: str, reply: str, new: str, line: str
) -> None:
    answer, engine = RIGHT.replace(right, old).replace("\n", line), Steered(reply, again=reply)
    chain = redraft.revise("Write it.", given=answer, model=engine, checks=[CodeCheck(TESTS)])
    assert chain.answer == RIGHT.replace(right, new).replace("\n", line)
    shown = old.replace("\n    ", "\n") if right == SQUARE else old  # as it would be at the margin
    assert f"[1] {shown}\nWrong: " in str(engine.again.calls[0][-1]["content"]).replace("\r", "")


@pytest.mark.parametrize(
    ("right", "old", "reply"),
    [
        (RATIO, MEAN, "[1] def mean(row:"),
        (RATIO, MEAN, "[1] def other(row): return 2"),
        (SQUARE, AREA, "[1] import math\ndef area(self): return 9"),  # a class has no place for it
    ],
)
@pytest.mark.usefixtures("a_sandbox")
def test_a_function_that_does_not_come_is_a_full_revision(right: str, old: str, reply: str) -> None:
    given: dict[str, Any] = {"given": RIGHT.replace(right, old), "checks": [CodeCheck(TESTS)]}
    chain = redraft.revise("Write it.", model=chat(reply, RIGHT), **given)
    assert (chain.answer, [bool(step.patch) for step in chain.steps]) == (RIGHT.strip(), [False] * 2)
