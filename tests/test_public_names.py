"""The public surface of `redraft`, pinned: adding, renaming or losing a name is a decision, made here."""

from __future__ import annotations

import inspect
import pickle
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import redraft
from redraft.options import options_of
from redraft.revision.options import RevisionOptions

PUBLIC = [
    "Budget", "CancelToken", "Chain", "Check", "CheckResult", "DraftDone", "Engine", "Event",
    "Feedback", "Finished", "Form", "HfEngine", "Interrupted", "LlamaCppEngine", "Outcome", "Price",
    "Progress", "Prompt", "RedraftError", "RemoteEngine", "Sampling", "ScriptedEngine", "Step", "StepDone",
    "Text", "Thought",
    "Usage", "__version__", "aanswer_file", "aevaluate_file", "agenerate_chains",
    "agenerate_instructions", "ajudge", "answer_file", "apatch", "arevise", "clean", "dedupe", "demands",
    "diagnose", "evaluate", "evaluate_file", "failed", "generate_chains", "generate_instructions",
    "judge", "load_engine", "parse_check", "passed", "patch", "read_jsonl", "recipe", "revise", "stream",
    "tool_check",
    "train_ppo", "train_reward", "train_sft", "write_jsonl",
]  # fmt: skip


def test_the_list_is_the_one_agreed() -> None:
    assert dir(redraft) == sorted(PUBLIC)
    assert set(PUBLIC) - set(redraft.__all__) == {"HfEngine"}, "a star import needs no extra"


@pytest.mark.parametrize(
    "before",
    ["", "redraft.Budget", "redraft.arevise", "import redraft.revision.driver as driver; driver.__name__"],
)
def test_revise_is_the_function_whatever_was_imported_before(before: str) -> None:
    # What an earlier import left in the namespace counts, so this needs a fresh Python.
    code = f"""
import inspect, redraft
{before}
print(redraft.revise("hi", model=redraft.ScriptedEngine(["hello"]), checks=["words<=1"]).answer)
import redraft.revision.driver as after
print(inspect.isfunction(redraft.revise), redraft.revision.driver is after)
print(redraft.revise("hi", model=redraft.ScriptedEngine(["hello"]), checks=["words<=1"]).answer)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "hello\nTrue True\nhello\n", done.stderr


@pytest.mark.parametrize("name", ["arevise", "revise", "stream"])
def test_help_lists_every_option(name: str) -> None:
    shown = pydoc.render_doc(getattr(redraft, name), renderer=pydoc.plaintext)
    assert f"{name}(prompt: " in shown
    for option, about in options_of(RevisionOptions).items():
        assert f"{option}: {about.text}\n" in shown + "\n"


@pytest.mark.parametrize("name", ["arevise", "revise", "stream"])
def test_the_functions_can_be_pickled(name: str) -> None:
    function = getattr(redraft, name)
    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301  (our own)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rewrite'"):
        redraft.rewrite  # noqa: B018  (looking it up is the point)


CALLED = (
    "RemoteEngine ScriptedEngine answer_file clean dedupe demands diagnose evaluate evaluate_file "
    "generate_chains generate_instructions judge parse_check patch read_jsonl revise tool_check write_jsonl"
)


@pytest.mark.parametrize("value", [12, "", [5], object()], ids=["12", "''", "[5]", "object()"])
@pytest.mark.parametrize("name", CALLED.split())
def test_what_is_no_argument_is_a_taught_error(name: str, value: object, here: Path) -> None:
    needed = [
        p for p in inspect.signature(getattr(redraft, name)).parameters.values() if p.default is p.empty
    ]
    given = [value for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD] or [value]
    if (name, value) == ("demands", ""):  # no demand: it decorates a check that is not steered to
        return
    with pytest.raises(redraft.RedraftError) as caught:
        list(getattr(redraft, name)(*given))  # of a generator, or of what it should not have returned
    assert caught.value.hint
