from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redraft.chain import Chain
from tests.cli.verbs import redraft


def clean(*args: object) -> Result:
    return redraft("data", "clean", *args)


def talk(name: str, *values: str) -> dict[str, Any]:
    roles = ("human", "gpt")
    return {"id": name, "conversations": [{"from": roles[i % 2], "value": v} for i, v in enumerate(values)]}


RECORDS = [
    talk("good", "What is <b>?", "<div class='x'>It is a tag.</div>"),
    talk("page", "Is a &lt; b?", '<div class="markdown prose"><pre>if a &lt; b:\n    x</pre></div>'),
    talk("short", "Hi", "Hello"),
    talk("task", "Remove the tags: <b>a</b>", "Without them, it is: a"),
    talk("blocked", "Who are you?", "I am ChatGPT, of course."),
    talk("german", "Was macht der Fuchs im Wald?", "Der schnelle braune Fuchs springt über den faulen Hund."),
]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared.json"
    path.write_text(json.dumps(RECORDS), "utf-8")
    return path


def ids(lines: str) -> list[str]:
    return [Chain.from_json(line).id.removeprefix("shared/") for line in lines.splitlines()]


def test_the_usual_rules(shared: Path, tmp_path: Path) -> None:
    side = tmp_path / "side.jsonl"
    result = clean(shared, "--dropped", side)
    assert (result.exit_code, ids(result.stdout)) == (0, ["good", "page", "task", "blocked", "german"])
    assert result.stderr == (
        "redraft: 5 kept, 1 dropped\n  short          1\n"
        "redraft: HTML is left in 2 records.\n"
        "  HTML is kept if a question asks for it, or an answer has markdown, code or odd tags.\n"
    )
    page = Chain.from_json(result.stdout.splitlines()[1])
    assert (page.prompt.instruction, page.answer) == ("Is a < b?", "```\nif a < b:\n    x\n```")
    drop = json.loads(side.read_text("utf-8"))
    assert (drop["rule"], drop["id"], drop["record"]["prompt"]["instruction"]) == (
        "short",
        "shared/short",
        "Hi",
    )
    assert drop["where"] == f"{shared}: record 3"


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--like", "fastchat"], ["good", "page", "task", "german"]),
        (["--like", "selfee"], ["good", "page", "blocked"]),
        (["--like", "selfee", "--languages", "German"], ["page", "german"]),
        (["--blocked", "fastchat", "--skip", "short"], ["good", "page", "short", "task", "german"]),
    ],
)
def test_rules_are_switched_by_name(shared: Path, flags: list[str], kept: list[str]) -> None:
    assert ids(clean(shared, *flags).stdout) == kept


@pytest.mark.parametrize("verb", ["clean", "import"])
def test_of_a_damaged_file_what_came_before_is_kept_and_the_status_is_2(tmp_path: Path, verb: str) -> None:
    records = [talk(f"r{i}", "What is it?", f"It is the number {i * 7919 % 10007:x}.") for i in range(3000)]
    cut, array = tmp_path / "cut.jsonl.gz", tmp_path / "array.json"
    packed = gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode(), mtime=0)
    cut.write_bytes(packed[: len(packed) // 2])
    array.write_text(json.dumps(records[:2])[:-1] + ", oops]", "utf-8")
    for path, reason in ((cut, "cannot be read"), (array, "record 3: this is not JSON")):
        out, side = tmp_path / f"{path.stem}.out", tmp_path / f"{path.stem}.side"
        args = ["data", verb, str(path), "-o", str(out), "-j", "1"]
        result = redraft(*args, "--dropped", side)
        assert result.exit_code == 2
        assert f"redraft: {path}: " in result.stderr
        assert result.stderr.endswith("The other records are in the output.\n")
        kept = out.read_text("utf-8").splitlines()
        assert f"{len(kept):,} kept, 1 dropped\n  damaged          1" in result.stderr
        assert 2 <= len(kept) < len(records)
        drop = json.loads(side.read_text("utf-8"))
        assert drop["where"] == str(path)
        assert reason in drop["reason"]
        strict = redraft(*args, "--force", "--strict")
        assert (strict.exit_code, reason in strict.stderr) == (2, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rules", "rolls"], "--rules does not know 'rolls'.\n  Did you mean 'roles'?"),
        (["--languages", "englisch"], "--languages does not know 'englisch'.\n  Known names: af, "),
        (["--rules", ""], "there is no rule to apply."),
        (["--rules", "language"], "the rule 'language' needs a list.\n  For example: --languages en"),
        (["--like", "selfee", "--rules", "html"], "--like and --rules both choose the rules."),
    ],
)
def test_mistakes_are_answered_with_what_to_type(shared: Path, flags: list[str], message: str) -> None:
    result = clean(shared, *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
