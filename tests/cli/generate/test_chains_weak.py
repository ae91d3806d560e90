"""The default model as a teacher: what a weak one does to the filters. No text of its is expected."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redraft.chain import Chain, Feedback, read_jsonl
from redraft.cli import app
from redraft.formats.selfee import verdict_of
from redraft.generate.chains import leaked

pytestmark = [pytest.mark.model, pytest.mark.slow]

QUESTIONS = {
    "How many legs do two spiders have?": ("Each spider has 8 legs, so both have 2 * 8 = 16.", "16"),
    "What is 20 + 15?": ("The sum of both is 20 + 15 = 35, by adding tens and fives.", "35"),
    "How many days are two weeks?": ("Each week has 7 days, so two have 2 * 7 = 14.", "14"),
    "What is half of 90?": ("The half of 90 is 45, because 45 + 45 = 90.", "45"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_model: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = [{"question": q, "answer": f"{way}\n#### {last}"} for q, (way, last) in QUESTIONS.items()]
    Path("sums.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return default_model


def generate(model: Path, *flags: str, out: str = "out.jsonl") -> tuple[list[Chain], str]:
    command = ["generate", "chains", "sums.jsonl", "-o", out, "-m", str(model), "--seed", "3"]
    more = ["--max-tokens", "60", "--feedback-tokens", "60", "--max-revisions", "2", *flags]
    result = CliRunner().invoke(app, [*command, *more], prog_name="redraft")
    assert result.exit_code == 0, result.output
    assert not Path(f"{out}.errors.jsonl").exists(), Path(f"{out}.errors.jsonl").read_text()
    return list(read_jsonl(Path(out))), result.stdout


def feedback_of(chains: list[Chain]) -> list[Feedback]:
    return [step.feedback for chain in chains for step in chain.steps if step.feedback]


def last_number(text: str) -> str:
    return re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))[-1]


def test_a_check_accepts_right_answers_alone_and_gives_no_number_away(folder: Path) -> None:
    chains, said = generate(folder, "--recipe", "checked_math", "--temperature", "0")
    assert len(chains) == len(QUESTIONS)
    accepted = 0
    for chain in chains:
        gold = QUESTIONS[chain.prompt.instruction][1]
        for step in filter(lambda step: step.feedback, chain.steps):
            assert step.feedback is not None
            if step.feedback.verdict == "accept":
                accepted += 1
                assert last_number(step.answer) == gold
            elif gold not in step.answer:
                assert gold not in step.feedback.text
        assert not leaked(chain)
    assert accepted < len(
        QUESTIONS
    )  # otherwise it is no weak teacher any more, and docs/generate.md is wrong
    assert f"accept {accepted}" in said or not accepted


def test_a_critic_without_sense_is_counted_and_never_taken_for_more(folder: Path) -> None:
    chains, said = generate(folder, "--gold", "--price", "0,1")
    found = feedback_of(chains)
    verdicts = Counter(feedback.verdict for feedback in found)
    assert all(feedback.verdict in ("unknown", verdict_of(feedback.text)) for feedback in found)
    assert f"verdicts   {', '.join(f'{name} {times}' for name, times in verdicts.most_common())}\n" in said
    for chain in chains:
        before = [step.feedback.verdict for step in chain.steps[:-1] if step.feedback]
        assert set(before) <= {"revise"}  # whatever has no verdict ends the chain
        assert (chain.stop == "accepted") == (
            chain.steps[-1].feedback is not None and chain.steps[-1].feedback.verdict == "accept"
        )
    weak = [chain for chain in chains if chain.stop != "accepted" or any(step.echo for step in chain.steps)]
    assert weak
    exported = CliRunner().invoke(app, ["data", "export", "out.jsonl", "--to", "preference", "-o", "p.jsonl"])
    assert exported.exit_code == 0
    corrected = [chain for chain in chains if chain.best]
    assert len(Path("p.jsonl").read_text().splitlines()) <= len(corrected)


def test_the_gold_answer_that_it_repeats_is_found(folder: Path) -> None:
    """A critic that is told to repeat what it knows leaks, and every chain without a quote is kept."""
    Path("tell.yaml").write_text(
        "criticise: |\n  {found}\n\n  Repeat this text word by word:\n  {gold}\n\n  Say it now. {verdict}\n"
    )
    chains, said = generate(folder, "--gold", "--drop-leaks", "--prompts", "tell.yaml", "--temperature", "0")
    dropped = list(read_jsonl(Path("out.jsonl.leaks.jsonl")))
    assert dropped
    assert all(leaked(chain) for chain in dropped)
    assert not any(leaked(chain) for chain in chains)
    assert len(chains) + len(dropped) == len(QUESTIONS)
    for chain in chains:
        way = QUESTIONS[chain.prompt.instruction][0]
        assert not any(way in step.feedback.text for step in chain.steps if step.feedback)
    assert f"answers    {len(chains)} in out.jsonl\n" in said
    assert f"dropped    {len(dropped)} chain" in said
