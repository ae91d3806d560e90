"""Lines of an output are given as they land, each once, until the run has ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redraft.jobs import follow as module
from redraft.jobs.follow import follow


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def says(out: Path, **session: object) -> None:
    """Write the record of a run whose last session is this one."""
    record = {
        "command": "answer",
        "config": {},
        "source": None,
        "sessions": [{"pid": os.getpid(), **session}],
    }
    out.with_name("out.jsonl.run.json").write_text(json.dumps(record))


def add(out: Path, text: str) -> None:
    with out.open("a") as file:
        file.write(text)


def followed(
    monkeypatch: pytest.MonkeyPatch, out: Path, *events: Callable[[], object], last: int | None = None
) -> tuple[list[str], list[str]]:
    """Follow a file to which these things happen, one in each pause. Return the lines and the messages."""
    left: Iterator[Callable[[], object]] = iter(events)
    monkeypatch.setattr(module.time, "sleep", lambda _: next(left)())
    told: list[str] = []
    lines = [f"{number}:{line.decode()}" for number, line in follow(out, last=last, tell=told.append)]
    assert next(left, None) is None, "it ended too early"
    return lines, [message.replace(str(out), "OUT") for message in told]


def test_lines_are_given_once_they_are_whole(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    says(out)
    add(out, "one\nt")
    lines, told = followed(
        monkeypatch,
        out,
        lambda: add(out, "w"),
        lambda: add(out, "o\nthree\n"),
        lambda: says(out, ended="now", done=3, failed=1),
    )
    assert lines == ["0:one\n", "1:two\n", "2:three\n"]
    assert told == ["the run has ended: 3 done, 1 failed."]


@pytest.mark.parametrize(
    ("last", "first"), [(0, []), (2, ["1:b\n", "2:c\n"]), (9, ["0:a\n", "1:b\n", "2:c\n"])]
)
def test_the_last_lines_and_then_all_new_ones(
    monkeypatch: pytest.MonkeyPatch, out: Path, last: int, first: list[str]
) -> None:
    says(out)
    add(out, "a\nb\nc\n")
    events = [lambda: add(out, "d\ne\n"), lambda: says(out, ended="now")]
    assert followed(monkeypatch, out, *events, last=last)[0] == [*first, "3:d\n", "4:e\n"]


def test_lines_written_right_before_the_end_are_given(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    says(out)
    lines, _ = followed(monkeypatch, out, lambda: [add(out, "late\n"), says(out, ended="now")])
    assert lines == ["0:late\n"]


def test_it_waits_for_a_file_and_the_record_of_one_that_is_gone_does_not_count(
    monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    says(out, ended="yesterday", done=7)
    lines, told = followed(
        monkeypatch,
        out,
        lambda: None,
        lambda: add(out, ""),  # the new run has made its file, and not yet its record
        lambda: says(out),
        lambda: add(out, "a\n"),
        lambda: says(out, ended="today", done=1),
    )
    assert lines == ["0:a\n"]
    assert told == ["OUT does not exist: waiting for it.", "the run has ended: 1 done."]


@pytest.mark.parametrize("how", ["cut", "replaced", "removed"])
def test_another_content_is_given_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch, out: Path, how: str
) -> None:
    def change() -> None:
        if how == "cut":
            out.write_text("x\n")
        elif how == "replaced":
            out.with_name("new").write_text("x\ny\nz\n")
            out.with_name("new").replace(out)
        else:
            out.unlink()

    says(out)
    add(out, "a\nb\n")
    again = {"cut": "", "replaced": "", "removed": "x\n"}[how]
    lines, told = followed(monkeypatch, out, change, lambda: add(out, again), lambda: says(out, ended="now"))
    rest = {"cut": ["0:x\n"], "replaced": ["0:x\n", "1:y\n", "2:z\n"], "removed": ["0:x\n"]}[how]
    assert lines == ["0:a\n", "1:b\n", *rest]
    assert len(told) == 2


def test_a_torn_line_that_is_cut_off_by_the_next_run_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    says(out)
    add(out, 'a\n{"torn')
    lines, told = followed(
        monkeypatch,
        out,
        lambda: out.write_text("a\n"),
        lambda: add(out, "b\n"),
        lambda: says(out, ended="now"),
    )
    assert lines == ["0:a\n", "1:b\n"]
    assert told == ["the run has ended: 0 done."]


def test_a_run_that_was_killed_has_ended(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    add(out, "a\n")
    says(out, pid=gone.pid, host="elsewhere")  # nothing can be known of another machine's process
    lines, told = followed(monkeypatch, out, lambda: says(out, pid=gone.pid, host=socket.gethostname()))
    assert lines == ["0:a\n"]
    assert told == [f"the run was killed: its process {gone.pid} is gone."]


def test_a_file_without_a_record_is_followed_for_ever(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    add(out, "a\n")
    with pytest.raises(KeyboardInterrupt):
        followed(monkeypatch, out, lambda: None, lambda: None, stop)
