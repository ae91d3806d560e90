"""Recipes of mixes: valid ones, and errors in others."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.data.merge import MixPart, read_recipe
from redraft.errors import UsageError


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_recipe_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(
        written(
            tmp_path,
            """
about: a mix
seed: 7
parts:
  - file: data/a.jsonl.gz
  - {file: b.jsonl, name: bee, count: 10, per: task, licence: MIT, get: somewhere}
""",
        )
    )
    assert (recipe.about, recipe.seed) == ("a mix", 7)
    assert recipe.parts == (
        MixPart(file="data/a.jsonl.gz", name="a"),
        MixPart(file="b.jsonl", name="bee", count=10, per="task", licence="MIT", get="somewhere"),
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("a: [", "is not YAML", None),
        ("seed: 1\nseed: 2", "'seed' is there twice, in lines 1 and 2.", "Keep one of them."),
        ("[]", "a recipe should be keys and values", None),
        ("seeds: 1", "no option 'seeds'", "Did you mean 'seed'?"),
        ("seed: 1", "parts is None", "a list of parts, such as [{file: a.jsonl}]"),
        ("parts: []", "parts is an empty list.", "a list of parts"),
        ("parts: [{fil: a}]", "no option 'parts.0.fil'", "Did you mean 'parts.0.file'?"),
        ("parts: [a]", "parts.0 should be keys and values", None),
        ("parts: [{name: a}]", "parts.0.file is missing", None),
        ("parts: [{identity: {name: a}}]", "parts.0.identity is a dict", "{name: Pharos, maker: "),
        ("parts: [{identity: {name: a, maker: ' '}}]", "parts.0.identity is a dict", "a name and a maker"),
        ("parts: [{identity: {name: a, maker: 3}}]", "parts.0.identity is a dict", "a name and a maker"),
        ("parts: [{identity: a}]", "parts.0.identity is 'a'", "a name and a maker"),
        ("parts: [{file: a, identity: {name: a, maker: b}}]", "file and identity are two parts", None),
        ("parts: [{file: 3}]", "parts.0.file is 3", "a text"),
        ("parts: [{file: a, count: 0}]", "parts.0.count is 0", "a whole number from 1 on, or all"),
        ("parts: [{file: a, count: true}]", "parts.0.count is True", None),
        ("parts: [{file: a, per: task}]", "parts.0.per needs a count", None),
        ("parts: [{file: x/a.jsonl}, {file: y/a.jsonl}]", "two parts are called 'a'", "another name"),
        ("seed: -1\nparts: [{file: a}]", "seed is -1", None),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(written(tmp_path, text))
    assert message in caught.value.message
    assert "recipe.yaml" in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_lists_that_hold_one_another_are_not_shown(tmp_path: Path) -> None:
    """Thirty anchors, each twice as long as the one before, make gigabytes of text from a few lines."""
    bomb = "\n".join(["parts: &l0 []", *(f"x{i}: &l{i} [*l{i - 1}, *l{i - 1}]" for i in range(1, 30))])
    with pytest.raises(UsageError, match="no option 'x1'"):
        read_recipe(written(tmp_path, bomb))
    with pytest.raises(UsageError, match="about is an empty list") as caught:
        read_recipe(written(tmp_path, bomb.replace("parts:", "parts: [{file: a}]\nabout:").split("x1")[0]))
    assert "a text" in (caught.value.hint or "")


def test_a_file_that_cannot_be_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path)
    with pytest.raises(UsageError, match="too large for a recipe"):
        read_recipe(written(tmp_path, "#" * (1 << 20) + "#"))
