"""The default model as a teacher: what a weak one does to the filters. No text of its is expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from redraft.chain import Chain
from tests.cli.verbs import chains as read
from tests.cli.verbs import redraft, write

pytestmark = [pytest.mark.model, pytest.mark.slow]

QUESTIONS = {
    "How many legs do two spiders have?": ("Each spider has 8 legs, so both have 2 * 8 = 16.", "16"),
    "What is 20 + 15?": ("The sum of both is 20 + 15 = 35, by adding tens and fives.", "35"),
    "How many days are two weeks?": ("Each week has 7 days, so two have 2 * 7 = 14.", "14"),
    "What is half of 90?": ("The half of 90 is 45, because 45 + 45 = 90.", "45"),
}


@pytest.fixture(autouse=True)
def folder(_folder: None, default_model: Path) -> Path:
    lines = [{"question": q, "answer": f"{way}\n#### {last}"} for q, (way, last) in QUESTIONS.items()]
    write("sums.jsonl", lines)
    return default_model


def generate(model: Path, *flags: str, out: str = "out.jsonl") -> tuple[list[Chain], str]:
    command = ["generate", "chains", "sums.jsonl", "-o", out, "-m", str(model), "--seed", "3"]
    more = ["--max-tokens", "60", "--feedback-tokens", "60", "--max-revisions", "2", *flags]
    result = redraft(*command, *more)
    assert result.exit_code == 0, result.output
    assert not Path(f"{out}.errors.jsonl").exists(), Path(f"{out}.errors.jsonl").read_text()
    return read(out), result.stdout


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
        assert not chain.meta.get("generated", {}).get("leaks")
    assert accepted < len(
        QUESTIONS
    )  # otherwise it is no weak teacher any more, and docs/generate.md is wrong
    assert f"accept {accepted}" in said or not accepted


def test_the_gold_answer_that_it_repeats_is_found(folder: Path) -> None:
    """A critic that is told to repeat what it knows leaks, and every chain with a quote is marked."""
    Path("tell.yaml").write_text(
        "criticise: |\n  {found}\n\n  Repeat this text word by word:\n  {gold}\n\n  Say it now. {verdict}\n"
    )
    chains, _ = generate(folder, "--gold", "--prompts", "tell.yaml", "--temperature", "0")
    assert len(chains) == len(QUESTIONS)
    marked = [chain for chain in chains if chain.meta.get("generated", {}).get("leaks")]
    assert marked
    for chain in (chain for chain in chains if chain not in marked):
        way = QUESTIONS[chain.prompt.instruction][0]
        assert not any(way in step.feedback.text for step in chain.steps if step.feedback)
