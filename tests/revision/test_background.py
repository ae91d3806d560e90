"""The event loop of sync calls: it ends with the interpreter, never waits for itself, and survives a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import redraft
from redraft.chain import Prompt
from redraft.checks.base import Outcome, passed
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import UsageError
from tests.gguf_files import tiny_model

PROGRAM = """
import sys, redraft
from redraft.revision.api import _background
redraft.revise("a b", model=sys.argv[1], mode=sys.argv[2], max_tokens=4, max_revisions=0, seed=1)
print(*(engine._kept.child._process.pid for engine in _background._engines.values()))
"""


def ends_cleanly(model: Path, mode: str) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(model), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stderr, done.returncode) == ("", 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_the_end_of_the_interpreter_closes_what_was_kept(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    ends_cleanly(tiny_model(tmp_path / "tiny.gguf"), "native")


@pytest.mark.slow
@pytest.mark.model
def test_the_end_of_the_interpreter_closes_a_real_model(default_model: Path) -> None:
    ends_cleanly(default_model, "prompted")


class Nested:
    name = "nested"

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed(redraft.revise("Go.", model=ScriptedEngine(["b"]), max_revisions=0).answer)


def test_a_sync_call_within_its_own_loop_is_refused_and_does_not_wait_for_ever() -> None:
    with pytest.raises(UsageError) as caught:
        redraft.revise("Go.", model=ScriptedEngine(["a"]), checks=[Nested()])
    assert caught.value.message == "an async check called redraft.revise, which would wait for itself."
    assert caught.value.hint == "In the check, write: await redraft.arevise(…)"


def test_a_sync_check_may_call_revise() -> None:
    def answers(answer: str) -> bool:
        return redraft.revise("Go.", model=ScriptedEngine(["b"]), max_revisions=0).answer == "b"

    assert redraft.revise("Go.", model=ScriptedEngine(["a"]), checks=[answers]).passed


def test_a_relative_path_is_another_model_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "replies.jsonl").write_text(f'"{name}"\n')
        monkeypatch.chdir(tmp_path / name)
        answers.append(redraft.revise("Hi", model="script:replies.jsonl", max_revisions=0).answer)
    assert answers == ["one", "two"]


FORKED = """
import os, signal, redraft
from redraft.engines.scripted import ScriptedEngine

def answer():
    return redraft.revise("Go.", model=ScriptedEngine(["Yes."]), max_revisions=0).answer

answer()
if child := os.fork():
    os.waitpid(child, 0)
    print("parent:", answer())
else:
    signal.alarm(30)
    print("child:", answer(), flush=True)
"""


def test_a_forked_process_starts_its_own_loop() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout.splitlines()) == ("", ["child: Yes.", "parent: Yes."])
