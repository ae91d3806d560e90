from __future__ import annotations

import pytest

from redraft.chain.documents import yaml_of
from redraft.errors import UsageError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "r.yaml: 'a' appears twice, in lines 1 and 3."),
        ('a: 1\n"a": 1', "r.yaml: 'a' appears twice, in lines 1 and 2."),
        ("a:\n  b: 1\n  b: 2", "r.yaml: 'b' appears twice, in lines 2 and 3."),
        ("- {a: 1, a: 2}", "r.yaml: 'a' appears twice, in lines 1 and 1."),
    ],
)
def test_a_name_that_comes_twice_in_yaml_is_an_error(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        yaml_of(text, "r.yaml")
    assert (error.value.message, error.value.hint) == (said, "Keep one of them.")


def test_names_of_different_mappings_and_merges_are_values() -> None:
    merged = "base: &base {a: 1, b: 2}\nmore: &more {<<: *base, a: 3}\nmost: {<<: *more, a: 4}\n"
    assert yaml_of(merged + "l: [{a: 1}, {a: 2}]", "r.yaml") == {
        "base": {"a": 1, "b": 2},
        "more": {"a": 3, "b": 2},
        "most": {"a": 4, "b": 2},
        "l": [{"a": 1}, {"a": 2}],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["a: [", "\x00", "[" * 1500, "a: !!python/name:os.system", "1: 2: 3", b"\xff", "a: !!bool maybe"]
)
def test_what_is_no_yaml_is_an_error(text: str | bytes) -> None:
    with pytest.raises(UsageError, match=r"r\.yaml is not YAML(, line 1)?: "):
        yaml_of(text, "r.yaml")


def test_the_line_of_a_fault_is_said_once() -> None:
    with pytest.raises(UsageError) as caught:
        yaml_of('a: 1\nb: {"c": 1', "r.json")
    assert str(caught.value).startswith(
        "r.json is not YAML, line 2: expected ',' or '}', but got '<stream end>'."
    )
