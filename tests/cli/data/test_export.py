"""`redraft data export`: files in the formats of others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import Result

from redraft.chain import Chain, Prompt, Step, write_jsonl
from tests.cli.verbs import redraft


@pytest.fixture
def chains(tmp_path: Path) -> Path:
    path = tmp_path / "chains.jsonl"
    revised = Chain(
        id="a/1", prompt=Prompt(instruction="Hi"), steps=(Step(answer="1"), Step(answer="2")), best=1
    )
    once = revised.model_copy(update={"id": "a/2", "steps": (Step(answer="1"),), "best": 0})
    write_jsonl(path, [revised, once, Chain(id="a/3", prompt=Prompt(instruction="Ho"))])
    return path


def export(*args: object) -> Result:
    return redraft("data", "export", *args)


def test_an_array_to_standard_output(chains: Path) -> None:
    result = export(chains, "--to", "alpaca", "-j", 1)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {"instruction": "Hi", "input": "", "output": "2"},
        {"instruction": "Hi", "input": "", "output": "1"},
    ]
    assert result.stderr.splitlines() == ["redraft: 2 kept, 1 dropped", "  no-answer          1"]


def test_a_format_that_is_none_is_refused_in_words_of_the_command_line(chains: Path) -> None:
    assert (
        "Invalid value for '--to': 'prefs' is not one of 'selfee'" in export(chains, "--to", "prefs").stderr
    )


def test_pairs_to_a_packed_file_and_the_rest_to_a_side_file(chains: Path, tmp_path: Path) -> None:
    out, side = tmp_path / "pairs.jsonl.gz", tmp_path / "side.jsonl"
    assert export(chains, "--to", "preference", "-o", out, "--dropped", side, "-j", 1).exit_code == 0
    (pair,) = map(json.loads, gzip.decompress(out.read_bytes()).splitlines())
    assert (pair["id"], pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("a/1", "2", "1")
    rules = [json.loads(line)["rule"] for line in side.read_text().splitlines()]
    assert rules == ["no-pair", "no-answer"]


TALK = {
    "id": 1,
    "messages": [
        {"role": "user", "content": "Hi", "weight": None},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Goodbye", "weight": 0},
    ],
    "tools": [{"name": "clock"}],
}
TURNS = "1 with several turns, which become one instruction"
TOOLS = "1 with tools, which are left out"
FIELDS = "1 with other fields of messages, such as a weight, which are left out"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("alpaca", [FIELDS, TOOLS, TURNS]),
        ("selfee", [FIELDS, TOOLS, TURNS]),
        ("sharegpt", [FIELDS, TOOLS]),
        ("messages", []),
    ],
)
def test_what_a_format_cannot_hold_is_counted(to: str, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps(TALK) + '\n{"instruction": "Why?", "output": "So."}\n')
    result = export(path, "--to", to, "-j", 1)
    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if "redraft: " in line][1:]
    assert told == [f"redraft: {each}" for each in said]
    assert export(path, "--to", to, "-j", 1, "-q").stderr == ""
