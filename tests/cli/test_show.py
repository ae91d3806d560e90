from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from redraft.chain import Chain, CheckResult, Feedback, Prompt, Step, Usage, write_jsonl
from redraft.jobs.ledger import Unfinished
from redraft.jobs.provenance import Provenance
from tests.cli.verbs import redraft, refused, write


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
def out(_folder: None) -> Path:
    write_jsonl("out.jsonl", [chain("a/1"), chain("a/2"), chain("a/3")])
    return Path("out.jsonl")


def show(*args: object) -> Result:
    return redraft("show", *args)


def test_all_of_a_chain_is_there_in_80_columns_and_without_escapes(out: Path) -> None:
    result = show(out, "--id", "a/2")
    assert result.exit_code == 0
    text = result.stdout
    for part in (
        "a/2",
        "Describe rain.",
        "Rain is water that falls.",
        "Too long.",
        "✗ words<=4: 5 words, at most 4",
        "Revision 1 · best",
        "Water that falls.",
        "no further revision was allowed",
        "40 new tokens",
    ):
        assert part in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines() == [line.rstrip() for line in text.splitlines()]


def test_one_by_id_and_the_first_few(out: Path) -> None:
    assert [name for name in ("a/1", "a/2", "a/3") if name in show(out).stdout] == ["a/1", "a/2", "a/3"]
    assert [name for name in ("a/1", "a/2", "a/3") if name in show(out, "--limit", 2).stdout] == [
        "a/1",
        "a/2",
    ]
    assert [name for name in ("a/1", "a/2", "a/3") if name in show(out, "--id", "a/3").stdout] == ["a/3"]


def test_a_gold_answer_is_shown_where_there_is_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"instruction": "Hi.", "output": "Hello!"}])
    assert "Hello!" in show(path).stdout


def test_json_gives_the_records_back(out: Path) -> None:
    assert show(out, "--json").stdout == out.read_text()
    assert json.loads(show(out, "--json", "--id", "a/2").stdout)["id"] == "a/2"


def test_html_writes_one_page_and_replaces_none(out: Path) -> None:
    assert show(out, "--html", "out.html").exit_code == 0
    assert "3 chains" in Path("out.html").read_text("utf-8")
    refused(show(out, "--html", "out.html"), "out.html")
    refused(show(out, "--html", out, "--force"), "out.jsonl")
    refused(show(out, "--html", "x.html", "--json"), "--html writes a page")
    Path("empty.jsonl").write_text("")
    refused(show("empty.jsonl", "--html", "empty.html"), "empty.jsonl")
    assert not Path("empty.html").exists()


def test_an_unknown_id_is_told_with_those_that_there_are(out: Path) -> None:
    result = show(out, "--id", "a/9")
    assert result.exit_code == 2
    assert result.stderr == f"redraft: no chain in {out} has the id 'a/9'.\n  Known ids: a/1, a/2, a/3\n"


def test_the_end_of_an_id_will_do_where_it_is_the_only_one(out: Path, tmp_path: Path) -> None:
    assert json.loads(show(out, "--json", "--id", "2").stdout)["id"] == "a/2"
    other = tmp_path / "other.jsonl"
    write_jsonl(other, [chain("b/2"), chain("b/12")])
    assert json.loads(show(other, "--json", "--id", "2").stdout)["id"] == "b/2"
    result = show(out, other, "--id", "2")
    assert result.exit_code == 2
    assert result.stderr == (
        f"redraft: 2 chains in {out}, {other} have ids that end in '2'.\n  Known ids: a/2, b/2\n"
    )


def test_what_failed_is_shown_with_the_reason() -> None:
    failed = {"error": "ServerError", "message": "the server is down.", "hint": None}
    begun = chain("a/1").model_copy(update={"stop": "error"}).model_dump(mode="json")
    write(
        "out.jsonl.errors.jsonl",
        [{"id": "a/1", **failed, "chain": begun}, {"id": "a/2", **failed, "chain": None}],
    )
    result = show("out.jsonl.errors.jsonl")
    assert result.exit_code == 0
    for part in ("a/1", "Rain is water that falls.", "a/2"):
        assert part in result.stdout
    assert result.stdout.count("failed  the server is down.") == result.stdout.count("server is down") == 2
    assert "an error" not in result.stdout


def test_answers_of_a_policy_are_shown_with_their_rewards() -> None:
    parts = {"reward": 0.4, "rewards": {"words<=3": 0.3, "0.1*reward:rew": 0.1}}
    write(
        "samples.jsonl", [{"rollout": 0, "row": 0, "prompt": "Why?", "answer": "I", "ended": False, **parts}]
    )
    said = " ".join(show("samples.jsonl").stdout.split())
    assert "was reached. reward 0.400 (words<=3 0.300, 0.1*reward:rew 0.100)" in said


def test_unfinished_chains_are_shown_as_far_as_they_came() -> None:
    with Unfinished(Path("out.jsonl"), Provenance("answer"), set()) as kept:
        kept.keep("a/1", chain("").to_json())
    result = show("out.jsonl.unfinished.jsonl")
    assert result.exit_code == 0, result.stderr
    assert "a/1" in result.stdout
    assert "Rain is water that falls." in result.stdout


def test_a_bad_file_is_named() -> None:
    write("bad.jsonl", [{"version": 1, "steps": 3}])
    refused(show("bad.jsonl"), "redraft: bad.jsonl:1: steps: ")
    Path("empty.jsonl").write_text("\n")
    refused(show("empty.jsonl"), "empty.jsonl")
    refused(show("none.jsonl"), "none.jsonl")


def test_a_huge_record_is_shown_from_its_beginning() -> None:
    steps = [{"answer": "lorem ipsum " * 300_000}]
    write(
        "huge.jsonl",
        [{"version": 1, "id": "a/1", "prompt": {"instruction": "Go."}, "steps": steps, "best": 0}],
    )
    result = show("huge.jsonl")
    assert result.exit_code == 0
    assert "3,500,000 more characters. To see them: redraft show --json" in " ".join(result.output.split())
    assert len(result.output) < 400_000
    assert len(show("huge.jsonl", "--json").output) > 3_600_000
