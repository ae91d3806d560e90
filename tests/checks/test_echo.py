"""What is no answer: a repeated prompt or criticism, a blank text, an acknowledgement. Nothing else is."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Prompt, Step
from redraft.chain.read.records import read_records
from redraft.chain.texts import gold_answers
from redraft.checks.echo import is_echo
from redraft.checks.parse import parse_check
from redraft.evaluation.tasks.tally import outcome_of
from redraft.evaluation.tasks.tasks import scored
from redraft.revision.prompts import CUT, DEFAULT, ECHOED, LOST, TALK

ASKED = "Describe a lighthouse."
FEEDBACK = (
    'The answer has 64 words, and at most 50 are allowed: 14 too many.\nThe answer does not contain "never".'
)
WATER = "Describe rain, and use the word water."


def echo(prompt: str, answer: str, *heard: str, demand: str = "") -> bool:
    return is_echo(answer, Prompt(instruction=prompt), heard, demand)


COPIES = [
    ASKED, "describe a LIGHTHOUSE", "**Describe a lighthouse.**\n" * 9, f"Question: {ASKED}",
    f"Q:\n\n> {ASKED}",
]  # fmt: skip
ACKNOWLEDGED = """
Okay. / OK / Sure! / Sure thing! / Certainly. / Of course! / Alright. / Got it! / Understood. / No problem!
Will do. / I will. / I'll do that. / Okay, sure, I will do so!
"""


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        *((ASKED, text) for text in (*COPIES, *re.split(r" / |\n", ACKNOWLEDGED.strip()))),
        ("What is rain?", "Okay."),
        ("Describe a lighthouse.", "Sure, I will describe a lighthouse."),
        ("Wie hoch ist der Turm am Hafen?", "Wie hoch ist der Turm am Hafen?"),
        ("雨について書いてください。", "雨について書いてください。"),
    ],
)
def test_what_is_no_answer(prompt: str, answer: str) -> None:
    assert echo(prompt, answer)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("What is a rubric?", "A list of criteria by which answers are judged."),
        ("What is a prompt?", "Text that you give a model."),
        ("Fill in the form. Write N/A where nothing applies.\nFax:", "N/A"),
        ("Which label stands before the name on the form?", "Name:"),
        ("Write a prompt for a model that describes rain.", "Describe rain in at most 50 words."),
        ("What makes a good reply?", "A good reply is short."),
        ("How do you mark a gap?", "[Name]"),
        ("Return an empty JSON list.", "[]"),
        ("How many words has this sentence?", "The sentence has five words."),
        ("Say okay.", "Okay."),
        ("May I go?", "Okay."),
        ("I am on my way.", "Okay."),
        ("Don't mention my birthday again.", "Understood."),
        ("From now on, answer in French.", "Okay."),
        ('Translate "vale" into English.', "Okay."),
        ("Reply to a friend who wants to meet.", "Sure!"),
        ("Describe your plans.", "I will swim across the bay."),
        ("Hello!", "Hello!"),
        # What was to be worked on, without the request, may need no change.
        ("Correct the spelling: The lamp turns all night long.", "The lamp turns all night long."),
        ("The lamp turns all night long. Correct the spelling.", "The lamp turns all night long."),
        ("Repeat after me: I will not run in the hall.", "I will not run in the hall."),
        ("The tower on the wall is ___ metres high.", "The tower on the wall is 9 metres high."),
        ("True or false: the lamp turns all night long.", "False: the lamp turns all night long."),
        ("Is it a cat or a dog?", "It is a cat or a dog."),
        ("1, 2, 3, 4", "5, 6, 7, 8"),
    ],
)  # fmt: skip
def test_what_answers(prompt: str, answer: str) -> None:
    assert not echo(prompt, answer, FEEDBACK, *DEFAULT.requests)


def test_an_input_may_need_no_change_and_so_may_what_a_system_works_on() -> None:
    text = "The lamp turns all night long."
    assert not is_echo(text, Prompt(instruction="Correct the spelling.", input=text))
    assert is_echo("Correct the spelling here.", Prompt(instruction="Correct the spelling here.", input=text))
    told = ({"role": "system", "content": "Correct the spelling."}, {"role": "user", "content": text})
    assert not is_echo(text, Prompt(messages=told))
    assert is_echo(text, Prompt(messages=told[1:]))


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (FEEDBACK, FEEDBACK),
        (FEEDBACK, FEEDBACK.replace("64", "47").upper()),
        (ECHOED, ECHOED),
        (TALK, f"- {TALK}"),
        (DEFAULT.requests[1], DEFAULT.requests[1]),
        ("答えが長すぎます。短くしてください。", "答えが長すぎます。短くしてください。"),
        ("Die Antwort hat 64 Wörter statt höchstens 50.", "Die Antwort hat 57 Wörter statt höchstens 30."),
        ("La réponse ne parle pas de la pluie.", "- La réponse ne parle pas de la pluie!"),
    ],
)
def test_a_repeated_criticism_is_no_answer(message: str, answer: str) -> None:
    assert echo(ASKED, answer, "Too long.", message)
    assert echo(ASKED, answer, demand=message) or "64" in message


@pytest.mark.parametrize(
    ("message", "answer", "echoes"),
    [
        (FEEDBACK, "- The answer has 24 words, and at most 15 are allowed: 1 to 2.", True),
        (FEEDBACK, 'The answer has 43 words. In a sentence, the answer is: "The answer has 43 words."', True),
        ('It contains "on top" once.', 'It contains "atop it all" once.', True),
        (LOST, "The answer was ended there, because nothing that followed could mend that.", True),
        ("The answer has the wrong unit.", "The answer has the form x = 5 m.", False),
        ('Not in the request: the name "Kim".', "Not in the request: the name Tom, and the number 7.", True),
        (CUT, "The answer is too long.", True),
        ("The answer should be Rome.", "The answer should be Rome, the capital.", False),
        ("Say that rain is wet water.", "Say that rain is wet water, and it is.", False),
    ],
)
def test_a_text_that_begins_as_a_message_about_its_form_is_no_answer(
    message: str, answer: str, echoes: bool
) -> None:
    assert echo(ASKED, answer, "Too long.", message) == echoes
    assert not echo(ASKED, answer), "nobody said so"


def test_some_of_the_demands_alone_are_no_answer() -> None:
    demand = '- Use "gull" in the answer.\n- Use "sea" in the answer.\n- Reply in all caps.'
    assert echo("Write.", '- Use "sea" in the answer.\n\n- Use "gull" in the answer.', demand=demand)
    assert echo("Write.", "REPLY IN ALL CAPS.", demand=demand)
    assert not echo("Write.", "Reply in all caps.\nTHE SEA.", demand=demand)
    assert echo("Write.", 'Use "leave office" in the answer.', demand=demand)


def test_what_a_critic_proposes_may_be_taken_over() -> None:
    critic = "Your answer is too vague. Say that rain forms when vapour cools and drops grow heavy."
    assert not echo(ASKED, "Rain forms when vapour cools and drops grow heavy.", critic)


@pytest.mark.parametrize(("answer", "right"), [("Rain is water.", True), (WATER, False)])
def test_a_given_answer_that_copies_the_prompt_is_never_right(answer: str, right: bool) -> None:
    chain = Chain(prompt=Prompt(instruction=WATER), steps=(Step(answer=answer),), best=0)
    assert outcome_of(asyncio.run(scored(chain, "checks", [parse_check("contains:water")]))) is right


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_texts_can_be_judged(answer: str, prompt: str, heard: str) -> None:
    assert echo(prompt, answer, heard, demand=heard) in (True, False)


@pytest.mark.parametrize("piece", ["a b ", '"', "okay ", "a: ", "_", "7 ", ". ", "\n", "é", "字", "i will "])
def test_long_texts_take_time_in_proportion(piece: str) -> None:
    """Of the processor: a megabyte on all sides takes 0.1 s, and would take 20 if all pairs were tried."""
    text, began = piece * (1_000_000 // len(piece)), time.process_time()
    assert echo(text, text, text, demand=text) in (True, False)
    assert time.process_time() - began < 5


def honest(folder: Path) -> Iterator[tuple[str, Prompt]]:
    for name in (
        "self_instruct/seed_tasks",
        "self_instruct/user_oriented_252",
        "gsm8k/test",
        "math/aqua_test",
    ):
        for record in read_records(folder / f"{name}.jsonl"):
            yield from ((gold, record.prompt) for gold in gold_answers(record)[:1] if len(gold) <= 200)


def test_honest_answers_of_others_are_answers(shared_data: Path) -> None:
    texts = list(honest(shared_data))
    assert len(texts) > 1500
    assert 1000 * sum(is_echo(text, prompt) for text, prompt in texts) <= len(texts)


@pytest.mark.parametrize("name", ["first_answers", "echoes"])
def test_labelled_answers_are_answers(name: str) -> None:
    lines = (Path(__file__).parent.parent / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()
    for record in map(json.loads, lines):
        text = record.get("answer") or record["revision"]
        if record["label"] == "answer":
            assert not echo(record["prompt"], text, *record.get("feedback", ())), text


def test_revisions_of_a_strong_model_are_no_echoes(shared_data: Path) -> None:
    """The chains that SelFee released (gpt-3.5): critics there often write the better answer themselves."""
    called = total = 0
    for chain in read_records(shared_data / "selfee" / "chains" / "mbpp.jsonl"):
        for number, step in enumerate(chain.steps[1:], start=1):
            heard = [before.feedback.text for before in chain.steps[:number] if before.feedback]
            called += is_echo(step.answer, chain.prompt, heard)
            total += 1
    assert total > 400
    assert called == 0
