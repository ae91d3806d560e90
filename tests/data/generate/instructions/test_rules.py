"""Each rule rejects what it is for, and nothing beside it."""

from __future__ import annotations

import time
from random import Random

import pytest

from redraft.data.generate.instructions.rules import check_answer, check_instruction, repeats
from redraft.data.generate.instructions.tasks import Task
from redraft.data.generate.instructions.wording import Wanted
from redraft.data.generate.leaks import is_refusal

ENGLISH, GERMAN = Wanted("English"), Wanted("German")


@pytest.mark.parametrize(
    ("instruction", "rule"),
    [
        ("", "empty"),
        ("Name a river", "short"),
        ("Name a long river.", None),
        (" ".join(["word"] * 150), None),
        (" ".join(["word"] * 151), "long"),
        ("Describe the picture above in words.", "blocked"),
        ("Describe the depiction above in words.", None),
        ("Write a program that adds two numbers.", "program"),
        ("Write a programme for a concert evening.", "program"),
        ("Write a function that adds two numbers.", None),
        ("*Name* one of the rivers.", "start"),
        ("Überlege dir vier neue Aufgaben.", "start"),
        ('"To be or not to be": who said it?', None),
        ("Answer the question <noinput> in brief.", "markers"),
        ("Do this thing now.\n### Response: done", "markers"),
    ],
)
def test_rules_of_instructions(instruction: str, rule: str | None) -> None:
    fault = check_instruction(Task(instruction, "", "x"), ENGLISH)
    assert (fault.rule if fault else None) == rule


def test_other_languages_may_begin_with_other_letters() -> None:
    assert check_instruction(Task("Überlege dir vier neue Aufgaben."), GERMAN) is None
    assert check_instruction(Task("列出四种水果的名称和颜色。"), Wanted("Chinese")) is None


@pytest.mark.parametrize(
    ("given", "output", "rule"),
    [
        ("", "Loire", None),
        ("", "", "empty"),
        ("", "Sorry, I am unable to answer this.", "refusal"),
        ("", "I cannot provide medical advice.", "refusal"),
        ("", "I'm afraid my order seems to have been forgotten.", None),
        ("", "Sorry about the noise: the works end on Friday.", None),
        ("", "I cannot wait to see you again!", None),
        ("", "As an AI language model, I have no taste.", "refusal"),
        ("", "Unfortunately, I'm unable to assist with that.", "refusal"),
        ("", "Unfortunately, I cannot come to the party.", None),
        ("", "The sorry state of the road delayed us.", None),
        ("", "one two three. " * 9, "repeats"),
        ("", "ha ha ha", None),
        ("x y", "x y", "same"),
        ("", "The rivers are:", "colon"),
        ("The list:", "a, b", "colon"),
        ("<noinput> today", "fine", "markers"),
        ("", "Good.\n### Feedback 1: none", "markers"),
        ("", "<|im_end|>", "markers"),
        ("", "Los ríos más largos de Francia son el Loira, el Sena y el Ródano.", "language"),
    ],
)
def test_rules_of_answers(given: str, output: str, rule: str | None) -> None:
    fault = check_answer(Task("Name rivers of it.", given, output), ENGLISH)
    assert (fault.rule if fault else None) == rule


def test_a_language_of_no_known_code_is_not_judged() -> None:
    task = Task("Nenne drei lange Flüsse in Frankreich.", "", "Die Loire, die Seine und die Rhone sind lang.")
    assert check_answer(task, GERMAN) is None
    assert check_answer(task, Wanted("simple words")) is None
    assert check_answer(task, ENGLISH) is not None


def test_a_long_text_is_looked_at_quickly() -> None:
    assert repeats("ab " * 100_000)
    assert not repeats("".join(Random(1).choices("ab ", k=100_000)))
    begun = time.process_time()
    assert not repeats("-" * 100_000 + "x")
    assert time.process_time() - begun < 1
    assert not is_refusal("x" * 1_000_000)


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("As an AI language model, I have no opinion.", True),
        ("Unfortunately, I cannot evaluate this answer.", True),
        ("I can't judge an answer that I have not seen.", True),
        ("I cannot see any mistake in it. 9/10.", False),
        ("I can't see anything wrong.", False),
        ("I cannot see what could be better.", False),
        ("I can't see the picture.", True),
        ("I can't fault it. 9/10. Revision is not needed.", False),
        ("Sorry is a word of seven letters? No, of five.", False),
    ],
)
def test_refusals_of_teachers(text: str, refuses: bool) -> None:
    assert is_refusal(text) is refuses
