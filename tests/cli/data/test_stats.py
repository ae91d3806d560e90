from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.data.word_tokenizer import tokenizer_of_words
from tests.cli.verbs import redraft, shown, start

CHAIN = {
    "instruction": "Name a colour of the sky.",
    "output": "It is blue.",
    "dataset": "colours\x1b[31m",
    "outputs": [
        {"output": "Red.", "feedback": "3/10. It is blue. Revision is needed."},
        {"output": "Blue.", "feedback": "9/10. Revision is not needed."},
    ],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(CHAIN) + "\n" + json.dumps({"prompt": "Why?"}) + "\n{no\n")
    return path


def stats(*args: object) -> Result:
    return redraft("data", "stats", *args)


def test_the_table_says_what_there_is(data: Path) -> None:
    result = stats(data)
    lines = shown(result)
    for line in (
        "2 records · 2 answers · 2 feedbacks · 1 gold answer · 23 words",
        "answers a record 0 0 1.00 2 2",
        "1 0 1 0 1 3.00",
        "2 1 0 0 1 9.00",
        "warnings",
        "fault 1 record that cannot be read.",
    ):
        assert line in lines
    assert "1 record with 1 feedback quoting the gold answer" in " ".join(lines)
    assert [line for line in result.stdout.splitlines() if len(line) > 80 and str(data) not in line] == []


def test_it_reads_standard_input_and_writes_json(data: Path) -> None:
    with data.open() as piped, start("data", "stats", "-", "--json", stdin=piped) as process:
        said = json.loads(process.communicate()[0])
    assert said["files"] == ["standard input"]
    assert said["totals"] == {"records": 2, "answers": 2, "feedbacks": 2, "gold answers": 1, "words": 23}
    assert said["tables"]["answers a record"][0] == {"name": "0", "count": 1, "share": 0.5}
    assert [each["revise"] for each in said["tables"]["feedback"]] == [1, 0]
    assert [each["name"] for each in said["tables"]["sources"]] == ["colours\x1b[31m", "stdin"]
    assert said["findings"][0]["name"] == "unreadable"


def test_lengths_may_be_tokens(data: Path, tmp_path: Path) -> None:
    said = json.loads(stats(data, "--json", "--tokenizer", tokenizer_of_words(tmp_path / "words")).stdout)
    assert (said["totals"]["tokens"], said["tables"]["numbers"][-1]["name"]) == (21, "tokens, record")
