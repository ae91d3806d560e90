"""`redraft answer`: every prompt once, resumable after anything, with an honest exit status."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import Chain, Prompt, read_jsonl
from redraft.cli import app
from redraft.errors import OutputError
from redraft.ids import derived_seed

REPLIES = ["A gull over the grey sea.", "It reads well. No revision is needed."]
COMMAND = [sys.executable, "-m", "redraft", "answer"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ten prompts and a script, which the commands run in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(10)))
    script(REPLIES)
    return tmp_path


def script(replies: list[Any], **settings: Any) -> None:
    lines = [{"settings": settings}, *replies]
    Path("script.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def answer(*args: str, prompts: str = "prompts.txt", stdin: bytes | None = None) -> Result:
    words = ["answer", prompts, "-o", "out.jsonl", "-m", "script:script.jsonl", *args]
    return CliRunner().invoke(app, words, prog_name="redraft", input=stdin)


def chains() -> list[Chain]:
    return list(read_jsonl(Path("out.jsonl")))


def test_talk_is_no_failure_of_a_run_without_checks() -> None:
    script(["Okay."] * 6)
    result = answer("--max-revisions", "0")
    assert result.exit_code == 0
    assert "passed by" not in result.output


def test_each_prompt_becomes_a_chain() -> None:
    result = answer("--parallel", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [chain.id for chain in chains()] == [f"prompts/{n}" for n in range(10)]
    assert {chain.prompt.instruction for chain in chains()} == {f"Describe thing {n}." for n in range(10)}
    assert {(chain.answer, chain.stop) for chain in chains()} == {(REPLIES[0], "accepted")}


def test_talk_about_the_answer_is_not_counted_as_passed() -> None:
    script(["A gull over the grey sea.", "The answer has 3 words.", "The answer is not 14 too many."])
    result = answer("--parallel", "1", "-c", "words<=3", "-c", "lacks:gull", "--max-revisions", "2")
    assert result.exit_code == 1
    assert {(chain.answer, chain.passed, chain.echoes) for chain in chains()} == {(REPLIES[0], False, 2)}
    assert "20, 2.0 an answer; 0 answers have none; 20 only talk about the answer" in result.stdout
    assert "passed by 0 first drafts (0 %), 0 final answers (0 %)" in result.stdout


def test_the_summary_says_what_came_of_it() -> None:
    said = answer("--parallel", "1").stdout.splitlines()
    assert said[0] == "answers    10 in out.jsonl"
    assert said[1] == "revisions  0, 0.0 an answer; 10 answers have none"
    assert said[2] == "stopped    accepted 10"
    assert said[3].startswith("tokens     620 new, ")
    assert said[4].startswith("time       ")
    assert len(said) == 5
    assert (
        answer("--parallel", "1").stdout.splitlines()[0]
        == "answers    10 in out.jsonl, 10 of them from before"
    )


def test_quiet_says_nothing() -> None:
    assert answer("--quiet").output == ""


def test_quiet_names_the_file_of_what_failed() -> None:
    script(["A reply."], context=3)
    assert "out.jsonl.errors.jsonl" in answer("--quiet", "--max-revisions", "0").stderr


def test_a_device_is_no_output() -> None:
    from redraft.jobs.lines import LineFile

    with pytest.raises(OutputError, match="/dev/stdout"):
        LineFile(Path("/dev/stdout"))


def test_answers_that_do_not_pass_are_the_exit_status_also_the_second_time() -> None:
    first = answer("--check", "words<=3", "--max-revisions", "0")
    second = answer("--check", "words<=3", "--max-revisions", "0")
    assert (first.exit_code, second.exit_code) == (1, 1)
    assert "checks     passed by 0 first drafts (0 %), 0 final answers (0 %)" in second.stdout.splitlines()


@pytest.mark.parametrize("form", ["selfee", "fastchat"])
def test_records_that_keep_no_checks_are_said_not_to_count(form: str) -> None:
    args = ["--format", form, "--check", "words<=3", "--max-revisions", "0"]
    first, second = answer(*args), answer(*args)
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert "counted" not in first.stdout
    assert f"counted    the 0 of this run: {form} records keep no checks" in second.stdout.splitlines()


def test_a_second_run_does_what_is_new_and_touches_nothing_else() -> None:
    answer()
    before = Path("out.jsonl").read_bytes()
    assert answer().exit_code == 0
    assert Path("out.jsonl").read_bytes() == before
    with Path("prompts.txt").open("a") as file:
        file.write("And the sea?\n")
    answer()
    assert Path("out.jsonl").read_bytes().startswith(before)
    assert chains()[10].prompt.instruction == "And the sea?"
    assert len(chains()) == 11


def test_other_settings_are_refused() -> None:
    answer("--seed", "1")
    result = answer("--seed", "2", "--check", "words<=9")
    assert result.exit_code == 2
    assert result.stderr == (
        "redraft: out.jsonl was made in another way: "
        "check was not set and is words<=9; seed was 1 and is 2.\n"
        "  Run it as before to go on, write to another file with -o, or delete out.jsonl to start over.\n"
    )
    assert answer("--seed", "1", "--parallel", "2", "--ctx", "9000").exit_code == 0


def test_seeds_are_each_prompts_own() -> None:
    answer("--seed", "7")
    assert {chain.id: chain.sampling["seed"] for chain in chains()} == {
        f"prompts/{n}": derived_seed(7, f"prompts/{n}") for n in range(10)
    }


@pytest.mark.parametrize("form", ["selfee", "fastchat"])
def test_answer_records(form: str, shared_data: Path) -> None:
    questions = str(shared_data / "questions" / "vicuna_80.jsonl")
    result = answer("--format", form, "--model-id", "gull-1b", "--parallel", "1", prompts=questions)
    assert result.exit_code == 0
    records = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [record["question_id"] for record in records] == list(range(1, 81))
    assert {record["model_id"] for record in records} == {"gull-1b"}
    texts = {r["text"] if form == "selfee" else r["choices"][0]["turns"][0] for r in records}
    assert texts == {REPLIES[0]}
    before = Path("out.jsonl").read_bytes()
    Path("out.jsonl").write_bytes(before[:-200])
    again = answer("--format", form, "--model-id", "gull-1b", "--parallel", "1", prompts=questions)
    assert again.exit_code == 0
    assert "the last line was torn" in again.stderr
    assert Path("out.jsonl").read_bytes() == before


@pytest.mark.parametrize("form", ["selfee", "fastchat"])
def test_licences_stand_beside_answer_records(form: str) -> None:
    origin = {"dataset": "sums", "licence": "CC BY-NC 4.0"}
    metas: list[dict[str, Any]] = [{"origin": origin}, {}]
    asked = [Chain(id=f"sums/{n}", prompt=Prompt(instruction="Add."), meta=metas[n]) for n in range(2)]
    Path("prompts.jsonl").write_text("".join(f"{chain.to_json()}\n" for chain in asked))
    for limit in ("1", "2"):  # the second run goes on from the first
        assert answer("--format", form, "--limit", limit, prompts="prompts.jsonl").exit_code == 0
    about = json.loads(Path("out.jsonl.run.json").read_text())
    assert about["licences"] == {"CC BY-NC 4.0": 1, "unknown": 1}
    assert "ended" in about["sessions"][-1]


def test_the_record_that_a_prompt_came_from_goes_along() -> None:
    Path("prompts.jsonl").write_text('{"question": "What is 2 + 2?", "answer": "#### 4"}\n')
    answer(prompts="prompts.jsonl")
    kept = {name: value for name, value in chains()[0].meta.items() if name != "prompts"}
    assert kept == {"reference": "4", "source": {"answer": "#### 4"}}


def test_a_prompt_that_fails_is_tried_again_the_next_time() -> None:
    Path("prompts.txt").write_text("Short.\n" + "Long. " * 50 + "\nShort too.\n")
    script(["A reply.", "No revision is needed."], context=250)
    result = answer("--parallel", "1", "--max-revisions", "0")
    assert result.exit_code == 3
    assert (
        "failed     1: prompt too long 1\n           see out.jsonl.errors.jsonl; run the same"
        in result.stdout
    )
    failure = json.loads(Path("out.jsonl.errors.jsonl").read_text())
    assert (failure["id"], failure["error"]) == ("prompts/1", "ContextError")
    assert [chain.id for chain in chains()] == ["prompts/0", "prompts/2"]
    script(["A reply.", "No revision is needed."], context=1000)
    assert answer("--parallel", "1", "--max-revisions", "0").exit_code == 0
    assert [chain.id for chain in chains()] == ["prompts/0", "prompts/2", "prompts/1"]
    assert not Path("out.jsonl.errors.jsonl").exists()


def test_an_empty_prompt_fails_alone() -> None:
    Path("prompts.jsonl").write_text('"A prompt."\n{"instruction": " "}\n')
    assert answer(prompts="prompts.jsonl").exit_code == 2
    failure = json.loads(Path("out.jsonl.errors.jsonl").read_text())
    assert failure["message"] == "prompts/1: the prompt is empty."
    assert len(chains()) == 1


def test_an_engine_that_stays_down_ends_the_job() -> None:
    script(
        [
            *REPLIES,
            *REPLIES,
            {"text": "A gu", "error": "the server is down."},
            *[{"error": "the server is down."}] * 2,
        ]
    )
    result = answer("--parallel", "1")
    assert result.exit_code == 3
    assert result.stderr == (
        "redraft: the server is down.\n  2 of 10 done; run the same command again to go on.\n"
    )
    failures = [json.loads(line) for line in Path("out.jsonl.errors.jsonl").read_text().splitlines()]
    assert failures[0]["chain"]["steps"][0]["answer"] == "A gu"
    script(REPLIES)
    assert answer("--parallel", "1").exit_code == 0
    assert sorted(chain.id for chain in chains()) == [f"prompts/{n}" for n in range(10)]


def test_prompts_from_a_pipe_are_gone_on_with() -> None:
    prompts = b'{"prompt": "One."}\n{"prompt": "Two."}\n'
    assert answer(prompts="-", stdin=prompts).exit_code == 0
    assert answer(prompts="-", stdin=prompts).exit_code == 0
    assert [chain.id for chain in chains()] == ["stdin/0", "stdin/1"]
    result = answer(prompts="-", stdin=b'{"prompt": "1."}\n{"prompt": "Two."}\n')
    assert result.exit_code == 2
    assert "out.jsonl was made in another way: the input (standard input) has changed" in result.stderr
    result = answer(prompts="-", stdin=b"Plain lines?\n")
    assert "the input (standard input) has changed" in result.stderr
    assert answer("-o", "new.jsonl", prompts="-", stdin=b'{"prompt"\n').stderr.startswith(
        "redraft: standard input:1: not JSON: "
    )
    assert json.loads(Path("out.jsonl.run.json").read_text())["source"]["path"] == "standard input"


def test_a_pipe_may_have_plain_lines() -> None:
    answer(prompts="-", stdin=b"One?\nTwo?\n")
    assert sorted(chain.prompt.instruction for chain in chains()) == ["One?", "Two?"]


@pytest.mark.parametrize("packed", [gzip.compress, b"\xef\xbb\xbf".__add__])
def test_a_pipe_may_be_compressed_or_begin_with_a_byte_order_mark(packed: Callable[[bytes], bytes]) -> None:
    answer(prompts="-", stdin=packed(b'{"prompt": "One?"}\n{"prompt": "Two?"}\n'))
    assert sorted(chain.prompt.instruction for chain in chains()) == ["One?", "Two?"]


def test_bad_input_is_found_before_anything_is_done() -> None:
    Path("bad.jsonl").write_text('"Fine."\n{oops\n')
    result = answer(prompts="bad.jsonl")
    assert result.exit_code == 2
    assert result.stderr.startswith("redraft: bad.jsonl:2: not JSON: ")
    assert not Path("out.jsonl").exists()
    assert (
        answer(prompts="none.txt").stderr == "redraft: none.txt: cannot be read: No such file or directory.\n"
    )
    Path("empty.txt").write_text("\n")
    assert answer(prompts="empty.txt").stderr == (
        "redraft: empty.txt: there is no prompt in it.\n  Write one a line.\n"
    )


def test_two_questions_with_one_id_cannot_be_answer_records() -> None:
    Path("twice.jsonl").write_text('{"question_id": 1, "text": "A?"}\n' * 2)
    result = answer("--format", "fastchat", prompts="twice.jsonl")
    assert (result.exit_code, result.stderr) == (2, TWICE)
    assert answer(prompts="twice.jsonl").exit_code == 0


TWICE = """\
redraft: twice.jsonl: two prompts have the id '1'.
  Give each its own id, or write chains: --format chain
"""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--format", "csv"], "format is 'csv'.\n  It should be chain, selfee or fastchat."),
        (["--parallel", "0"], "parallel is 0."),
        (["--paralel", "2"], "--parallel"),
        (["--check", "wods<=3"], "words"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--mode", "naive"], "mode is 'naive'"),
    ],
)
def test_wrong_flags_are_usage_errors(args: list[str], said: str) -> None:
    result = answer(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path("out.jsonl").exists() or Path("out.jsonl").read_bytes() == b""


def test_standard_output_is_no_output_to_go_on_from() -> None:
    result = answer("-o", "-")
    assert result.exit_code == 2
    assert result.stderr.startswith("redraft: the output has to be a file, not '-'.\n  ")
    assert not Path("-").exists()


def test_the_output_is_never_the_input() -> None:
    before = Path("prompts.txt").read_bytes()
    words = ["answer", "prompts.txt", "-o", "prompts.txt", "-m", "script:script.jsonl"]
    result = CliRunner().invoke(app, words, prog_name="redraft")
    assert result.exit_code == 2
    assert "prompts.txt is not empty, and no prompts.txt.run.json says how it was made." in result.stderr
    assert Path("prompts.txt").read_bytes() == before


def test_the_config_file_has_defaults(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "config.toml").write_text("[defaults]\nmax_revisions = 0\nquiet = true\nparallel = 2\n")
    monkeypatch.setenv("REDRAFT_CONFIG", str(folder / "config.toml"))
    result = answer()
    assert result.output == ""
    making = json.loads(Path("out.jsonl.run.json").read_text())
    assert making["config"]["max_revisions"] == 0


def background(*args: str, preexec: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    words = [*COMMAND, "prompts.txt", "-o", "out.jsonl", "-m", "script:script.jsonl", *args]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=preexec
    )


def wait_for_lines(count: int) -> None:
    deadline = time.monotonic() + 60
    out = Path("out.jsonl")
    while not out.exists() or out.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the job does not get on"
        time.sleep(0.01)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_between_two_lines(signum: signal.Signals, status: int) -> None:
    script(REPLIES, delay=0.03)
    with background("--parallel", "2") as job:
        wait_for_lines(3)
        job.send_signal(signum)
        _, said = job.communicate(timeout=30)
    done = chains()
    assert job.returncode == status
    assert said == f"redraft: {len(done)} of 10 done; run the same command again to go on.\n"
    assert 3 <= len(done) < 10
    sessions = json.loads(Path("out.jsonl.run.json").read_text())["sessions"]
    assert sessions[-1]["added"] == len(done)
    script(REPLIES)
    assert answer().exit_code == 0
    assert sorted(chain.id for chain in chains()) == [f"prompts/{n}" for n in range(10)]


def test_a_signal_while_the_model_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}/v1#gull"
        words = [*COMMAND, "prompts.txt", "-o", "out.jsonl", "-m", server]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as job:
            connection, _ = silent.accept()
            with connection:
                job.send_signal(signal.SIGINT)
                _, said = job.communicate(timeout=30)
    assert job.returncode == 130
    assert said == "redraft: 0 of 10 done; run the same command again to go on.\n"


def test_a_second_process_on_the_same_file_is_refused() -> None:
    script(REPLIES, delay=0.05)
    with background() as job:
        wait_for_lines(1)
        result = answer()
        job.terminate()
        job.communicate()
    assert result.exit_code == 2
    assert result.stderr == (
        f"redraft: out.jsonl is being written by another redraft (process {job.pid}).\n"
        "  Wait until it is done, or write to another file with -o.\n"
    )


def test_a_full_disk_ends_it_with_whole_lines() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    with background(preexec=limit) as job:
        _, said = job.communicate(timeout=60)
    done = chains()
    assert 0 < len(done) < 10
    assert job.returncode == 2
    assert said == (
        "redraft: cannot write out.jsonl: File too large.\n"
        "  Finished results are safe in it. Make room, and run the same command again to go on.\n"
        f"  {len(done)} of 10 done.\n"
    )
    assert answer().exit_code == 0
    assert len(chains()) == 10


def test_a_missing_folder_is_told_with_the_command_to_make_it() -> None:
    words = ["answer", "prompts.txt", "-o", "runs/out.jsonl", "-m", "script:script.jsonl"]
    result = CliRunner().invoke(app, words, prog_name="redraft")
    assert (result.exit_code, result.stderr) == (2, NO_FOLDER)


NO_FOLDER = """\
redraft: cannot write runs/out.jsonl: No such file or directory.
  Make the folder first: mkdir -p runs
"""


@pytest.mark.model
def test_the_real_model_answers_several_at_once(default_model: Path) -> None:
    Path("prompts.txt").write_text("Name a colour.\nName an animal.\n")
    words = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", str(default_model), "-j", "2", "--seed", "1"]
    more = ["--max-tokens", "8", "--max-revisions", "1", "--check", "words<=3", "--ctx", "512"]
    result = CliRunner().invoke(app, [*words, *more], prog_name="redraft", env=dict(os.environ))
    assert result.exit_code in (0, 1), result.output
    assert sorted(chain.id for chain in chains()) == ["prompts/0", "prompts/1"]
    assert all(chain.steps[0].answer for chain in chains())
    assert all(chain.usage.completion_tokens > 0 for chain in chains())


def test_answers_that_were_never_judged_do_not_count_as_passed() -> None:
    result = answer("--budget-seconds", "0.5", "-c", "command:sleep 30", "--parallel", "10")
    assert result.exit_code == 1
    assert "10 ended before they were judged" in result.stdout


def test_a_budget_that_leaves_no_answer_fails_the_prompt_and_the_next_run_tries_it_again() -> None:
    script([{"text": "", "stall": 30}])
    result = answer("--budget-seconds", "0.2", "--parallel", "10")
    assert result.exit_code == 3
    assert chains() == []
    assert "failed     10: budget used up 10\n" in result.stdout
    assert "no answer" in Path("out.jsonl.errors.jsonl").read_text()
    script(REPLIES)
    assert answer("--budget-seconds", "20").exit_code == 0
    assert len(chains()) == 10
