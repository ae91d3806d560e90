"""`--shard` and `redraft merge`: each record once, nothing paid twice, and nothing of another job."""

from __future__ import annotations

import fcntl
import json
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.verbs import counted, counting, lines, redraft, refused, script, start, wait_until, write
from tests.evaluation.made import answer as made_answer

OUT = Path("out.jsonl")
IDS = [f"prompts/{n}" for n in range(20)]


@pytest.fixture(autouse=True)
def _prompts(_folder: None) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(20)))
    script("A gull over the grey sea.")


def answer(*words: object) -> Result:
    return redraft("answer", "prompts.txt", "-o", OUT, "-m", "script:script.jsonl", "-j", 2, *words)


def shares(count: int, *words: object) -> list[Path]:
    assert not any(answer("--shard", f"{index}/{count}", *words).exit_code for index in range(count))
    return parts(count)


def parts(count: int) -> list[Path]:
    return sorted(Path().glob(f"out-*-of-{count:05}.jsonl"))


def merge(*files: object) -> Result:
    return redraft("merge", OUT, *files)


def ids(path: Path = OUT) -> list[str]:
    return [record["id"] for record in lines(path)]


def test_merged_shares_are_what_one_machine_would_have_written() -> None:
    shares(3)
    assert sorted(name for part in parts(3) for name in ids(part)) == sorted(IDS)
    done = merge(*parts(3))
    assert done.exit_code == 0
    assert "20 records in out.jsonl, in the order of prompts.txt" in done.stdout
    assert ids() == IDS
    again = answer()
    assert again.exit_code == 0
    assert "20 of them from earlier runs" in again.stdout
    alone = Path("alone.jsonl")
    redraft("answer", "prompts.txt", "-o", alone, "-m", "script:script.jsonl", "-j", 1)
    both = [[(each["prompt"], each["answer"], each["stop"]) for each in lines(path)] for path in (OUT, alone)]
    assert both[0] == both[1]


def test_a_share_without_records_is_a_part_too() -> None:
    Path("prompts.txt").write_text("Describe rain.\n")
    files = shares(3)
    assert [len(lines(file)) for file in files].count(0) == 2
    assert "1 record in" in merge(*files).stdout


def test_merging_twice_and_in_other_shares_loses_and_doubles_nothing() -> None:
    shares(2)
    merge(parts(2)[0])
    had = len(lines(OUT))
    assert "missing" in merge(parts(2)[0]).stdout
    assert len(lines(OUT)) == had
    shares(5, "-q")
    assert sum(len(lines(part)) for part in parts(5)) == 20 - had
    assert merge(*parts(5)).exit_code == 0
    before = OUT.read_bytes()
    assert " lines that were already there" in merge(*parts(2), *parts(5)).stdout
    assert (OUT.read_bytes(), ids()) == (before, IDS)
    sessions = json.loads(Path("out.jsonl.run.json").read_text())["sessions"]
    assert 1 < len(sessions) == len({json.dumps(session) for session in sessions})


def have(count: int) -> bool:
    return sum(part.read_bytes().count(b"\n") for part in parts(2)) >= count


def test_the_same_shares_go_on_after_merging_when_there_are_more_records() -> None:
    merge(*shares(1))
    with Path("prompts.txt").open("a") as file:  # as many as there were: the share is not done
        file.writelines(f"Describe another {n}.\n" for n in range(20))
    assert merge(*shares(1)).stdout.startswith("merged     40 records")
    assert ids() == [f"prompts/{n}" for n in range(40)]


@pytest.mark.parametrize(("kills", "prompts"), [(2, 80), pytest.param(20, 1000, marks=pytest.mark.slow)])
def test_kills_then_other_shares(kills: int, prompts: int) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(prompts)))
    script("A gull over the grey, grey sea.", delay=0.003, chunk=20)
    words = ["answer", "prompts.txt", "-o", OUT, "-m", "script:script.jsonl", "-q", "-j", 4]
    words += ["--check", counting()]
    for turn in range(kills):
        had = sum(len(part.read_bytes().splitlines()) for part in parts(2))
        with start(*words, "--shard", f"{turn % 2}/2", stdout=None, stderr=None) as job:
            wait_until(partial(have, had + prompts // (2 * kills)))
            time.sleep(random.random() * 0.02)
            job.send_signal(signal.SIGKILL)
    assert merge(*parts(2)).exit_code == 1
    assert 0 < len(lines(OUT)) < prompts
    for index in range(3):
        assert redraft(*words, "--shard", f"{index}/3").exit_code == 0
    assert merge(*parts(3)).exit_code == 0
    assert ids() == [f"prompts/{n}" for n in range(prompts)]
    calls = counted()
    assert len(calls) == prompts
    assert calls.total() - prompts <= 4 * kills


def test_replies_that_were_paid_for_are_taken_from_the_merged_journal() -> None:
    script("A gull.", "Revision is needed.", "A grey gull.", "No revision is needed.")
    shares(2, "--mode", "prompted")
    merge(*parts(2))
    OUT.write_bytes(b"")  # as if every chain had been cut, with all its replies paid for
    for part in parts(2):
        part.unlink()
    done = answer("--mode", "prompted", "--shard", "0/1")
    assert "20 in out-00000-of-00001.jsonl" in done.stdout
    assert "this run paid for 0 new tokens" in done.stdout


def test_a_part_that_was_cut_in_its_last_line() -> None:
    shares(2)
    part = parts(2)[0]
    part.write_bytes(part.read_bytes()[:-7])
    assert "missing    1 record" in merge(*parts(2)).stdout
    assert len(lines(OUT)) == 19
    assert "1 in" in answer("--shard", "0/1").stdout
    assert (merge(*parts(1)).exit_code, ids()) == (0, IDS)


def test_two_different_answers_to_one_record_are_refused_with_both_places() -> None:
    shares(2)
    part = parts(2)[1]
    kept = lines(part)
    other = [each | {"usage": {"seconds": 9}} for each in kept]  # another run of the same share
    write(part, [*other[:1], other[1] | {"stop": "passed"}, *other[2:]])
    Path("again.jsonl").write_text("".join(json.dumps(each) + "\n" for each in kept))
    Path("again.jsonl.run.json").write_bytes(Path(f"{part}.run.json").read_bytes())
    refused(merge(*parts(2), "again.jsonl"), f"{kept[1]['id']} has two", f"{part}:2 and again.jsonl:2")
    assert not OUT.exists()


def test_parts_of_another_job_are_refused_with_the_first_difference() -> None:
    shares(2)
    answer("--shard", "0/3", "--seed", 4)
    answer("--shard", "1/3", "--max-tokens", 4)
    refused(merge(*parts(2), parts(3)[0]), "belong to different jobs", "seed was not set and is 4")
    Path("other").mkdir()
    Path("other/prompts.txt").write_text("Describe snow.\n" * 3)
    redraft("answer", "other/prompts.txt", "-o", "x.jsonl", "-m", "script:script.jsonl", "--shard", "0/2")
    refused(merge(*parts(2), "x-00000-of-00002.jsonl"), "prompts.txt", "changed")
    write("mine.jsonl", [{"id": "prompts/1"}])
    refused(merge(*parts(2), "mine.jsonl"), "mine.jsonl is not a part of a job", "out-*-of-00008.jsonl")
    refused(merge(*parts(2), "none.jsonl"), "none.jsonl cannot be read: No such file")
    OUT.write_text("mine\n")
    refused(merge(*parts(2)), "out.jsonl is not a part of a job")
    assert OUT.read_text() == "mine\n"


def test_shares_go_on_from_an_output_of_the_same_job_alone() -> None:
    shares(2)
    merge(*parts(2))
    refused(answer("--shard", "0/3", "--seed", 4), "out.jsonl was made differently: seed was not set")


def test_a_damaged_line_is_refused_with_its_place() -> None:
    shares(2)
    part = parts(2)[0]
    whole = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(whole[0] + b"{}\n" + b"".join(whole[1:]))
    refused(merge(*parts(2)), f"{part}:2: the field 'id' is missing")


def test_two_runs_of_one_share_and_a_merge_meanwhile_are_refused() -> None:
    [part] = shares(1)
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(answer("--shard", "0/1"), f"{part} is being written by another redraft")
        refused(merge(part), f"{part} is being written by another redraft process. Wait for that process.")
    merge(part)
    with OUT.open("rb") as read:  # as another share does that looks at what is done
        fcntl.flock(read, fcntl.LOCK_SH)
        assert answer("--shard", "0/2").exit_code == 0


def test_what_does_not_go_with_shares() -> None:
    refused(answer("--shard", "9/8"), "there is no share 9/8.", "0/8 to 7/8")
    refused(answer("--shard", "0/2", "--cache", "mine.db"), "Leave --cache out")


def test_failures_go_along_and_can_be_tried_again() -> None:
    script("A gull.", {"error": "It is broken."}, "A gull.", "A gull.", "A gull.", "A gull.")
    for index in range(2):
        answer("--shard", f"{index}/2", "--retries", 0, "-j", 1, "--max-revisions", 0)
    assert (failed := sum(len(lines(f"{part}.errors.jsonl")) for part in parts(2)))
    assert f"missing    {failed} record" in merge(*parts(2)).stdout
    assert len(lines("out.jsonl.errors.jsonl")) == failed
    script("A gull.")
    assert (answer("--max-revisions", 0).exit_code, sorted(ids())) == (0, sorted(IDS))
    assert not Path("out.jsonl.errors.jsonl").exists()


def test_reviews() -> None:
    names = range(6)
    write("questions.jsonl", [{"question_id": n, "text": f"Why {n}?", "category": "math"} for n in names])
    for name in ("new", "old"):
        write(f"{name}.jsonl", [made_answer(name, n, f"Because {name} {n}.") for n in names])
    script('{"review": "Fine.", "score_1": 8, "score_2": 7}')
    words = ["judge", "new.jsonl", "old.jsonl", "-o", OUT, "-m", "script:script.jsonl"]
    words += ["--questions", "questions.jsonl"]
    for index in range(2):
        assert redraft(*words, "--shard", f"{index}/2").exit_code == 0
    assert all(len({each["question_id"] for each in lines(part)}) < 6 for part in parts(2))
    assert (merge(*parts(2)).exit_code, len(lines(OUT))) == (0, 12)
    assert "12 of them from earlier runs" in redraft(*words).stdout.replace("12 in out.jsonl, ", "")


def test_several_answers_to_a_record_stay_together() -> None:
    write("test.jsonl", [{"question": f"How many? ({n})", "answer": f"So.\n#### {n}"} for n in range(6)])
    script(*["Answer: 1", "Answer: 2"] * 6)
    task = ["gsm8k", "test.jsonl", "-m", "script:script.jsonl", "-q", "-o", OUT, "--samples", 2]
    for index in range(2):
        assert redraft("eval", *task, "--shard", f"{index}/2").exit_code == 0
    assert merge(*parts(2)).exit_code == 0
    assert ids() == [f"test/{n}{sample}" for n in range(6) for sample in ("", "#2")]
