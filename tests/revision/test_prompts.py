"""Wordings: which templates are refused, and what a chain with another wording looks like."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

import redraft
from redraft.checks.echo import is_echo
from redraft.errors import UsageError
from redraft.revision.prompts import SHIPPED, Wording, filled, wording_of

OWN = {
    "revise": "The harbour master found:\n{found}\n\n"
    "An order came by post: {prompt}\n\nKindly compose a telegram."
}


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ({"revise": "Again."}, "the template revise lacks {found}", "docs/recipes.md"),
        ({"revise": "{found}\n\n{fond}"}, "an unknown placeholder {fond}", "Placeholders: {found}, {prompt}"),
        ({"revise": "{found!r} Write."}, "an unknown placeholder {found}", "Placeholders: {found}, {prompt}"),
        ({"revise": "{found} Again."}, "asks for nothing if no faults were found", "{found}"),
        ({"revise": "{found} {\n\nAgain."}, "the template revise cannot be read", "{{ or }}"),
        ({"revise": 3}, "the template revise is 3", "docs/recipes.md"),
        ({"criticise": "{found}\n\nJudge it."}, "the words 'Revision is needed'", "'Revision is not needed'"),
        ({"rewrite": "{found}"}, "there is no template 'rewrite'", "criticise, revise"),
        ({}, "the option 'prompts' is empty", "docs/recipes.md"),
        ("nowhere", "prompts cannot be 'nowhere'", "task, teacher"),
    ],
)
def test_a_wording_that_cannot_be_used_is_refused(value: Any, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        wording_of(value)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
    with pytest.raises(UsageError):
        redraft.revise("Hi", prompts=value, model=redraft.ScriptedEngine(["x"]))


def test_braces_of_text_and_of_findings_stay() -> None:
    assert filled("As {{json}}:\n{found}\n\nAgain.", found="{x}", prompt="{y}") == "As {json}:\n{x}\n\nAgain."
    assert filled("As {{json}}:\n{found}\n\nAgain: {prompt}", found="", prompt="{y}") == "Again: {y}"
    assert filled("Keep {{found}}.\n\n{found}", found="", prompt="") == "Keep {found}."


@pytest.mark.parametrize("prompts", [*SHIPPED, OWN])
@pytest.mark.parametrize("context", ["last", "chain"])
def test_every_wording_is_what_the_model_sees_and_the_chain_names_it(prompts: Any, context: Any) -> None:
    engine = redraft.ScriptedEngine(["One two three.", "Four five six.", "Seven."])
    chain = redraft.revise("Say it.", model=engine, checks=["words<=2"], prompts=prompts, context=context)
    wording = wording_of(prompts)
    found = chain.steps[1].criticism
    assert chain.passed
    task = "Say it.\n\nWrite at most 2 words."
    assert filled(wording.revise, found=found, prompt=task) in str(engine.calls[2][-1]["content"])
    digest = hashlib.sha256(f"{wording.criticise}\0{wording.revise}".encode()).hexdigest()
    assert chain.meta["prompts"] == {"name": wording.name, "sha256": digest}


@pytest.mark.parametrize("prompts", [*SHIPPED, OWN])
def test_a_writer_that_repeats_its_request_echoes_with_every_wording(prompts: Any) -> None:
    wording = wording_of(prompts)
    for request in wording.requests:
        assert is_echo(request, redraft.Prompt(instruction="?"), wording.requests), request
    engine = redraft.ScriptedEngine(["One two three.", wording.requests[-3]])
    chain = redraft.revise(
        "Say it.", model=engine, checks=["words<=30", "lacks:one"], prompts=prompts, max_revisions=1
    )
    assert chain.steps[1].echo
    assert chain.best == 0


def test_native_chains_name_no_wording_because_none_is_used() -> None:
    engine = redraft.ScriptedEngine(["One."], native=True)
    assert "prompts" not in redraft.revise("Hi", model=engine, mode="native").meta


def test_a_critic_is_asked_with_the_wording() -> None:
    criticise = "{found}\n\nJudge {prompt} Revision is needed, or Revision is not needed?"
    writer, critic = redraft.ScriptedEngine(["One."]), redraft.ScriptedEngine(["Revision is not needed."])
    chain = redraft.revise("Hi.", model=writer, critic=critic, prompts={"criticise": criticise})
    assert critic.calls[0][-1]["content"] == "Judge Hi. Revision is needed, or Revision is not needed?"
    assert chain.stop == "accepted"


VERDICTS = "End with 'Revision is needed' or 'Revision is not needed'."


@pytest.mark.parametrize("blank", ["\n\n", "\n \n", "\n\t\n\n", "\r\n\r\n"])
def test_a_line_of_white_space_separates_paragraphs(blank: str) -> None:
    template = f"Wrong: {{found}}{blank}Again."
    Wording("own", f"{VERDICTS}\n\n{{found}}", template)
    assert filled(template, found="", prompt="P").strip() == "Again."
    assert "Wrong: F" in filled(template, found="F", prompt="P")


@pytest.mark.parametrize(
    ("value", "named"), [({"revise": "{found}\n\nAgain \ud83d."}, "revise"), ("a" * 5000, "cannot be 'aaa")]
)
def test_a_text_that_no_file_or_record_can_hold_is_refused(value: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        redraft.revise("Hi.", model=redraft.ScriptedEngine(["One."]), checks=["words>=9"], prompts=value)


@pytest.mark.parametrize("echo", ["Schreibe den Text bitte ganz neu auf.", "{sent}"])
def test_a_request_is_recognised_in_any_language(echo: str) -> None:
    found = "Viel zu lang geraten."
    own = {
        "criticise": f"{{found}}\n\n{VERDICTS}",
        "revise": "Es gilt:\n{found}\n\nSchreibe den Text bitte ganz neu auf.",
    }
    said = echo.format(sent=filled(own["revise"], found=found, prompt=""))
    engine = redraft.ScriptedEngine(["Eins.", said])
    checks = [lambda answer: True if answer == said else found]
    chain = redraft.revise("Nenne etwas.", model=engine, checks=checks, prompts=own, max_revisions=1)
    assert (chain.echoes, chain.passed, chain.answer) == (1, False, "Eins.")
