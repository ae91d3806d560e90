"""`redraft show`: the chains of any file that redraft reads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import Chain, CheckResult, Feedback, Prompt, Step, Usage, write_jsonl
from redraft.cli import app
from redraft.jobs.provenance import Provenance
from redraft.jobs.unfinished import Unfinished


def chain(name: str) -> Chain:
    check = CheckResult(name="words<=4", passed=False, score=0.8, message="5 words, at most 4")
    return Chain(
        id=name,
        prompt=Prompt(instruction="Describe rain.\x1b[31m"),
        steps=(
            Step(
                answer="Rain is water that falls.",
                feedback=Feedback(text="Too long.", verdict="revise", by="both", checks=(check,)),
            ),
            Step(answer="Water that falls."),
        ),
        best=1,
        stop="max_revisions",
        usage=Usage(completion_tokens=40),
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl"
    write_jsonl(path, [chain("a/1"), chain("a/2"), chain("a/3")])
    return path


def show(*args: object) -> Result:
    return CliRunner().invoke(app, ["show", *map(str, args)], prog_name="redraft")


def test_all_of_a_chain_is_there_in_80_columns_and_without_escapes(out: Path) -> None:
    result = show(out, "--id", "a/2")
    assert result.exit_code == 0
    text = result.stdout
    for part in (
        "a/2",
        "Describe rain.",
        "Rain is water that falls.",
        "Too long.",
        "✗ words<=4  5 words, at most 4",
        "Revision 1 · best",
        "Water that falls.",
        "(max_revisions)",
        "40 new tokens",
    ):
        assert part in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_one_by_id_and_the_first_few(out: Path) -> None:
    assert [name for name in ("a/1", "a/2", "a/3") if name in show(out).stdout] == ["a/1", "a/2", "a/3"]
    assert [name for name in ("a/1", "a/2", "a/3") if name in show(out, "--limit", 2).stdout] == [
        "a/1",
        "a/2",
    ]
    assert [name for name in ("a/1", "a/2", "a/3") if name in show(out, "--id", "a/3").stdout] == ["a/3"]


def test_json_gives_the_records_back(out: Path) -> None:
    assert show(out, "--json").stdout == out.read_text()
    assert json.loads(show(out, "--json", "--id", "a/2").stdout)["id"] == "a/2"


def test_other_records_are_shown_as_chains(shared_data: Path) -> None:
    answers = shared_data / "selfee" / "answers"
    path = next(iter(sorted(answers.glob("*enforce*3*")))) if list(answers.glob("*enforce*3*")) else None
    path = path or sorted(answers.iterdir())[-1]
    result = show(path, shared_data / "questions" / "vicuna_80.jsonl", "--limit", 81)
    assert result.exit_code == 0
    assert "Feedback 1" in result.stdout
    assert "vicuna_80/1 " in result.stdout


def test_an_unknown_id_is_told_with_those_that_there_are(out: Path) -> None:
    result = show(out, "--id", "a/9")
    assert result.exit_code == 2
    assert result.stderr == f"redraft: nothing in {out} has the id 'a/9'.\n  Ids there: a/1, a/2, a/3\n"


def test_the_end_of_an_id_will_do_where_it_is_the_only_one(out: Path, tmp_path: Path) -> None:
    assert json.loads(show(out, "--json", "--id", "2").stdout)["id"] == "a/2"
    other = tmp_path / "other.jsonl"
    write_jsonl(other, [chain("b/2"), chain("b/12")])
    assert json.loads(show(other, "--json", "--id", "2").stdout)["id"] == "b/2"
    result = show(out, other, "--id", "2")
    assert result.exit_code == 2
    assert result.stderr == (
        f"redraft: 2 chains in {out}, {other} have ids that end in '2'.\n  Ids there: a/2, b/2\n"
    )


def test_what_failed_is_shown_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl.errors.jsonl"
    failed = {"error": "ServerError", "message": "the server is down.", "hint": None}
    begun = chain("a/1").model_copy(update={"stop": "error"}).model_dump(mode="json")
    lines = [{"id": "a/1", **failed, "chain": begun}, {"id": "a/2", **failed, "chain": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = show(path)
    assert result.exit_code == 0
    for part in ("a/1", "Rain is water that falls.", "a/2"):
        assert part in result.stdout
    assert result.stdout.count("failed   the server is down.") == 2


def test_unfinished_chains_are_shown_as_far_as_they_came(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl.unfinished.jsonl"
    with Unfinished(tmp_path / "out.jsonl", Provenance("answer"), set()) as kept:
        kept.keep("a/1", chain("").to_json())
    result = show(path)
    assert result.exit_code == 0, result.stderr
    assert "a/1" in result.stdout
    assert "Rain is water that falls." in result.stdout


def test_a_file_without_a_record_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    done = CliRunner().invoke(app, ["show", str(tmp_path / "empty.jsonl")])
    assert done.exit_code == 2
    assert "empty.jsonl" in done.stderr


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"version": 1, "steps": 3}\n')
    result = show(path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"redraft: {path}:1: steps: ")
    assert show(tmp_path / "none.jsonl").exit_code == 2


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    write_jsonl(path, [chain(f"a/{n}") for n in range(2000)])
    command = f"{sys.executable} -m redraft show {path} | head -3"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3


def test_a_huge_record_is_shown_from_its_beginning(tmp_path: Path) -> None:
    """40 MB and 2,000 messages. Laying all of it out took minutes and gigabytes."""
    file = tmp_path / "huge.jsonl"
    steps = [{"answer": "lorem ipsum " * 3_000_000}]
    messages = [{"role": "user", "content": f"message {number}"} for number in range(2000)]
    chain = {"version": 1, "id": "a/1", "prompt": {"messages": messages}, "steps": steps, "best": 0}
    file.write_text(json.dumps(chain) + "\n")
    result = CliRunner().invoke(app, ["show", str(file)], prog_name="redraft")
    assert result.exit_code == 0
    assert "35,900,000 more characters. To see them: redraft show --json" in " ".join(result.output.split())
    assert "… and 1,000 more messages." in result.output
    assert len(result.output) < 400_000
    assert len(CliRunner().invoke(app, ["show", "--json", str(file)]).output) > 36_000_000


@pytest.mark.parametrize("failure", ["It broke.", {}, 3])
def test_a_failure_of_another_kind_is_left_out(tmp_path: Path, failure: object) -> None:
    path = tmp_path / "odd.jsonl"
    record = {"version": 1, "id": "a/1", "steps": [], "stop": "error", "meta": {"failure": failure}}
    path.write_text(json.dumps(record) + "\n")
    result = show(path)
    assert (result.exit_code, result.exception) == (0, None)
    assert "a/1" in result.stdout


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a run of six prompts at 0.1 s each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(6)))
    settings = {"settings": {"delay": 0.025, "chunk": 20}}
    (tmp_path / "script.jsonl").write_text(f'{json.dumps(settings)}\n"A gull over the grey, grey sea."\n')
    return ["answer", "prompts.txt", "-o", "run.jsonl", "-m", "script:script.jsonl", "-j", "1", "-q"]


def process(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "redraft", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_is_followed_from_before_its_beginning_to_its_end(slow: list[str]) -> None:
    with process("show", "run.jsonl", "--follow", "--json") as follower:
        assert follower.stderr is not None
        assert follower.stderr.readline() == "redraft: run.jsonl does not exist: waiting for it.\n"
        with process(*slow) as run:
            assert follower.stdout is not None
            first = follower.stdout.readline()
            assert run.poll() is None, "the first chain came only when all were done"
            rest, told = (
                follower.stdout.read(),
                follower.stderr.read(),
            )  # communicate() forgets what was buffered
    assert [json.loads(line)["id"] for line in [first, *rest.splitlines()]] == [
        f"prompts/{number}" for number in range(6)
    ]
    assert (follower.returncode, told) == (0, "redraft: the run has ended: 6 done.\n")
    text = show("run.jsonl", "-f", "--limit", 2)
    assert text.exit_code == 0
    assert [n for n in range(6) if f"prompts/{n}" in text.stdout] == [4, 5]


def test_ctrl_c_ends_following_quietly(out: Path) -> None:
    with process("show", str(out), "--follow") as follower:
        assert follower.stdout is not None
        while "a/3" not in follower.stdout.readline():
            pass
        follower.send_signal(signal.SIGINT)
        _, told = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 1


@pytest.mark.parametrize("more", [["--id", "a/1"], ["other.jsonl"]])
def test_one_whole_file_is_followed(out: Path, more: list[str]) -> None:
    result = show(out, "--follow", *more)
    assert result.exit_code == 2
    assert "--follow is for all chains of one file" in result.stderr
