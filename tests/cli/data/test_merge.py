from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from typer.testing import Result

from redraft.chain import Chain, Prompt
from redraft.chain.documents import shipped_recipes
from redraft.chain.read.files import to_line
from redraft.data.merge import read_recipe
from redraft.data.published import SOURCES
from tests.cli.verbs import redraft

RECIPE = """
about: a mix
seed: 3
parts:
  - {file: sums.jsonl, count: 5, licence: MIT}
  - {file: chat.jsonl, count: 9, licence: CC BY-NC 4.0}
  - {file: more.jsonl, licence: MIT, get: ask me}
"""

MIXED = (
    "redraft: the sources have different licences: cc-by-nc-4.0 (data chat); mit (data sums). "
    "So the result's licence is 'other'. Commercial use is forbidden by cc-by-nc-4.0."
)

SHIPPED = shipped_recipes("data")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name, count in (("sums", 20), ("chat", 4)):
        records = [{"instruction": f"{name} {i}", "output": "x"} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(map(to_line, records)))
    path = tmp_path / "mix.yaml"
    path.write_text(RECIPE)
    return path


def merge(*args: object) -> Result:
    return redraft("data", "merge", *args, "-j", "1")


def test_a_licence_of_a_part_that_its_records_do_not_take_is_said(tmp_path: Path) -> None:
    origin = {"dataset": "birds", "licence": "CC-BY-4.0"}
    own = Chain(id="a", prompt=Prompt(instruction="Hi"), meta={"origin": origin})
    bare = [{"instruction": "Hi", "output": "x"}]
    (tmp_path / "own.jsonl").write_text(own.to_json())
    (tmp_path / "bare.jsonl").write_bytes(b"".join(map(to_line, bare)))
    path = tmp_path / "mix.yaml"
    for licence, said in (("MIT", 1), ("cc by 4.0", 0)):
        parts = f"{{file: own.jsonl, licence: {licence}}}, {{file: bare.jsonl, licence: MIT}}"
        path.write_text(f"parts: [{parts}]")
        result = merge(path, "-o", tmp_path / "out.jsonl", "--force", "-q")
        assert result.exit_code == 0, result.stderr
        told = " ".join(result.stderr.split())
        assert told.count("keep their own licence, CC-BY-4.0. The recipe's licence, MIT, applies") == said
        assert "the records of bare" not in told


def test_a_mix_says_what_it_is_made_of_and_what_fell_short(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = merge(recipe, "-o", out, "--skip-missing")
    assert (result.exit_code, len(out.read_bytes().splitlines())) == (0, 9)
    assert result.stderr.splitlines() == [
        "redraft: 9 records",
        "  sums          5  MIT",
        "  chat          4  CC BY-NC 4.0; 5 too few",
        "  more          0  more.jsonl is missing; the recipe takes all (MIT)",
        MIXED,
    ]
    making = json.loads((tmp_path / "out.jsonl.run.json").read_bytes())
    assert (making["command"], making["config"]["seed"]) == ("data merge", 3)
    assert making["source"]["sha256"] == hashlib.sha256(recipe.read_bytes()).hexdigest()
    assert making["sessions"][0]["records"] == 9
    assert [part["licences"] for part in making["parts"]] == [{"MIT": 5}, {"CC BY-NC 4.0": 4}, {}]
    sums = hashlib.sha256((tmp_path / "sums.jsonl").read_bytes()).hexdigest()
    assert making["parts"][0]["file"]["sha256"] == sums
    assert [part["short"] for part in making["parts"]] == [0, 5, 0]


def test_nothing_is_left_behind_and_nothing_is_replaced(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.jsonl"
    assert "more.jsonl (MIT): ask me" in merge(recipe, "-o", out).stderr
    assert not out.exists()
    assert merge(recipe, "-o", out, "--skip-missing", "-q").stderr.splitlines() == [MIXED]
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.jsonl", "out.jsonl.run.json"]
    assert "--force" in merge(recipe, "-o", out, "--skip-missing").stderr


def test_an_unknown_recipe() -> None:
    result = merge("selfie")
    assert result.exit_code == 2
    assert "alpaca, selfee, stablevicuna, vicuna" in result.stderr


def test_the_shipped_mixes_are_as_large_as_published() -> None:
    sizes = {}
    for path in SHIPPED.values():
        parts = read_recipe(path).parts
        assert all(part.get and part.licence != "unknown" for part in parts)
        sizes[path.stem] = sum(part.count or 0 for part in parts if part.per is None)
    assert sizes == {"selfee": 163_168, "alpaca": 52_002, "vicuna": 70_000, "stablevicuna": 452_002}
    (flan,) = (part for part in read_recipe(SHIPPED["selfee"]).parts if part.per)
    assert (flan.name, flan.count, flan.per) == ("flan", 10, "task")
    assert 163_168 + 16_000 in range(178_000, 180_000)


def test_the_shipped_recipes_say_how_to_import_each_part() -> None:
    parts = [part for path in SHIPPED.values() for part in read_recipe(path).parts]
    for part in parts:
        (source,) = re.findall(r"redraft data import .* --as ([\w-]+)", part.get)
        assert part.licence == SOURCES[source].licence
        assert f"-o {part.file}" in part.get
    assert len(parts) == 15


def test_a_shipped_recipe_looks_for_its_parts_here(tmp_path: Path) -> None:
    (tmp_path / "alpaca.jsonl").write_bytes(to_line({"instruction": "a", "output": "b"}))
    result = merge("alpaca", "-o", "mix.jsonl")
    assert result.exit_code == 0
    assert "CC BY-NC 4.0; 52,001 too few" in result.stderr
    assert json.loads((tmp_path / "mix.jsonl").read_bytes())["meta"]["origin"]["dataset"] == "alpaca"


def test_an_empty_file_is_told(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    recipe.write_text("parts: [{file: sums.jsonl, count: 9}, {file: none.jsonl}]")
    assert "none          0  no record in none.jsonl" in merge(recipe, "-o", tmp_path / "out.jsonl").stderr
