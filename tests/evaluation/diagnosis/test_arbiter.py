"""`redraft arbiter`, as a user types it: the matrix, going on, checking it, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import Result

pytest.importorskip("scipy")


from redraft.errors import UsageError
from redraft.evaluation.diagnosis.matrix import folders
from tests.cli.verbs import redraft, refused, script, write

FEW = ("--seeds", "1", "--limit", "3", "--samples", "3", "-j", "1", "--models", "script:script.jsonl")
BOTH = "add,gsm8k:test.jsonl"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("test.jsonl", [{"question": f"How many? ({n})", "answer": f"So.\n#### {n}"} for n in range(4)])
    script(*["Answer: 0", "Answer: 1", "9", "11", "12"] * 60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one task with its table."""
    home = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        write("test.jsonl", [{"question": f"How many? ({n})", "answer": f"So.\n#### {n}"} for n in range(4)])
        script(*["Answer: 0", "Answer: 1", "9", "11", "12"] * 60)
        assert run("gsm8k:test.jsonl", "--ways", "vote").exit_code == 0
    return home / "d"


def run(tasks: str = BOTH, *more: str) -> Result:
    return redraft("arbiter", "d", "--tasks", tasks, *FEW, *more)


def table() -> dict[str, object]:
    found: dict[str, object] = json.loads(Path("d/table.json").read_text())
    return found


def chains() -> dict[str, str]:
    return {str(file): file.read_text() for file in sorted(Path("d").glob("runs/*/*/*/*.jsonl"))}


def test_each_way_answers_each_task_and_the_page_says_what_came_out() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    names = {Path(name).stem for name in chains()}
    assert {"plain", "revise-2", "alone-2", "best-of-2", "vote-3"} <= names
    assert "script:script.jsonl, revise: " in result.stdout
    page = Path("d/index.html").read_text()
    for shown in ("Who should revise, when, and how?", "revise alone", "majority vote", "all tasks"):
        assert shown in page
    before = chains()
    Path("script.jsonl").rename("gone.jsonl")
    again = redraft("arbiter", "d")
    assert (again.exit_code, again.stdout) == (0, result.stdout), "only the page is made again"
    assert chains() == before
    done = redraft("arbiter", "verify", "d")
    assert done.exit_code == 0, done.output
    assert re.search(r"Verified: \d+ figures from \d+ files, and the truth of \d+ answers", done.stdout)


def test_drafts_are_drawn_until_they_take_what_revising_took() -> None:
    script(*["word " * 8] * 400)  # a revision is as long as an answer, and two of them take as much
    assert run("add", "--ways", "best").exit_code == 0
    assert {Path(name).stem for name in chains()} == {"plain", "revise-2", "best-of-2"}


def test_more_ways_seeds_and_models_are_added_to_the_folder() -> None:
    assert run("add", "--ways", "one,revise").exit_code == 0
    before = chains()
    script("Answer: 2", *["9"] * 200, name="other")
    more = ("--models", "script:other.jsonl", "--ways", "one,revise,best", "--seeds", "2")
    assert run("add", *more).exit_code == 0
    now = chains()
    assert now.items() >= before.items()
    assert {Path(name).parts[2] for name in now} == {"script-script.jsonl", "script-other.jsonl"}
    assert table()["models"] == ["script:script.jsonl", "script:other.jsonl"]
    assert redraft("arbiter", "verify", "d").exit_code == 0


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (('"passed":false', '"passed":true'), "its record disagrees with its task's checks"),
        (("(1)", "(7)"), "has another prompt"),
    ],
)
def test_an_edited_record_is_found(whole: Path, edit: tuple[str, str], said: str) -> None:
    copytree(whole, "d")
    [file] = [file for file in map(Path, chains()) if file.stem == "revise-2"]
    text = file.read_text()
    assert edit[0] in text
    file.write_text(text.replace(*edit))
    done = redraft("arbiter", "verify", "d")
    assert done.exit_code == 1, done.output
    assert f"{file.relative_to('d')}: was changed after the table was made." in done.stdout
    assert said in done.stdout
    assert "Not verified." in done.stdout


def test_an_edited_figure_and_a_lost_file_are_found(whole: Path) -> None:
    copytree(whole, "d")
    text = Path("d/table.json").read_text()
    found = json.loads(text)
    found["levels"][0]["right"]["value"] = 0.9
    Path("d/table.json").write_text(json.dumps(found))
    done = redraft("arbiter", "verify", "d")
    assert done.exit_code == 1
    assert done.stdout.startswith("table.json: levels[0].right.value is 0.9, and")
    Path("d/table.json").write_text(text)
    [*_, last] = map(Path, chains())
    last.unlink()
    assert f"{last.relative_to('d')}: is gone." in redraft("arbiter", "verify", "d").stdout
    refused(redraft("arbiter", "d", "--models", "default"), "--models was given without --tasks")
    refused(redraft("arbiter", "verify", "nothing"), "nothing has no table.json.", "redraft arbiter nothing")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("add", "--models", "defualt"), ("defualt", "Did you mean 'default'?")),
        (("add", "--models", "no.gguf"), ("there is no model 'no.gguf'", "Is its path right?")),
        (("subtraction",), ("there is no task and no file 'subtraction'", "gsm8k:test.jsonl")),
        (("test.jsonl",), ("it has no list of `checks`",)),
        (("add", "--ways", "one,guess"), ("there is no way 'guess'", "Ways: one, revise")),
        (("test.jsonl,gsm8k:test.jsonl",), ("two tasks are called 'test'",)),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_asked(
    args: tuple[str, ...], said: tuple[str, ...]
) -> None:
    refused(run(*args), *said)
    assert not Path("d").exists()


def test_a_folder_takes_no_runs_that_were_made_in_another_way(whole: Path) -> None:
    copytree(whole, "d")
    refused(run("gsm8k:test.jsonl", "--temperature", "0.1"), "in another way: temperature", "delete d")
    write("test.jsonl", [{"question": "Another?", "answer": "#### 5"}])
    refused(run("gsm8k:test.jsonl"), "test.jsonl has changed since it was answered", "name another folder")


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two of the models have one name"):
        folders(["script:a.jsonl", "script-a.jsonl"])
