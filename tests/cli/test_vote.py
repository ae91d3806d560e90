"""`redraft vote`, as a user types it: in the terminal, on the page, killed, by several, and refused."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

pytest.importorskip("scipy")

from redraft.evaluation.judging.reviews import Review, read_reviews
from redraft.formats.read.records import raw_records
from tests.browser import Browser
from tests.cli.verbs import redraft, refused, start, write
from tests.evaluation.made import answer

IDS = (1, 2, "drei", "四")
GIVEN = ("new.jsonl", "old.jsonl", "--questions", "questions.jsonl", "-o", "votes.jsonl")


@pytest.fixture(autouse=True)
def _answers(_folder: None) -> None:
    asked = [{"question_id": id_, "text": f"Warum {id_}? 🌳", "category": "x"} for id_ in IDS]
    write("questions.jsonl", asked)
    for model, text in (("new", "Neu: Wärme 🌳"), ("old", "<b>古い</b>")):
        write(f"{model}.jsonl", [answer(model, id_, f"{text} {id_}") for id_ in IDS])


def run(*words: str, keys: str = "") -> Result:
    return redraft("vote", *words, stdin=keys)


def vote(keys: str, *words: str, voter: str = "zoë") -> Result:
    """Vote with keys of one character each. The better answer is that of `new` if a key is `+`."""
    return run(*GIVEN, "--terminal", "--voter", voter, *words, keys="".join(f"{key}\n" for key in keys))


def votes(path: str = "votes.jsonl") -> list[Review]:
    return [review for _, review in read_reviews(raw_records(Path(path)))]


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def report(*words: str) -> dict[str, Any]:
    result = redraft("report", *words, "--json", "--draws", "200")
    assert result.exit_code == 0, result.output
    [found] = json.loads(result.stdout)["comparisons"]
    return dict(found)


def for_new(review: Review) -> int:
    """1 if the vote is for `new`, -1 if it is for `old`."""
    return review.verdict() * (1 if review.model_1 == "new" else -1)


def test_votes_end_in_the_report_from_the_models_side() -> None:
    found = lines(vote("1=21"))
    made = votes()
    assert {each.model_1 for each in made} == {"new", "old"}, "sides are swapped"
    assert found[0] == "new against old: 4 questions, 4 reviews in an order drawn at random"
    counts = Counter(map(for_new, made))
    tally = f"{counts[1]} won, {counts[0]} tied, {counts[-1]} lost"
    assert any(line.startswith("win rate") and line.endswith(tally) for line in found)
    assert "shown first 2 won, 1 tied, 1 lost" in found
    assert any(line.startswith("length and score") for line in found)
    assert not any("may favour" in line or "not counted" in line for line in found)


def test_the_better_model_wins_whichever_side_it_was_on() -> None:
    vote("q")
    while len(votes()) < len(IDS):
        shown = vote("q").stderr
        first, second = shown.split("Answer 1")[1].split("Answer 2")
        vote("1" if "Neu" in first else "2")
        assert ("Neu" in first) != ("Neu" in second)
    assert {for_new(each) for each in votes()} == {1}
    assert {each.winner for each in votes()} == {"1", "2"}
    found = report("votes.jsonl", "--answers", "old.jsonl", "--answers", "new.jsonl")
    assert (found["model"], found["reviews"]) == ("old", {"wins": 0, "ties": 0, "losses": 4})
    assert (found["drawn_order"], found["in_both_orders"], found["ratio"]) == (True, False, None)


def test_the_same_command_goes_on_and_shows_no_pair_twice() -> None:
    assert "1 of 4 judged by zoë" in vote("1").stderr
    assert "4 of 4" in vote("222").stderr
    again = vote("")
    assert "4 of 4 judged by zoë. Thank you!" in again.stderr
    assert "Answer 1" not in again.stderr
    assert len({each.question_id for each in votes()}) == len(votes()) == 4


def test_notes_skip_undo_and_unknown_keys() -> None:
    result = vote(["s", "?", "n", " gut 🌳 <b> ", "1", "u", "2", "u", "u", "n", "besser", "="])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    [made] = votes()
    assert (made.winner, made.text) == ("tie", "besser")
    assert "gut 🌳 <b>" in result.stderr, "an undone vote comes back with its note"
    assert "'?' is no key." in result.stderr
    undone = vote("uu").stderr
    assert undone.count("0 of 4 judged") == 2
    assert undone.count("You have no vote to undo.") == 1
    assert votes() == []


def test_the_report_does_not_tell_which_model_is_which_before_all_is_judged() -> None:
    vote("11", voter="ali")
    result = vote("12=1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "not all pairs are judged: ali 2 of 4. The same command goes on." in result.stderr
    command = "redraft report votes.jsonl --answers new.jsonl --answers old.jsonl --questions questions.jsonl"
    assert command in result.stderr
    shown = redraft(*command.split()[1:]).stdout
    assert "6 reviews in an order drawn at random" in shown
    assert lines(vote("1=", voter="ali"))[0].endswith("8 reviews in an order drawn at random")


def test_without_a_vote_there_is_no_report() -> None:
    result = vote("q")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "redraft: no vote yet." in result.stderr


def test_empty_answers_are_shown_as_such() -> None:
    write("new.jsonl", [answer("new", id_, " \n" if id_ == 1 else "") for id_ in IDS])
    assert vote("====").stderr.count("(empty)") == 4


def test_the_login_name_is_the_voter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "möwe")
    given = ["new.jsonl", "old.jsonl", "-o", "votes.jsonl", "--terminal"]
    assert run(*given, keys="1\n").exit_code == 2, "nothing says what was asked"
    assert run(*given, "--questions", "questions.jsonl", keys="1\n").exit_code == 0
    assert [each.judge for each in votes()] == ["möwe"]


def test_a_pipe_gets_no_prompts_and_the_vote_is_kept_without_the_extra_of_the_report() -> None:
    code = "import sys; sys.modules['numpy'] = None; from redraft.cli import main; main()"
    command = [sys.executable, "-c", code, "vote", *GIVEN, "--terminal", "--voter", "z"]
    done = subprocess.run(command, input=b"1\n\xff\nn\nB\xc3n\n2\n1\n=\n", capture_output=True)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b"")
    assert "pip install '.[eval]'" in said
    assert "the input is not a terminal, so each line of it is a key.\n  To be asked for keys, run it" in said
    assert "q(uit)" not in said
    assert [(each.winner, each.text) for each in votes()][:2] == [("1", ""), ("2", "B?n")]
    assert len(votes()) == 4


# What is refused.


def test_bad_options_are_refused() -> None:
    for words, why in (
        (["new.jsonl", "-o", "v.jsonl"], "1 files of answers were given"),
        (["new.jsonl", "old.jsonl", "new.jsonl", "-o", "v.jsonl"], "3 files of answers"),
        (["new.jsonl", "new.jsonl", "-o", "v.jsonl"], "is given twice"),
        (["new.jsonl", "-", "-o", "v.jsonl"], "'-' cannot be used"),
        (["new.jsonl", "old.jsonl", "-o", "-"], "'-' cannot be used"),
        (["new.jsonl", "old.jsonl", "-o", "old.jsonl"], "old.jsonl is an input"),
        (["new.jsonl", "old.jsonl", "-o", "v.jsonl.gz"], "name of a compressed file"),
        (["new.jsonl", "old.jsonl", "-o", "no/v.jsonl", "--questions", "questions.jsonl"], "mkdir -p no"),
        (
            ["new.jsonl", "old.jsonl", "-o", "v.jsonl", "--questions", "questions.jsonl", "--voter", " "],
            "not a name",
        ),
    ):
        refused(run(*words, "--terminal"), why)


def test_other_answers_are_not_added_to_the_file() -> None:
    vote("1")
    write("new.jsonl", [answer("new", id_, "anders") for id_ in IDS])
    refused(vote("1"), "votes.jsonl was made in another way: inputs", "write to another file with -o")
    assert len(votes()) == 1


# In a real terminal.


def _take_terminal() -> None:
    """Make standard input the terminal that sends this process its Ctrl-C."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(*words: str) -> Iterator[tuple[subprocess.Popen[Any], int]]:
    """The verb in a terminal of its own; yields the process and our end."""
    ours, theirs = pty.openpty()
    command = ["vote", *GIVEN, "--terminal", "--voter", "zoë", *words]
    ends: Any = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "text": False}
    with start(*command, **ends, start_new_session=True, preexec_fn=_take_terminal) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def seen(ours: int, wanted: str) -> str:
    """What the terminal shows until it shows this, or until the process ends."""
    shown, deadline = b"", time.monotonic() + 60
    while wanted.encode() not in shown:
        assert time.monotonic() < deadline, shown.decode()
        if select.select([ours], [], [], 0.1)[0]:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
    assert wanted in shown.decode(), shown.decode()
    return shown.decode()


@pytest.mark.slow
def test_in_a_terminal_one_key_is_a_vote() -> None:
    with terminal() as (process, ours):
        seen(ours, "q(uit) > ")
        os.write(ours, b"1")
        seen(ours, "1 of 4 judged")
        os.write(ours, b"n")
        seen(ours, "note: ")
        os.write(ours, "schön 🌳\r".encode())
        os.write(ours, b"=")
        seen(ours, "2 of 4 judged")
        os.write(ours, b"21")
        seen(ours, "4 of 4 judged")
        os.write(ours, b"q")
        shown = seen(ours, "win rate")
        assert "new against old: 4 questions" in shown
        assert process.wait(60) == 0
    found = [(each.winner, each.text) for each in votes()]
    assert found == [("1", ""), ("tie", "schön 🌳"), ("2", ""), ("1", "")]


def test_a_key_that_sends_digits_is_no_vote() -> None:
    with terminal() as (process, ours):
        seen(ours, "q(uit) > ")
        home, f2, shift_up, escape = b"\x1b[1~", b"\x1b[12~", b"\x1b[1;2A", b"\x1b"
        for sent in (home, f2, shift_up, b"\x1bO2", "ü".encode(), escape):
            os.write(ours, sent)
            assert "is no key." in seen(ours, "q(uit) > ")
        os.write(ours, b"=q")
        seen(ours, "not all pairs are judged: zoë 1 of 4")
        assert process.wait(60) == 0
    assert [each.winner for each in votes()] == ["tie"]


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_ctrl_c_and_ctrl_d_end_the_terminal(key: bytes) -> None:
    with terminal() as (process, ours):
        seen(ours, "q(uit) > ")
        os.write(ours, b"2121")
        seen(ours, "4 of 4 judged")
        os.write(ours, key)
        seen(ours, "new against old: 4 questions")
        assert process.wait(60) == 0


# On the page.


@contextmanager
def page(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The verb with its page; yields the process and the address."""
    with start("vote", *GIVEN, *words) as process:
        try:
            assert process.stderr
            found = re.match(
                r"redraft: vote at (http://127\.0\.0\.1:\d+/#/vote/[\w-]{20,})\n", process.stderr.readline()
            )
            assert found
            yield process, found[1]
        finally:
            process.kill()


def act(client: httpx.Client, do: str, item_id: str = "") -> dict[str, Any]:
    """Do on the page what its script would."""
    reply = client.post("page/booth", json={"voter": "zoë", "do": do, "id": item_id})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.slow
def test_the_page_runs_until_ctrl_c_and_ends_in_the_report() -> None:
    with page() as (process, url):
        root, _, key = url.partition("#/vote/")
        with httpx.Client(base_url=root, timeout=60) as client:
            client.post("login", json={"key": key})
            state = act(client, "show")
            while state["pair"]:
                state = act(client, "1", state["pair"]["id"])
        process.send_signal(signal.SIGINT)
        shown, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert shown.startswith("new against old: 4 questions, 4 reviews in an order drawn at random")
    assert key not in shown + said


@pytest.mark.slow
def test_a_page_whose_command_is_gone_says_so(tmp_path: Path) -> None:
    # By a kill: a server that only stopped may still answer on a connection that the browser keeps to spare.
    with Browser(tmp_path) as browser, page("--voter", "zoë") as (process, url):
        browser.open(url)
        browser.until("document.getElementById('count')?.textContent.startsWith('0 of 4')")
        process.kill()
        process.wait()
        browser.press("1")
        browser.until("document.getElementById('fault')?.textContent.includes('does not answer')")
        browser.until("document.getElementById('count')?.textContent.startsWith('0 of 4')")
    assert votes() == []


def test_ctrl_d_may_come_before_it_is_asked_for() -> None:
    with terminal() as (process, ours):
        seen(ours, "q(uit) > ")
        os.write(ours, b"2121\x04")
        seen(ours, "new against old: 4 questions")
        assert process.wait(60) == 0
