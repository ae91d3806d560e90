"""The file of votes: whole lines whatever happens, several writers, and undo."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redraft.errors import OutputError, RecordError
from redraft.evaluation.judging.reviews import Review
from redraft.evaluation.voting import VoteStore
from redraft.jobs.provenance import Provenance

MADE = Provenance("vote", {"seed": 1})


def vote(number: int, voter: str = "zoë", note: str = "🌳") -> Review:
    named = {"question_id": number, "answer1_id": f"n{number}", "answer2_id": f"o{number}"}
    return Review.of({**named, "review_id": f"{voter}{number}", "judge": voter, "winner": "1", "text": note})


def ids(path: Path) -> list[str]:
    return [json.loads(line)["review_id"] for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "votes.jsonl"


def test_undo_takes_out_the_voters_own_last_vote_and_keeps_all_others(path: Path) -> None:
    store = VoteStore(path, MADE)
    for each in (vote(1), vote(2, note="second"), vote(1, "ali")):
        store.add(each)
    path.chmod(0o600)
    undone = store.undo("zoë")
    assert undone
    assert (undone["text"], ids(path)) == ("second", ["zoë1", "ali1"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.undo("nobody") is None
    store.add(vote(2))
    assert ids(path) == ["zoë1", "ali1", "zoë2"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(min_value=0))
def test_a_kill_at_any_byte_loses_no_vote_before_it(tmp_path: Path, place: int) -> None:
    path = tmp_path / "votes.jsonl"
    path.unlink(missing_ok=True)
    store = VoteStore(path, MADE)
    for number in range(3):
        store.add(vote(number))
    data = path.read_bytes()
    cut = place % (len(data) + 1)
    path.write_bytes(data[:cut])
    VoteStore(path, MADE).add(vote(9))
    lines = path.read_bytes().splitlines()
    ends = [place for place in range(len(data)) if data[place : place + 1] == b"\n"]
    assert len(lines) == sum(cut >= end for end in ends) + 1  # without its line feed, a vote is whole too
    assert all(json.loads(line)["judge"] == "zoë" for line in lines)


def test_threads_and_processes_add_and_undo_at_once(path: Path) -> None:
    store = VoteStore(path, MADE)
    code = """
import sys
from pathlib import Path
from tests.evaluation.voting.test_store import MADE, VoteStore, vote
store = VoteStore(Path(sys.argv[1]), MADE)
for number in range(6):
    store.add(vote(number, "ali"))
    if number % 3 == 0:
        store.undo("ali")
        store.add(vote(number, "ali"))
"""
    process = subprocess.Popen([sys.executable, "-c", code, path], env={**os.environ, "PYTHONPATH": "."})
    threads = [Thread(target=lambda name=name: [store.add(vote(n, name)) for n in range(6)]) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait() == 0
    assert sorted(ids(path)) == sorted(f"{name}{n}" for name in ("ali", "x", "y") for n in range(6))


def test_votes_on_other_answers_and_other_files_are_refused(path: Path) -> None:
    store = VoteStore(path, MADE)
    store.add(vote(1))
    with pytest.raises(OutputError, match="was made differently: seed was 1 and is 2"):
        VoteStore(path, Provenance("vote", {"seed": 2}))
    with pytest.raises(OutputError, match="by vote, not by judge"):
        VoteStore(path, Provenance("judge", {"seed": 1}))
    before = path.read_text()
    for line in ("no vote", "[]", '{"judge": "zoë"}', '{"judge": "zoë", "review_id": "x"}'):
        path.write_text(f"{before}{line}\n")
        for act in (store.counts, lambda: store.undo("zoë"), lambda: store.add(vote(2))):
            with pytest.raises(RecordError, match=r"votes.jsonl has a line that is not a vote: "):
                act()


def test_a_file_or_folder_that_is_gone_meanwhile_is_said(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "votes.jsonl"
    path.parent.mkdir()
    store = VoteStore(path, MADE)
    store.add(vote(1))
    moved = path.rename(tmp_path / "moved.jsonl")
    for act in (lambda: store.of("zoë"), lambda: store.add(vote(2)), lambda: store.undo("zoë")):
        with pytest.raises(OutputError, match=r"votes.jsonl is gone"):
            act()
    assert not path.exists(), "no second file begins"
    assert ids(moved.rename(path)) == ["zoë1"]
    store.add(vote(2))
    assert ids(path) == ["zoë1", "zoë2"]
    shutil.rmtree(path.parent)
    with pytest.raises(OutputError, match=r"votes.jsonl is gone"):
        store.add(vote(3))


def test_a_path_or_lock_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        VoteStore(tmp_path / "none" / "votes.jsonl", MADE)
    with pytest.raises(OutputError, match="Is a directory"):
        VoteStore(tmp_path, MADE)
    store = VoteStore(tmp_path / "votes.jsonl", MADE)
    (tmp_path / "votes.jsonl.lock").mkdir()  # as in a folder that takes no files; the superuser has none
    with pytest.raises(OutputError, match=r"cannot change .*votes.jsonl: Is a directory"):
        store.add(vote(1))
