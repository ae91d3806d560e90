from __future__ import annotations

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
TURNS = "the turns become one instruction in 1 record."
TOOLS = "tools are left out of 1 record."
FIELDS = "other fields of messages, such as a weight, are left out of 1 record."


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
