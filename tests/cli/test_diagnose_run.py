"""`redraft diagnose --run`, as a user types it: the runs, going on, reading them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

pytest.importorskip("scipy")

from redraft.chain import Chain
from tests.cli.verbs import chains as chains_of
from tests.cli.verbs import redraft, script, write

REPLIES = ["Answer: 0", "Answer: 5", "It is 2.", "#### 3"]


@pytest.fixture(autouse=True)
def _four(_folder: None) -> None:
    """Four questions, whose answers are 0, 1, 2 and 3, and a script."""
    write("test.jsonl", [{"question": f"How many? ({n})", "answer": f"So.\n#### {n}"} for n in range(4)])
    script(*REPLIES * 10)


def call(*args: str) -> Result:
    return redraft("diagnose", *args)


def run(*args: str) -> Result:
    return call("--run", "gsm8k", "test.jsonl", "-o", "runs", "-m", "script:script.jsonl", "-j", "1", *args)


def chains(way: str, seed: int = 0) -> dict[str, Chain]:
    return {chain.id: chain for chain in chains_of(Path("runs", f"seed-{seed}", f"{way}.jsonl"))}


@pytest.mark.slow
def test_all_ways_begin_with_the_same_first_answers_and_are_compared() -> None:
    result = run("--seeds", "2")
    assert result.exit_code == 0, result.output
    assert "right answers by way: 4 items, 2 seeds" in result.stdout
    assert result.stdout.rstrip().splitlines()[-1].startswith(("Undecided: ", "Revise: ", "Don't "))
    for seed in (0, 1):
        plain = {name: chain.answer for name, chain in chains("plain", seed).items()}
        assert len(plain) == 4
        for way in ("revise-2", "blind-2", "shuffled-2"):
            assert {name: chain.steps[0].answer for name, chain in chains(way, seed).items()} == plain
        for name, chain in chains("best-of-4", seed).items():
            assert plain[name] in [step.answer for step in (*chain.steps, *chain.drafts)]
        assert all(len(chain.drafts) == 3 for chain in chains("vote-4", seed).values())
    drawn = [chain.sampling["seed"] for seed in (0, 1) for chain in chains("plain", seed).values()]
    assert len(set(drawn)) == 8


def test_long_answers_have_no_majority_and_an_empty_file_is_refused() -> None:
    write("own.jsonl", [{"prompt": f"Describe rain. ({n})", "checks": ["contains:rain"]} for n in range(2)])
    script(*["rain", "sun"] * 20)
    result = call("--run", "checks", "own.jsonl", "-o", "runs", "-m", "script:script.jsonl", "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert not list(Path("runs").glob("*/vote-*"))
    Path("empty.jsonl").touch()
    result = call("--run", "checks", "empty.jsonl", "-o", "runs", "-m", "script:script.jsonl")
    assert "empty.jsonl has no record." in result.stderr


@pytest.mark.slow
def test_a_finished_run_asks_nothing_and_can_be_read_again() -> None:
    first = run("--seeds", "1")
    Path("script.jsonl").unlink()
    again = run("--seeds", "1")
    assert (again.exit_code, again.stdout) == (0, first.stdout), again.output
    assert call("runs").stdout == first.stdout
    assert "at equal tokens" in first.stdout
    assert "redraft diagnose --run" not in first.stdout  # that is this one
    values = json.loads(call("runs", "--json").stdout)
    assert "redraft diagnose --run" not in values["sentence"]
    assert values["equal_tokens"]["items"] == 4
    assert call("runs", "--html", "page.html").exit_code == 0
    page = Path("page.html").read_text()
    assert "At equal tokens" in page
    assert "new tokens an item</text>" in page
    assert "runs are missing" not in page
    script(*REPLIES * 10)
    assert run("--seeds", "1", "--seed", "7", "--limit-tokens", "1").exit_code == 4
    assert sorted(folder.name for folder in Path("runs").glob("seed-*")) == ["seed-0", "seed-7"]
    assert call("runs", "--html", "page.html", "--force").exit_code == 0
    assert "Not counted, because runs are missing: seed-7." in Path("page.html").read_text()


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_no_answer_is_made_twice() -> None:
    folder = Path("runs", "seed-0")
    assert run("--seeds", "1").exit_code == 0
    whole = {file: texts(file) for file in folder.glob("*.jsonl")}
    for name in ("vote-3.jsonl", "shuffled-2.jsonl"):  # as if it had been stopped there
        (folder / name).unlink()
    cut = folder / "best-of-4.jsonl"
    cut.write_bytes(cut.read_bytes().splitlines(keepends=True)[0])
    assert run("--seeds", "1").exit_code == 0
    assert {file: texts(file) for file in whole} == whole


def texts(file: Path) -> list[tuple[str, list[str]]]:
    return [(chain.id, [step.answer for step in (*chain.steps, *chain.drafts)]) for chain in chains_of(file)]


def test_an_empty_answer_is_wrong_and_the_run_goes_on() -> None:
    script("Answer: 0", "", *["Answer: 2"] * 50)
    result = run("--seeds", "1", "--samples", "2")
    assert "runs/seed-0/plain.jsonl: 1 prompt failed: empty reply 1." in result.stderr
    assert result.exit_code == 3, result.output
    assert "right answers by way: 4 items, 1 seed" in result.stdout
    assert "one answer                     50.0 %" in result.stdout


@pytest.mark.slow
def test_a_limit_is_of_all_ways_together_and_the_next_command_goes_on() -> None:
    script(*["Answer: 9"] * 500)
    full = run("--seeds", "1", "--samples", "2", "-o", "full", "--price", "0,1000000")
    assert full.exit_code == 0, full.output
    limited = ("--seeds", "1", "--samples", "2", "--price", "0,1000000", "--limit-usd")
    one = run(*limited, "60")
    assert one.exit_code == 4, one.output
    assert "the limit of 60 USD is reached (63.0000 spent): 3 of 4 done" in one.stderr
    assert not one.stdout
    lines = {file.name: len(file.read_bytes().splitlines()) for file in Path("runs").glob("*/*-2.jsonl")}
    assert lines == {"revise-2.jsonl": 3}
    assert run(*limited, "60").exit_code == 4
    two = run(*limited, "60")
    assert two.exit_code == 0, two.output
    assert two.stdout == full.stdout


def test_quiet_says_nothing_but_the_result() -> None:
    result = run("--seeds", "1", "--samples", "2", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("--seeds", "1", "--samples", "2").stderr.splitlines() == [
        f"redraft: {way}, seed 0: run {number} of 7"
        for number, way in enumerate(
            ("plain", "revise-2", "best-of-2", "blind-2", "shuffled-2", "repair-2", "auto-2"), 1
        )
    ]


@pytest.mark.slow
def test_other_records_and_chains_are_refused() -> None:
    assert run("--seeds", "1").exit_code == 0
    write("other.jsonl", [{"question": "Why?", "answer": "#### 1"}])
    mixed = call("--run", "gsm8k", "other.jsonl", "-o", "runs", "-m", "script:script.jsonl")
    assert mixed.exit_code != 0
    assert "Name another folder with -o, or delete runs to start over." in mixed.stderr
    script(*["Answer: 3"] * 90, name="more")
    seeds = call("--run", "gsm8k", "test.jsonl", "-o", "runs", "-m", "script:more.jsonl", "--seed", "5")
    assert "model was script:script.jsonl and is script:more.jsonl" in seeds.stderr
    assert "Name another folder with -o, or delete runs to start over." in seeds.stderr
    assert not Path("runs", "seed-5").exists()
    assert "--score was given with the runs in runs" in call("runs", "--score", "words<=5").stderr
    chains = call("--run", "gsm8k", "runs/seed-0/plain.jsonl", "-o", "more", "-m", "script:script.jsonl")
    assert "has chains of redraft eval" in chains.stderr
    assert "runs is a folder" in call("runs", "test.jsonl").stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--run", "gsm8k", "test.jsonl"], "--run needs a folder for its runs"),
        (["--run", "gsm8k", "test.jsonl", "-o", "test.jsonl"], "test.jsonl is a file"),
        (["--run", "gsm8k", "test.jsonl", "test.jsonl", "-o", "runs"], "--run takes one file of records"),
        (["--run", "rain", "test.jsonl", "-o", "runs"], "there is no task 'rain'"),
        (["--run", "humaneval", "test.jsonl", "-o", "runs"], "--run-code"),
        (["test.jsonl", "--model", "default"], "--model is for --run"),
        (["test.jsonl", "--limit-usd", "2"], "--limit-usd is for --run"),
        (
            ["--run", "gsm8k", "test.jsonl", "-o", "runs", "--score", "words<=5"],
            "--score was given with --run",
        ),
        (["--run", "gsm8k", "test.jsonl", "-o", "runs", "--drafts", "2"], "--drafts is what --run varies"),
        (["--run", "gsm8k", "test.jsonl", "-o", "runs", "--mode", "best-of"], "is one of the ways of --run"),
        (["--run", "gsm8k", "test.jsonl", "-o", "runs", "--max-revisions", "0"], "--max-revisions is 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(args: list[str], said: str) -> None:
    result = call(*args)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert not Path("runs").exists()
