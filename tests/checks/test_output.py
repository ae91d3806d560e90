from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator

import redraft
from redraft.chain import Prompt
from redraft.checks.base import run_check
from redraft.checks.json_reading import json_so_far
from redraft.checks.output import from_type, parse_output
from redraft.errors import CheckError, UsageError


class Tower(BaseModel):
    name: str
    metres: float = Field(gt=0)
    state: Literal["lit", "dark"] = "lit"

    @field_validator("name")
    @classmethod
    def capital(cls, name: str) -> str:
        if name == "crash":
            raise KeyError(name)
        if not name[:1].isupper():
            raise ValueError("a name begins with a capital.")
        return name


def message(answer: str) -> str:
    return from_type(Tower).check(answer, Prompt()).message


def test_an_object_comes_out() -> None:
    answer = 'Here it is:\n```json\n{"name": "Pharos", "metres": 100}\n```'
    assert message(answer) == "The answer is a valid Tower."
    assert parse_output(from_type(Tower), answer) == Tower(name="Pharos", metres=100)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"metres": 3}', "The JSON is not a valid Tower: name: Field required."),
        ('{"name": "A", "metres": 1e999}', "The answer is not JSON: 1e999 is not a finite number."),
        (
            '{"name": "pharos", "metres": -1}',
            "name: a name begins with a capital; metres: Input should be greater than 0 (found -1).",
        ),
        ('{"name": "A", "metres": 1, "state": "on"}', "state: Input should be 'lit' or 'dark' (found 'on')."),
        ("A tower.", "The answer is not JSON: Expecting value at line 1, column 1, before 'A tower.'."),
    ],
)
def test_what_is_wrong_becomes_the_message(answer: str, said: str) -> None:
    assert message(answer).endswith(said)
    assert parse_output(from_type(Tower), answer) is None


@given(
    st.text()
    | st.builds(lambda n, m: json.dumps({"name": n, "metres": m}), st.sampled_from("aAé1"), st.floats())
)
def test_the_check_passes_just_where_an_object_comes_out(answer: str) -> None:
    outcome = asyncio.run(run_check(from_type(Tower), answer, Prompt()))
    assert outcome.passed == (parse_output(from_type(Tower), answer) is not None)


def test_a_validator_that_crashes_is_a_fault_of_the_check() -> None:
    with pytest.raises(
        CheckError, match=r"'output:Tower' crashed: test_output.py:\d+, in capital: KeyError: 'crash'"
    ):
        asyncio.run(run_check(from_type(Tower), '{"name": "crash", "metres": 1}', Prompt()))


class Node(BaseModel):
    value: int
    below: Node | None = None


@dataclass
class Lamp:
    height: int = 1


class Place(NamedTuple):
    name: str
    metres: float


class Beam(typing_extensions.TypedDict):
    colour: str


@pytest.mark.parametrize(
    ("output", "answer", "value"),
    [
        (list[Tower], '[{"name": "Pharos", "metres": 100}]', [Tower(name="Pharos", metres=100)]),
        (Tower | Node, '{"value": 3}', Node(value=3)),
        (Node, '{"value": 1, "below": {"value": 2}}', Node(value=1, below=Node(value=2))),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Lamp, '{"height": 3}', Lamp(3)),
        (Place, '["Pharos", 100]', Place("Pharos", 100)),
        (Beam, '{"colour": "red"}', {"colour": "red"}),
        (Literal["lit", "dark"], '"lit"', "lit"),
    ],
)
def test_types_other_than_models(output: Any, answer: str, value: Any) -> None:
    check = from_type(output)
    assert check.check(answer, Prompt()).passed
    assert parse_output(check, answer) == value
    assert not check.check("[3.5]", Prompt()).passed


def test_a_recursive_schema_is_closed_at_every_level() -> None:
    check = from_type(Node)
    assert check.schema["$defs"]["Node"]["additionalProperties"] is False
    assert '"$ref"' in check.demand


class Round(BaseModel):
    kind: Literal["round"]
    radii: list[int]


class Square(BaseModel):
    kind: Literal["square"]


@pytest.mark.parametrize(
    ("given", "places"),
    [
        ({"kind": "round", "radii": [1, "x"]}, ("/shape/radii/1",)),
        ({"kind": "round"}, ("/shape/radii",)),
        ({}, ("/shape",)),
    ],
)
def test_a_place_in_a_union_leaves_out_its_tag(given: dict[str, Any], places: tuple[str, ...]) -> None:
    class Box(BaseModel):
        shape: Annotated[Round | Square, Field(discriminator="kind")]

    assert tuple(from_type(Box).check(json.dumps({"shape": given}), Prompt()).places) == places  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "places"),
    [
        ({"name": "Eiffel", "metres": "tall"}, ("/it/metres",)),
        ({"value": "x", "below": None}, ("/it/value",)),
        ({}, ("/it/value",)),
        ([], ("/it", "/it")),
    ],
)
def test_a_place_in_a_plain_union_is_of_the_closest_type(given: Any, places: tuple[str, ...]) -> None:
    class Box(BaseModel):
        it: Tower | Node

    assert tuple(from_type(Box).check(json.dumps({"it": given}), Prompt()).places) == places  # type: ignore[union-attr]


def test_the_name_of_a_type_has_no_modules() -> None:
    assert from_type(list[Tower]).name == "output:list[Tower]"
    assert from_type(Tower | Node).name == "output:Tower | Node"


def test_a_field_may_be_called_like_a_word_of_json_schema() -> None:
    class Odd(BaseModel):
        type: str
        properties: dict[str, int]

    assert from_type(Odd).check('{"type": "object", "properties": {"a": 1}}', Prompt()).passed
    assert from_type(Odd).schema["properties"]["properties"].get("additionalProperties") == {
        "type": "integer"
    }


def of_a_call(name: str) -> str:
    raise AssertionError(f"called with {name!r}")


class Caller:
    def method(self, name: str) -> str:
        return of_a_call(name)

    def __call__(self, name: str) -> str:
        return of_a_call(name)


@pytest.mark.parametrize(
    "output", [of_a_call, lambda name: name, Caller().method, functools.partial(of_a_call)]
)
def test_a_function_is_refused_because_pydantic_would_call_it(output: Any) -> None:
    with pytest.raises(UsageError, match=r"output is .*, which is not a type") as caught:
        from_type(output)
    assert "a pydantic model" in str(caught.value.hint)
    assert "checks=" in str(caught.value.hint)


@pytest.mark.parametrize(
    "output",
    [
        Caller(), Lamp(), Tower(name="A", metres=1), {}, {"a": int}, "", "Tower", "int", [Tower], (int, str),
        Iterable[Tower], Generator[Tower, None, None], dict[str, Iterable[int] | None],  # never validated
    ],
)  # fmt: skip
def test_what_is_no_type_is_refused(output: Any) -> None:
    with pytest.raises(UsageError, match=r"^output is ") as caught:
        from_type(output)
    assert "a pydantic model" in str(caught.value.hint)


def test_a_type_whose_hook_for_pydantic_crashes_is_refused() -> None:
    class Broken:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: object, handler: object) -> object:
            raise KeyError("gone")

    with pytest.raises(UsageError, match=r"output is Broken, .*KeyError: 'gone'"):
        from_type(Broken)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes typing's own from 3.12 on")
def test_the_typed_dict_of_an_old_typing_names_the_one_to_use() -> None:
    class Old(TypedDict):
        colour: str

    with pytest.raises(UsageError) as caught:
        from_type(Old)
    assert "typing_extensions.TypedDict" in caught.value.message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None), ("Well, ", None), ("{", {}), ('{"name": "A', {"name": "A"}), ('{"born": 18', {}),
        ('{"born": 18,', {"born": 18}),
        ('Here [1]:\n```json\n[{"name": "Ulm"}, {"na', [{"name": "Ulm"}, {}]),
        ('```json\n{"name": "Ulm"}\n`', {"name": "Ulm"}),
        ('{"name": "Ulm"} is', {"name": "Ulm"}),
        ("{x", None),
    ],
)  # fmt: skip
def test_json_that_is_still_written(text: str, found: object) -> None:
    assert json_so_far(text) == found


def quoted(words: str, info: ValidationInfo) -> str:
    if words not in (info.context or ""):
        raise ValueError("the text does not have these words")
    return words


def test_validators_find_the_context_that_is_given() -> None:
    options: Any = {
        "model": redraft.ScriptedEngine(['"It snows."', '"It rains."']),
        "output_context": "It rains.",
    }
    chain = redraft.revise("Quote.", output=Annotated[str, AfterValidator(quoted)], **options)
    assert "the text does not have these words." in chain.steps[0].criticism
    assert chain.value == "It rains."
    with pytest.raises(UsageError, match="without output"):
        redraft.revise("Quote.", **options)


def test_feedback_has_the_plain_name_of_a_type() -> None:
    above = Annotated[int, Field(gt=5)]
    assert from_type(above).check("3", Prompt()).message.startswith("The JSON is not a valid int: ")
    assert from_type(list[above] | None).name == "output:list[int] | None"  # type: ignore[valid-type]
