from __future__ import annotations

import json
import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import Result

from redraft.chain.documents import shipped_recipes
from redraft.data.generate.instructions.tasks import read_seeds
from redraft.data.similarity import Pool
from tests.cli.verbs import chains, lines, redraft, refused, script, start, wait_until, write
from tests.data.generate.instructions.stand_in import instruction, teach
from tests.engines.batch_server import BatchServer
from tests.engines.paid_server import PaidServer
from tests.revision.test_opening import silent

__all__ = ["silent"]

GOOD = "Task 4\nInstruction: {}\nInput: <noinput>\nOutput: An answer."
SHARED = ["Name a river in Peru.", "Explain a tide to a child.", "Count the legs of an ant."]


@pytest.fixture(autouse=True)
def _replies(_folder: None) -> None:
    script("\n\n".join(GOOD.format(text) for text in [*SHARED, "Draw the shape of a leaf."]))


def run(*words: str) -> Result:
    return redraft("generate", "instructions", *words)


def scripted(*words: str) -> Result:
    return run("-o", "out.jsonl", "-m", "script:script.jsonl", "-j", "1", *words)


def served(server: PaidServer, out: str, way: str, count: int) -> list[str]:
    return ["-o", out, "-m", server.model, "--way", way, "--count", str(count), "-j", "3", "--quiet"]


def test_the_summary_says_what_is_kept_and_what_is_not() -> None:
    result = scripted("--count", "3")
    assert result.exit_code == 0, result.output
    rows = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert (rows["kept"], rows["rejected"]) == ("3 instructions, 3 tasks in out.jsonl", "1: blocked 1")
    assert Path("out.jsonl.journal.db").exists()
    assert [chain.meta["generated"]["is_last"] for chain in chains()] == [False, False, True]


@pytest.mark.parametrize("meta", [None, [], {}, {"generated": {"request": 0, "number": 1}}])
def test_an_output_with_a_record_of_something_else_is_not_gone_on_with(meta: Any) -> None:
    scripted("--count", "2", "--quiet")
    write("out.jsonl", [*lines("out.jsonl"), {"version": 1, "id": "x", "steps": [], "meta": meta}])
    refused(scripted("--count", "3"), "the record 'x' does not say in meta.generated which request made it.")


def test_a_complete_output_keeps_the_rejects_of_requests_that_gave_nothing() -> None:
    script(GOOD.format("Draw the shape of a leaf."), "\n\n".join(GOOD.format(text) for text in SHARED))
    first, again = (scripted("--count", "3").stdout.splitlines()[:2] for _ in range(2))
    enough = ": these were enough, so no request was made. A --count above 3 adds more"
    assert again == [first[0] + enough, first[1]]
    assert "blocked 1" in again[1]


def test_a_larger_count_says_what_all_runs_paid() -> None:
    script(GOOD.format(SHARED[0]), GOOD.format(SHARED[1]))
    first, again = (scripted("--count", count).stdout for count in ("1", "2"))
    assert "paid" not in first
    sessions = json.loads(Path("out.jsonl.run.json").read_text())["sessions"]
    paid = f"{sum(each['tokens'] for each in sessions)} new tokens in 2 runs, failures included"
    assert f"paid       {paid}; reused from the journal in this run: 0\n" in again


def test_what_is_made_from_seeds_has_their_licences() -> None:
    seeds = [
        {"version": 1, "prompt": {"instruction": text}, "steps": [{"answer": "An answer."}], "best": 0}
        | {"id": text, "stop": "ended", "meta": {"origin": {"dataset": "mine", "licence": "CC BY-NC 4.0"}}}
        for text in ("Write a poem on rain.", "List three tall trees.", "Say why bread rises.")
    ]
    write("seeds.jsonl", seeds)
    assert scripted("--count", "3", "--quiet", "--seeds", "seeds.jsonl").exit_code == 0
    origin = {"dataset": "made from seeds.jsonl", "licence": ["CC BY-NC 4.0"]}
    assert [chain.meta["origin"] for chain in chains()] == [origin] * 3


def test_a_dry_teacher_is_told_with_what_was_rejected() -> None:
    result = scripted("--count", "9")
    assert result.exit_code == 3
    assert "the last 25 requests gave no new, valid task; kept: 3 instructions." in result.stderr
    assert "similar 7" in result.stderr


def test_a_limit_has_its_exit_status_and_the_run_can_be_gone_on_with() -> None:
    result = scripted("--count", "9", "--limit-tokens", "1")
    assert result.exit_code == 4
    assert "the limit of 1 token is reached" in result.stderr
    assert "3 of 9 done; run the same command again to resume." in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "-"], "the output has to be a file"),
        (["-o", "out.jsonl", "--seeds", "script.jsonl"], "script.jsonl"),
        (["-o", "out.jsonl", "--way", "alpacca"], "It should be alpaca or self-instruct."),
        (["-o", "out.jsonl", "--similar", "7"], "similar is 7.0"),
        (["-o", "out.jsonl", "--count", "0"], "count is 0"),
        (["-o", "o.jsonl", "-m", "script:script.jsonl", "--language", "xx"], "'xx' is not a known language"),
        (["-o", "o.jsonl", "-m", "default", "--language", "xx"], "The default model is too small to write"),
        (["-o", "o.jsonl", "-m", "script:script.jsonl", "--language", "Germn"], "Did you mean 'german'?"),
        (["-o", "no/out.jsonl", "-m", "script:script.jsonl"], "mkdir -p no"),
        (["-o", "/proc/x", "-m", "script:script.jsonl"], "another file (-o)"),
        (["-o", "out.jsonl", "--limit-usd", "1", "-m", "script:script.jsonl"], "price"),
        (["-o", "out.jsonl", "--batch", "-m", "script:script.jsonl"], "no model is on a server"),
        (
            ["-o", "o.jsonl", "--batch", "-m", "http://h/v1#m", "--way", "self-instruct"],
            "--batch needs --way alpaca",
        ),
        (["-o", "o.jsonl", "--recipe", "selfee_gold"], "there is no recipe 'selfee_gold'"),
        (["-o", "o.jsonl", "--recipe", "mine.yaml"], "mine.yaml: there is no option 'max_revisions'"),
    ],
)
def test_mistakes_are_told_without_a_traceback(words: list[str], message: str) -> None:
    Path("mine.yaml").write_text("count: 3\nmax_revisions: 2\n")
    refused(run(*words), message)


def test_the_shipped_recipes_are_read() -> None:
    assert {"alpaca", "self_instruct"} == set(shipped_recipes("instructions"))
    result = scripted("--recipe", "alpaca", "--count", "3")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("out.jsonl.run.json").read_text())["config"]["temperature"] == 1.0
    missing = run("-o", "o.jsonl", "-m", "script:none.jsonl", "--recipe", "self_instruct")
    assert (missing.exit_code, "done" in missing.stderr) == (3, False)


def test_the_limit_of_seconds_holds_while_the_model_is_opened(silent: str) -> None:
    result = run("-o", "out.jsonl", "-m", silent, "--limit-seconds", "1")
    assert result.exit_code == 4, result.output
    assert "the limit of 1 s was reached before the model was ready." in result.stderr
    assert "0 of 100 done" in result.stderr


def some(body: dict[str, Any]) -> str:
    rng = Random(str(body["messages"]))
    return "\n\n".join(GOOD.format(instruction(rng)) for _ in range(12))


@pytest.mark.slow
def test_batches_give_what_live_calls_give_in_a_few_waves() -> None:
    with BatchServer(says=some, swift=True) as server:
        words = ["-m", f"{server.url}#gull", "--count", "60", "--quiet"]
        result = run("-o", "out.jsonl", *words, "--batch", "--pause", "0.05")
        assert result.exit_code == 0, result.output
        assert server.live == []
        assert len(server.batches) <= 3
        assert run("-o", "live.jsonl", *words).exit_code == 0
        assert len(server.live) == server.paid.total() == 5
    assert Path("out.jsonl").read_bytes() == Path("live.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [("--limit-tokens", "1"), ("--limit-usd", "0.001", "--price", "1,1000")])
def test_a_limit_ends_the_waiting_for_a_batch_and_the_next_run_waits_for_it(limit: tuple[str, ...]) -> None:
    with BatchServer(says=some, swift=True) as server:
        words = ["-o", "out.jsonl", "-m", f"{server.url}#gull", "--count", "60", "--quiet", "-j", "1"]
        words += ["--batch", "--pause", "0.05"]
        result = run(*words, *limit)
        assert result.exit_code == 4, result.output
        assert "is reached" in result.stderr
        paid = server.paid.total()
        assert run(*words).exit_code == 0
        assert 0 < paid < server.paid.total()
        assert set(server.paid.values()) == {1}


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_a_weak_teacher_is_no_danger(default_model: Path, way: str) -> None:
    words = ["-o", "out.jsonl", "-m", str(default_model), "--way", way, "--max-tokens", "100", "-j", "2"]
    result = run(*words, "--count", "9", "--limit-tokens", "1500", "--quiet")
    assert result.exit_code == 4, result.output
    assert lines("out.jsonl.rejected.jsonl")
    kept = {chain.prompt.instruction for chain in chains()}
    pool = Pool()
    for text in (*(task.instruction for task in read_seeds(None).tasks), *kept):
        assert pool.nearest(text) is None
        pool.add(text)


@pytest.mark.parametrize(
    ("way", "count", "kills"),
    [
        ("self-instruct", 12, 1),
        pytest.param("alpaca", 120, 9, marks=pytest.mark.slow),
        pytest.param("self-instruct", 120, 16, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_loses_nothing_and_pays_for_nothing_twice(way: str, count: int, kills: int) -> None:
    with PaidServer(teach, seconds=0.03) as server:
        assert run(*served(server, "whole.jsonl", way, count)).exit_code == 0
        needed = len(server.messages)
        server.messages.clear()
        for number in range(1, kills + 1):
            with start("generate", "instructions", *served(server, "out.jsonl", way, count)) as job:
                wait_until(lambda: len(server.messages) >= number * needed // (kills + 2))  # noqa: B023
                job.send_signal(signal.SIGKILL)
        assert run(*served(server, "out.jsonl", way, count)).exit_code == 0
        assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
        rejects, whole = (Path(f"{name}.jsonl.rejected.jsonl").read_text() for name in ("out", "whole"))
        assert sorted(rejects.splitlines()) == sorted(whole.splitlines())
        assert len(chains()) >= count
        # Only the three calls under way at a kill may be asked again, and no call is made that a whole run
        # does not need.
        assert len(server.messages) <= needed + kills * 3
