from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from typer.testing import Result

from redraft.chain import Chain
from redraft.cli.chat import LEAVING
from tests.cli.verbs import REDRAFT, chains, own_terminal, redraft, script, start

CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\r")


def chat(text: str, *args: str) -> Result:
    return redraft("chat", *args, stdin=text)


def saved(name: str = "chat.jsonl") -> list[Chain]:
    return chains(name)


class Terminal:
    def __init__(self, *args: str) -> None:
        self.master, slave = pty.openpty()
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
        ends = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.child = start("chat", *args, **ends, env=env, preexec_fn=own_terminal)
        os.close(slave)
        self.raw = self.all = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)

    def see(self, text: str, seconds: float = 60, *, press: str = "") -> str:
        """Wait until a text is shown; return what was shown up to it since the last call.

        `press` is a key to press each second: Python's `input` may miss a Ctrl-C just as it starts to wait.
        """
        end, pressed = time.monotonic() + seconds, 0.0
        while text not in (shown := CONTROL.sub("", self.raw)):
            left = end - time.monotonic()
            assert left > 0, f"{text!r} is not shown, but: {shown}"
            if time.monotonic() > pressed + 1:
                self.type(press)
                pressed = time.monotonic()
            assert self._read(min(left, 1)), f"it ended without {text!r}: {shown}"
        before, _, self.raw = shown.partition(text)
        return before

    def _read(self, seconds: float) -> bool:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                piece = os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                return False
            self.raw, self.all = self.raw + piece, self.all + piece
        return True

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def say(self, text: str) -> str:
        self.type(f"{text}\r")
        self.see(text)
        return self.see("\n> ")

    def status(self) -> int:
        while self._read(60):
            pass
        return self.child.wait(60)


@pytest.fixture
def slow() -> Iterator[Terminal]:
    model = script("one two three four", "one two " * 50, delay=0.03)
    with Terminal("-m", model, "-c", "words<=2", "--max-revisions", "1") as terminal:
        terminal.see("> ")
        yield terminal


def test_each_line_of_a_pipe_is_a_turn_and_answers_alone_are_printed() -> None:
    done = chat("Rain?\n\nSnow?\n", "-m", script("Too many words.", "Water.", "Ice."), "-c", "words<=1")
    assert (done.stdout, done.stderr, done.exit_code) == ("Water.\nIce.\n", "", 0)


def test_a_file_that_is_there_is_not_lost() -> None:
    Path("mine.txt").write_text("mine")
    model = script("Water.")
    lines = (
        "/save a.jsonl\nRain?\n/save mine.txt\n/save\n/save no/a.jsonl\n/save a.jsonl\nSnow?\n/save a.jsonl\n"
    )
    done = chat(lines, "-m", model, "--max-revisions", "0")
    assert Path("mine.txt").read_text() == "mine"
    assert len(saved("a.jsonl")) == 2
    for said in ("nothing to save", "mine.txt exists already", "/save FILE", "cannot write no/a.jsonl"):
        assert said in done.stderr
    assert done.exit_code == 2


def test_revise_goes_on_with_the_last_answer_and_undo_takes_it_back() -> None:
    model = script("Water.", "Too short. Revision is needed.", "Drops.")
    lines = "/revise\n/undo\nRain?\n/revise\n/save a.jsonl\n/undo\n/save b.jsonl\n/undo\n"
    done = chat(lines, "-m", model, "-c", "words<=9")
    assert done.stdout == "Water.\nDrops.\n", "the revision that was asked for wins the tie"
    assert "there is no answer to revise" in done.stderr
    assert "there is nothing to undo" in done.stderr
    assert "took back the last /revise or /edit." in done.stderr
    assert "took back the last question: 'Rain?'." in done.stderr
    assert [[step.answer for step in chain.steps] for chain in saved("a.jsonl")] == [["Water.", "Drops."]]
    assert [[step.answer for step in chain.steps] for chain in saved("b.jsonl")] == [["Water."]]
    assert {chain.id for name in "ab" for chain in saved(f"{name}.jsonl")} == {"turn-1"}


def test_edit_changes_a_passage_alone_and_undo_takes_it_back() -> None:
    model = script("The tower is old. A ticket costs 12 dollars.", "11 euros", "Dogs too.", "11 euros")
    lines = "/edit Use euros.\nTower?\n/edit\n/edit 12 dollars -> in euros\n/save a.jsonl\n"
    done = chat(
        f"{lines}/edit pounds -> x\n/edit x ->\n/undo\n/save b.jsonl\n", "-m", model, "--max-revisions", "0"
    )
    new = "The tower is old. A ticket costs 11 euros."
    assert done.stdout.splitlines() == ["The tower is old. A ticket costs 12 dollars.", new]
    for said in ("no answer to revise", "/edit is incomplete", "lacks the passage 'pounds'", "or the wish"):
        assert said in done.stderr
    assert [chain.answer for name in "ab" for chain in saved(f"{name}.jsonl")] == [
        new,
        new.replace("11 euros", "12 dollars"),
    ]
    assert saved("a.jsonl")[0].steps[0].feedback.by == "person"  # type: ignore[union-attr]


def test_an_edit_that_changes_nothing_keeps_the_turn() -> None:
    model = script("It is old.", "old")
    done = chat("Tower?\n/edit old -> older\n/save a.jsonl\n", "-m", model, "--max-revisions", "0")
    said = "redraft: nothing was changed: the same text came back.\n  Quote the new text, as in"
    assert done.stderr.startswith(said)
    assert (done.exit_code, "->" in done.stderr, "place" in done.stderr) == (1, False, False)
    assert len(saved("a.jsonl")[0].steps) == 1


def test_the_judge_that_chose_the_draft_judges_its_revision() -> None:
    judge = script("[[5]]", "[[4]]", "[[10]]", name="judge")
    args = ("-m", script("Water.", "Ice.", "Drops."), "--judge", judge, "--drafts", "2")
    done = chat("Rain?\n/revise\n/save chat.jsonl\n", *args, "--max-revisions", "0")
    assert done.stdout == "Water.\nDrops.\n"
    assert [step.passed for step in saved()[0].steps] == [False, True]


def test_a_space_before_it_makes_a_command_a_text() -> None:
    chat(" /help\n/save chat.jsonl\n", "-m", script("Water."), "--max-revisions", "0")
    assert [chain.prompt.text for chain in saved()] == ["/help"]


def test_an_error_of_the_engine_ends_the_turn_alone() -> None:
    model = script("Water.", {"text": "Half", "error": "the server is down"}, {"error": "down"}, "Ice.")
    done = chat("Rain?\nSnow?\nHail?\nFog?\n/save chat.jsonl\n", "-m", model, "--max-revisions", "0")
    assert (done.stdout, done.exit_code) == ("Water.\nHalf\nIce.\n", 3)
    assert "redraft: the server is down" in done.stderr
    assert [chain.stop for chain in saved()] == ["max_revisions", "error", "max_revisions"]
    assert [m["content"] for m in saved()[2].prompt.messages or ()][-3:] == ["Snow?", "Half", "Fog?"]


def test_a_model_that_cannot_be_opened_ends_it_with_its_message() -> None:
    done = chat("Rain?\n", "-m", "nothing.gguf")
    assert (done.stdout, done.exit_code) == ("", 3)
    assert "nothing.gguf" in done.stderr


def test_bytes_that_are_not_utf8_end_the_turn_alone() -> None:
    command = [*REDRAFT, "chat", "-m", script("Water."), "--max-revisions", "0"]
    done = subprocess.run(command, input=b"caf\xe9\nRain?\n/save a\0b\n", capture_output=True, timeout=60)
    assert (done.stdout, done.returncode) == (b"Water.\n", 2)
    assert b"the prompt has a lone surrogate" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_unknown_command_is_no_question() -> None:
    done = chat("/reverse\n/help\n/quit\nRain?\n", "-m", script("Water."))
    assert "Water." not in done.stdout
    assert done.stderr.startswith("redraft: there is no command '/reverse'.\n  Did you mean '/revise'?")
    assert "/save FILE" in done.stdout


def test_a_terminal_says_how_each_step_did_and_shows_the_answer_last() -> None:
    model = script("Rain is cold water that falls.", "Rain is water that falls.")
    with Terminal("-m", model, "-c", "words<=5", "-c", "lacks:snow") as terminal:
        assert "loading the model …" in terminal.see("the model is ready")
        terminal.see("> ")
        terminal.type("Describe rain.\r")
        terminal.see("Answer: ✗ fails 1 of 2: 6 words, at most 5")
        terminal.see("Revision 1: ✓ passes 2 checks")
        terminal.see("every check passed")
        terminal.see("\n\nRain is water that falls.\n")
        terminal.see("\n> ")
        assert "there is no command '/x'" in terminal.say("/x")
        assert "1 question in chat.jsonl" in terminal.say("/save chat.jsonl")
        terminal.type("exit\r")
        assert terminal.status() == 0
    assert [step.answer for step in saved()[0].steps][1] == "Rain is water that falls."


def test_a_terminal_shows_the_new_steps_alone_when_it_revises_again() -> None:
    model = script("Rain is cold water.", "Too long. Revision is needed.", "Rain is water.")
    with Terminal("-m", model, "-c", "words<=5") as terminal:
        terminal.see("> ")
        assert "Answer: ✓" in terminal.say("Describe rain.")
        shown = terminal.say("/revise")
        assert "Answer ───" not in shown.partition("Revision 1 ───")[0]
        assert "Feedback 1 · needs revision" in shown


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_keeps_its_steps(slow: Terminal) -> None:
    slow.type("Rain?\r")
    slow.see("Revision 1 …")
    slow.type("\x03")
    slow.type("\x03")
    assert "^C" not in slow.see("stopped  cancelled")
    slow.see("> ")
    slow.see(LEAVING, press="\x03")
    slow.type("/save chat.jsonl\r")
    slow.see("1 question in chat.jsonl")
    [chain] = saved()
    assert [step.finish for step in chain.steps] == ["stop", "cancelled"]
    assert (chain.stop, chain.answer) == ("cancelled", "one two three four")
    slow.type("/quit\r")
    assert slow.status() == 0


def test_many_ctrl_c_at_the_prompt_end_nothing(slow: Terminal) -> None:
    for _ in range(200):
        slow.type("\x03")
        time.sleep(0.001)
    slow.see(LEAVING, press="\x03")
    slow.see("nothing to undo", press="/undo\r")
    assert slow.child.poll() is None
    assert "Traceback" not in slow.all


def test_a_question_stopped_before_its_answer_is_not_kept() -> None:
    with Terminal("-m", script("Rain.", {"text": "", "stall": 60}), "-c", "words<=2") as terminal:
        terminal.see("> ")
        terminal.say("Rain?")
        terminal.type("Snow?\r")
        terminal.see("Waiting for the model")
        terminal.see("taken back.", press="\x03")
        terminal.see("Ask again. /revise revises the previous answer.")


def test_pasted_lines_are_one_question(slow: Terminal) -> None:
    assert "\x1b[?2004h" in slow.all, "the terminal is not told to mark what is pasted"
    slow.type("\x1b[200~/one\r\ttwo\r\x1b[201~\r")
    slow.see("Revision 1 …")
    slow.type("/save chat.jsonl\r\x03")
    slow.see("1 question in chat.jsonl")  # Ctrl-C keeps the lines that were typed before
    assert [chain.prompt.text for chain in saved()] == ["/one\n\ttwo"]


def test_ctrl_c_ends_a_pipe() -> None:
    child = start("chat", "-m", script("one " * 1000, delay=0.05), stdin=subprocess.PIPE)
    assert child.stdin
    assert child.stdout
    child.stdin.write("/help\nRain?\nSnow?\n")
    child.stdin.flush()
    assert child.stdout.readline().startswith("/revise")
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in stderr


def test_checks_that_fail_are_said_and_are_status_1() -> None:
    done = chat("Rain?\n", "-m", script("Too many words."), "-c", "words<=1", "--max-revisions", "0")
    assert (done.stdout, done.exit_code) == ("Too many words.\n", 1)
    assert "the answer fails its check" in done.stderr
