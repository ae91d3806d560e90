"""`redraft answer`: every prompt once, resumable after anything, with an honest exit status."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
from pathlib import Path

import pytest
from typer.testing import Result

from redraft.jobs.ids import derived_seed
from tests.cli import verbs

REPLIES = ["A gull over the grey sea.", "It reads well. No revision is needed."]
OUT, ERRORS = Path("out.jsonl"), Path("out.jsonl.errors.jsonl")
PLAIN = ("answer", "prompts.txt", "-o", OUT, "-m", "script:script.jsonl")


@pytest.fixture(autouse=True)
def _prompts(_folder: None) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(10)))
    verbs.script(*REPLIES)


def answer(*args: object, prompts: str = "prompts.txt") -> Result:
    return verbs.redraft("answer", prompts, "-o", OUT, "-m", "script:script.jsonl", "-j", 1, *args)


@pytest.mark.parametrize("more", [[], ["--check", "auto"]])
def test_talk_is_no_failure_of_a_run_without_checks(more: list[str]) -> None:
    verbs.script(*["Okay."] * 6)
    result = answer("--max-revisions", "0", *more)
    assert result.exit_code == 0
    assert "passed by" not in result.output


def test_each_prompt_becomes_a_chain_and_the_summary_says_what_came_of_it() -> None:
    result = answer("--seed", "7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [chain.id for chain in verbs.chains()] == [f"prompts/{n}" for n in range(10)]
    assert [chain.sampling["seed"] for chain in verbs.chains()] == [
        derived_seed(7, chain.id) for chain in verbs.chains()
    ]
    assert {(chain.answer, chain.stop) for chain in verbs.chains()} == {(REPLIES[0], "accepted")}
    said = result.stdout.splitlines()
    assert said[:3] == ["answers    10 in out.jsonl", "revisions  none", "stopped    accepted 10"]
    assert [line.split()[0] for line in said[3:]] == ["tokens", "time"]
    assert "10 in out.jsonl, 10 of them from earlier runs" in answer("--seed", "7").stdout


def test_quiet_says_nothing_but_where_failures_are() -> None:
    assert answer("--quiet").output == ""
    OUT.unlink()
    verbs.script(REPLIES[0], "", *[REPLIES[0]] * 8)
    done = answer("--quiet", "--max-revisions", "0")
    assert done.exit_code == 3
    assert str(ERRORS) in done.stderr


def test_answers_that_do_not_pass_are_the_exit_status_also_the_second_time() -> None:
    first, second = (answer("--check", "words<=3", "--max-revisions", "0") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (1, 1)
    assert "checks     passed by 0 first drafts (0 %), 0 final answers (0 %)" in second.stdout.splitlines()


def test_answers_that_were_never_judged_do_not_count_as_passed() -> None:
    result = answer("--budget-seconds", "0.5", "-c", "command:sleep 30", "-j", "10")
    assert result.exit_code == 1
    assert "10 ended before they were judged" in result.stdout


def test_standard_input_is_refused() -> None:
    verbs.refused(answer(prompts="-"), "the input has to be a file, not '-'.", "Write the input into a file")


def test_other_settings_are_refused() -> None:
    answer("--seed", "1")
    result = answer("--seed", "2", "--check", "words<=9")
    verbs.refused(result, "check was not set and is words<=9; seed was 1 and is 2.", "another file (-o)")
    assert answer("--seed", "1", "-j", "2", "--ctx", "9000").exit_code == 0


def test_failures_are_counted_by_cause_and_tried_again() -> None:
    verbs.script(REPLIES[0], "", "", {"error": "It broke."}, *[REPLIES[0]] * 7)
    first = answer("--max-revisions", "0", "--retries", "0", "--limit-tokens", "80")
    assert first.exit_code == 4
    assert "failed     3: empty reply 2, no usable reply 1\n" in first.stdout
    failed = {failure["id"] for failure in verbs.lines(ERRORS)}
    verbs.script(REPLIES[0])
    assert (answer("--max-revisions", "0").exit_code, len(verbs.chains())) == (0, 10)
    assert {chain.id for chain in verbs.chains()} > failed
    assert not ERRORS.exists()


def test_a_terminal_shows_what_is_written_now_and_how_fast() -> None:
    verbs.write("prompts.jsonl", [{"id": "first", "prompt": "Rain?"}, {"id": "second", "prompt": "Snow?"}])
    model = verbs.script({"text": "one two three four", "stall": 1.5})
    shown = verbs.shown_on_a_terminal(
        "answer", "prompts.jsonl", "-o", str(OUT), "-m", model, "--max-revisions", "0"
    )
    assert "opening the model, 0:00" in shown
    assert re.search(r"0 of 2 done · [1-9]\d* tokens/s · 0:01 elapsed ·.* now prompts/first", shown)
    assert shown.index("2 of 2 done") > shown.index("now prompts/first")


def test_an_empty_prompt_fails_alone() -> None:
    Path("prompts.jsonl").write_text('"A prompt."\n{"instruction": " "}\n')
    assert answer(prompts="prompts.jsonl").exit_code == 2
    assert (verbs.lines(ERRORS)[0]["message"], len(verbs.chains())) == ("prompts/1: the prompt is empty.", 1)


def test_an_engine_that_stays_down_ends_the_job() -> None:
    down = {"error": "the server is down."}
    verbs.script(*REPLIES, *REPLIES, {"text": "A gu", **down}, down, down)
    result = answer()
    assert result.exit_code == 3
    assert result.stderr == (
        "redraft: the server is down.\n  2 of 10 done; run the same command again to resume.\n"
    )
    assert verbs.lines(ERRORS)[0]["chain"]["steps"][0]["answer"] == "A gu"
    verbs.script(*REPLIES)
    assert answer().exit_code == 0
    assert sorted(chain.id for chain in verbs.chains()) == [f"prompts/{n}" for n in range(10)]


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        ('"Fine."\n{oops\n', [], "redraft: in.jsonl:2: this is not JSON: "),
        (None, [], "redraft: in.jsonl cannot be read: No such file or directory."),
        ("\n", [], "redraft: there is no prompt in in.jsonl. Write one per line."),
        ('"A?"', ["--parallel", "0"], "--parallel is 0."),
        ('"A?"', ["-o", "in.jsonl"], "redraft: -o would replace the input in.jsonl."),
        ('"A?"', ["-o", "-"], "redraft: the output has to be a file, not '-'."),
        ('"A?"', ["--limit-seconds", "nan"], "--limit-seconds is nan"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_done(
    content: str | None, args: list[str], said: str
) -> None:
    if content is not None:
        Path("in.jsonl").write_text(content)
    before = sorted(Path().iterdir())
    result = answer(*args, prompts="in.jsonl")
    verbs.refused(result, said)
    assert "run the same command again" not in result.stderr
    assert sorted(Path().iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_between_two_lines(signum: signal.Signals, status: int) -> None:
    verbs.script(*REPLIES, delay=0.03)
    with verbs.start(*PLAIN, "-j", 2) as job:
        verbs.wait_until(lambda: OUT.exists() and OUT.read_bytes().count(b"\n") >= 3)
        job.send_signal(signum)
        _, said = job.communicate(timeout=30)
    done = verbs.chains()
    assert job.returncode == status
    assert said == f"redraft: {len(done)} of 10 done; run the same command again to resume.\n"
    assert 3 <= len(done) < 10
    assert json.loads(Path("out.jsonl.run.json").read_text())["sessions"][-1]["added"] == len(done)


@pytest.mark.slow
def test_a_signal_while_the_model_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}/v1#gull"
        with verbs.start("answer", "prompts.txt", "-o", OUT, "-m", server) as job:
            connection, _ = silent.accept()
            with connection:
                job.send_signal(signal.SIGINT)
                _, said = job.communicate(timeout=30)
    assert job.returncode == 130
    assert said == "redraft: 0 of 10 done; run the same command again to resume.\n"


def test_a_full_disk_ends_it_with_whole_lines() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    with verbs.start(*PLAIN, preexec_fn=limit) as job:
        _, said = job.communicate(timeout=60)
    done = verbs.chains()
    assert 0 < len(done) < 10
    assert job.returncode == 2
    assert said == (
        "redraft: cannot write out.jsonl: File too large.\n"
        "  The file contains all finished results. Make room, and run the same command again to resume.\n"
        f"  {len(done)} of 10 done.\n"
    )
    assert (answer().exit_code, len(verbs.chains())) == (0, 10)


def test_a_budget_that_leaves_no_answer_fails_the_prompt_and_the_next_run_tries_it_again() -> None:
    verbs.script({"text": "", "stall": 30})
    result = answer("--budget-seconds", "0.2", "-j", "10")
    assert (result.exit_code, verbs.chains()) == (3, [])
    assert "failed     10: budget used up 10\n" in result.stdout
    assert "no answer" in ERRORS.read_text()
    assert re.search(r"first: .*no answer", result.stdout)
    verbs.script(*REPLIES)
    assert (answer("--budget-seconds", "20").exit_code, len(verbs.chains())) == (0, 10)
