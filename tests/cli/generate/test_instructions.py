"""`redraft generate instructions`: flags, messages, exit statuses, recipes, and runs that are killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import read_jsonl
from redraft.cli import app
from redraft.collect.dedupe.rouge import Pool
from redraft.formats.documents import shipped_recipes
from redraft.generate.instructions.tasks import read_seeds
from tests.cli.test_go_on import CountingServer
from tests.engines.batch_server import BatchServer
from tests.generate.instructions.stand_in import instruction, teach
from tests.revision.test_opening import silent

__all__ = ["silent"]

GOOD = "Task 4\nInstruction: {}\nInput: <noinput>\nOutput: An answer."
SHARED = ["Name a river in Peru.", "Explain a tide to a child.", "Count the legs of an ant."]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reply = "\n\n".join(GOOD.format(text) for text in [*SHARED, "Draw the shape of a leaf."])
    Path("replies.jsonl").write_text(json.dumps(reply) + "\n")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["generate", "instructions", *words], prog_name="redraft")


def scripted(*words: str) -> Result:
    return run("-o", "out.jsonl", "-m", "script:replies.jsonl", "-j", "1", *words)


def test_the_summary_says_what_is_kept_and_what_is_not() -> None:
    result = scripted("--count", "3")
    assert result.exit_code == 0, result.output
    rows = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert rows["kept"] == "3 instructions, 3 tasks in out.jsonl"
    assert rows["rejected"] == "1: blocked 1"
    assert rows["verbs"] == "count 1, explain 1, name 1; 0 without"
    assert rows["page"] == "out.jsonl.html"
    assert Path("out.jsonl.journal.db").exists()


def test_the_output_becomes_alpacas_shape() -> None:
    scripted("--count", "3", "--quiet")
    result = CliRunner().invoke(app, ["data", "export", "out.jsonl", "--to", "alpaca", "-o", "alpaca.json"])
    assert result.exit_code == 0, result.output
    records = json.loads(Path("alpaca.json").read_text())
    assert [record["instruction"] for record in records] == SHARED
    assert records[0] == {"instruction": SHARED[0], "input": "", "output": "An answer."}


def test_what_is_made_from_seeds_has_their_licences() -> None:
    seeds = [
        {"version": 1, "prompt": {"instruction": text}, "steps": [{"answer": "An answer."}], "best": 0}
        | {"id": text, "stop": "ended", "meta": {"origin": {"dataset": "mine", "licence": "CC BY-NC 4.0"}}}
        for text in ("Write a poem on rain.", "List three tall trees.", "Say why bread rises.")
    ]
    Path("seeds.jsonl").write_text("".join(json.dumps(each) + "\n" for each in seeds))
    assert scripted("--count", "3", "--quiet", "--seeds", "seeds.jsonl").exit_code == 0
    origin = {"dataset": "made from seeds.jsonl", "licence": ["CC BY-NC 4.0"]}
    assert [chain.meta["origin"] for chain in read_jsonl(Path("out.jsonl"))] == [origin] * 3


def test_a_dry_teacher_is_told_with_what_was_rejected() -> None:
    result = scripted("--count", "9")
    assert result.exit_code == 3
    assert "the last 25 requests gave nothing new that is sound; 3 instructions are kept." in result.stderr
    assert "similar 7" in result.stderr


def test_a_limit_has_its_exit_status_and_the_run_can_be_gone_on_with() -> None:
    result = scripted("--count", "9", "--limit-tokens", "1")
    assert result.exit_code == 4
    assert "the limit of 1 tokens is reached" in result.stderr
    assert "3 of 9 done; run the same command again to go on." in result.stderr


def test_a_limit_in_the_sample_of_an_estimate_is_told_too() -> None:
    result = scripted("--count", "90", "--limit-tokens", "1", "--estimate", "2")
    assert result.exit_code == 4
    assert "the limit of 1 tokens is reached" in result.stderr
    assert "87 more instructions, from 1 request" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "-"], "the output has to be a file"),
        (["-o", "out.jsonl", "--seeds", "none.jsonl"], "none.jsonl"),
        (["-o", "out.jsonl", "--seeds", "replies.jsonl"], "replies.jsonl"),
        (["-o", "out.jsonl", "--way", "alpacca"], "It should be alpaca or self-instruct."),
        (["-o", "out.jsonl", "--similar", "7"], "similar is 7.0"),
        (["-o", "out.jsonl", "--journal", "out.jsonl"], "cannot be the journal too"),
        (["-o", "no/out.jsonl", "-m", "script:replies.jsonl"], "mkdir -p no"),
        (["-o", "out.jsonl", "--limit-usd", "1", "-m", "script:replies.jsonl"], "price"),
        (["-o", "out.jsonl", "--batch", "-m", "script:replies.jsonl"], "no model is on one"),
        (
            ["-o", "o.jsonl", "--batch", "-m", "http://h/v1#m", "--way", "self-instruct"],
            "is for --way alpaca",
        ),
        (["-o", "out.jsonl", "--recipe", "alpacca"], "there is no recipe 'alpacca'"),
        (["-o", "out.jsonl", "--recipe", "selfee_gold"], "selfee_gold is a recipe of generate chains."),
    ],
)
def test_mistakes_are_told_without_a_traceback(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_the_shipped_recipes_are_read() -> None:
    assert {"alpaca", "self_instruct"} <= set(shipped_recipes("generate"))
    result = scripted("--recipe", "alpaca", "--count", "3")
    assert result.exit_code == 0, result.output
    record = json.loads(Path("out.jsonl.run.json").read_text())
    assert record["config"]["temperature"] == 1.0
    assert run("-o", "o.jsonl", "-m", "script:none.jsonl", "--recipe", "self_instruct").exit_code == 2


def test_a_recipe_with_another_verbs_key_is_refused() -> None:
    Path("mine.yaml").write_text("count: 3\nmax_revisions: 2\n")
    result = scripted("--recipe", "mine.yaml")
    assert result.exit_code == 2
    assert "mine.yaml: there is no option 'max_revisions'" in result.stderr


def test_the_limit_of_seconds_holds_while_the_model_is_opened(silent: str) -> None:
    result = run("-o", "out.jsonl", "-m", silent, "--limit-seconds", "1")
    assert result.exit_code == 4, result.output
    assert "the limit of 1 seconds was reached before the model was ready." in result.stderr
    assert "0 of 100 done" in result.stderr


@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_an_estimate_is_near_the_cost_and_its_requests_are_kept(way: str) -> None:
    with CountingServer(says=teach, seconds=0) as server:
        words = [*words_of(server, "out.jsonl", way, 45)[:-1], "--price", "1,1000"]
        result = run(*words, "--estimate", "5")
        assert result.exit_code == 0, result.output
        requests = [text for text in map(str, server.asked) if "Now write" in text]
        assert len(requests) == 5
        before = len(server.asked)
        shown = result.stdout[result.stdout.index("estimate") :]
        [calls] = re.findall(r"([\d,]+) \([\d,]+ (?:to [\d,]+|or more)\) calls", shown)
        [(usd, low, high)] = re.findall(r"([\d.]+) \(([\d.]+) (?:to ([\d,.]+)|or more)\) USD", shown)
        rest = run(*words)
        assert rest.exit_code == 0, rest.output
        made = len(server.asked) - before
    assert float(low) <= made * 0.007 <= float(high.replace(",", "") or "inf")
    assert float(usd) == pytest.approx(int(calls) * 0.007, abs=0.01)
    assert "estimate" not in rest.stdout


def test_batches_give_what_live_calls_give_in_a_few_waves() -> None:
    def says(body: dict[str, Any]) -> str:
        rng = Random(str(body["messages"]))
        return "\n\n".join(GOOD.format(instruction(rng)) for _ in range(12))

    with BatchServer(says=says, swift=True) as server:
        words = ["-m", f"{server.url}#gull", "--count", "60", "--quiet"]
        result = run("-o", "out.jsonl", *words, "--batch", "--pause", "0.05")
        assert result.exit_code == 0, result.output
        assert server.live == []
        assert len(server.batches) <= 3
        assert run("-o", "live.jsonl", *words).exit_code == 0
        assert len(server.live) == server.paid.total() == 5
    assert Path("out.jsonl").read_bytes() == Path("live.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_a_weak_teacher_is_no_danger(default_model: Path, way: str) -> None:
    """The default model repeats examples and leaves the form. What is kept passes the rules all the same."""
    words = ["-o", "out.jsonl", "-m", str(default_model), "--way", way, "--max-tokens", "100", "-j", "2"]
    result = run(*words, "--count", "9", "--estimate", "2", "--quiet")
    assert result.exit_code == 0, result.output
    rejects = [json.loads(line) for line in Path("out.jsonl.rejected.jsonl").read_text().splitlines()]
    assert {record["request"] for record in rejects} == {0, 1}
    kept = {chain.prompt.instruction for chain in read_jsonl("out.jsonl")}
    pool = Pool()
    for text in (*(task.instruction for task in read_seeds(None).tasks), *kept):
        assert pool.grow(text) is None


def words_of(server: CountingServer, out: str, way: str, count: int) -> list[str]:
    model = f"http://127.0.0.1:{server.port}/v1#gull"
    return ["-o", out, "-m", model, "--way", way, "--count", str(count), "-j", "3", "--quiet"]


@pytest.mark.parametrize(
    ("way", "count", "kills"),
    [
        ("self-instruct", 12, 1),
        pytest.param("alpaca", 120, 9, marks=pytest.mark.slow),
        pytest.param("self-instruct", 120, 16, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_loses_nothing_and_pays_for_nothing_twice(way: str, count: int, kills: int) -> None:
    with CountingServer(says=teach) as server:
        assert run(*words_of(server, "whole.jsonl", way, count)).exit_code == 0
        needed = len(server.asked)
        server.asked.clear()
        command = [sys.executable, "-m", "redraft", "generate", "instructions"]
        for number in range(1, kills + 1):
            with subprocess.Popen([*command, *words_of(server, "out.jsonl", way, count)]) as job:
                server.wait_for(number * needed // (kills + 2))
                job.send_signal(signal.SIGKILL)
        assert run(*words_of(server, "out.jsonl", way, count)).exit_code == 0
        for ending in ("", ".rejected.jsonl"):
            assert Path(f"out.jsonl{ending}").read_bytes() == Path(f"whole.jsonl{ending}").read_bytes()
        assert len(list(read_jsonl("out.jsonl"))) >= count
        # Only the three calls under way at a kill may be asked again, and no call is made that a whole run
        # does not need.
        assert len(server.asked) <= needed + kills * 3
