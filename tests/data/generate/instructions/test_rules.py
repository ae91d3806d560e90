"""Each rule rejects what it is for, and nothing beside it; replies are read in the forms of teachers."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.generate.instructions import rules
from redraft.data.generate.instructions.tasks import Task
from redraft.data.generate.instructions.wording import AFTER_TASKS, Wanted, ask_tasks
from redraft.data.generate.leaks import is_refusal

ENGLISH, GERMAN = Wanted("English"), Wanted("German")


@pytest.mark.parametrize(
    ("instruction", "rule"),
    [
        ("", "empty"), ("Name a river", "short"), ("Name a long river.", None),
        (" ".join(["word"] * 150), None), (" ".join(["word"] * 151), "long"),
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
)  # fmt: skip
def test_rules_of_instructions(instruction: str, rule: str | None) -> None:
    fault = rules.check_instruction(Task(instruction, "", "x"), ENGLISH)
    assert (fault.rule if fault else None) == rule


def test_other_languages_may_begin_with_other_letters() -> None:
    assert rules.check_instruction(Task("Überlege dir vier neue Aufgaben."), GERMAN) is None
    assert rules.check_instruction(Task("列出四种水果的名称和颜色。"), Wanted("Chinese")) is None


@pytest.mark.parametrize(
    ("given", "output", "rule"),
    [
        ("", "Loire", None), ("", "", "empty"),
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
        ("", "ha ha ha", None), ("x y", "x y", "same"), ("", "The rivers are:", "colon"),
        ("The list:", "a, b", "colon"),
        ("<noinput> today", "fine", "markers"),
        ("", "Good.\n### Feedback 1: none", "markers"),
        ("", "<|im_end|>", "markers"),
        ("", "Los ríos más largos de Francia son el Loira, el Sena y el Ródano.", "language"),
    ],
)  # fmt: skip
def test_rules_of_answers(given: str, output: str, rule: str | None) -> None:
    fault = rules.check_answer(Task("Name rivers of it.", given, output), ENGLISH)
    assert (fault.rule if fault else None) == rule


def test_an_output_is_in_the_wanted_language() -> None:
    task = Task("Nenne drei lange Flüsse in Frankreich.", "", "Die Loire, die Seine und die Rhone sind lang.")
    assert rules.check_answer(task, GERMAN) is None
    assert rules.check_answer(task, Wanted("de")) is None
    assert rules.check_answer(task, ENGLISH) is not None


def test_a_long_text_is_looked_at_quickly() -> None:
    assert rules.repeats("ab " * 100_000)
    assert not rules.repeats("".join(Random(1).choices("ab ", k=100_000)))
    begun = time.process_time()
    assert not rules.repeats("-" * 100_000 + "x")
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


TASKS = (
    "Task 4\nInstruction: Add two.\nInput: 1 and 1\nOutput: 2",
    "Task 5\nInstruction: Sing.\nInput: <noinput>\nOutput: La",
)


@pytest.mark.parametrize(
    "reply",
    [
        "{0}\n\n{1}",
        (
            "Sure!\n\n4. Instruction: Add two.\n4. Input: 1 and 1\n4. Output: 2\n###\n"
            "5. Instruction: Sing.\nInput: N/A\nOutput: La"
        ),
        (
            "### Task 4:\n**Instruction:** Add two.\n**Input:** 1 and 1\n**Output:** 2\n\n---\n\n"
            "### Task 5:\n**Instruction:** Sing.\n**Input:** None\n**Output:** La\n\n---"
        ),
        (
            "instruction: Add two.\ninput:\n1 and 1\noutput:\n2\n\n"
            "INSTRUCTION: Sing.\nINPUT: No input needed.\nOUTPUT: La"
        ),
        "```\n{0}\n\n{1}\n```",
        "Here you are:\n\n```text\n{0}\n\n{1}\n```\n\nI hope these help!",
        "```\n{0}\n```\n\n```\n{1}\n```",
        "{0}\n\n{1}\n```",
        "~~~\n{0}\n\n---\n\n{1}\n~~~",
    ],
)
def test_the_forms_that_teachers_write(reply: str) -> None:
    tasks = [found.task for found in rules.read_tasks(reply.format(*TASKS), cut=False)]
    assert tasks == [Task("Add two.", "1 and 1", "2"), Task("Sing.", "", "La")]


@pytest.mark.parametrize("output", ["```python\nprint(1)\n```", "Use this:\n\n```\nls\n```\n\nThen wait."])
@pytest.mark.parametrize("form", ["{0}", "```\n{0}\n```"])
def test_fences_of_an_output_stay(output: str, form: str) -> None:
    text = f"Task 4\nInstruction: Show it.\nInput: <noinput>\nOutput: {output}"
    [found] = rules.read_tasks(form.format(text), cut=False)
    assert found.task.output == output


def test_fences_around_instructions_are_no_text_of_theirs() -> None:
    reply = "```\n7. Add two numbers.\n8. Sing a song.\n```"
    found = [each.task.instruction for each in rules.read_instructions(reply, cut=False)]
    assert found == ["Add two numbers.", "Sing a song."]


def test_a_label_in_a_text_is_text() -> None:
    output = "Fill this in:\nInput: your name\nOutput: your age"
    reply = f"Task 4\nInstruction: Show a form.\nInput: <noinput>\nOutput: {output}"
    [found] = rules.read_tasks(reply, cut=False)
    assert found.task.output == output
    assert found.fault is None


def test_a_task_in_an_output_is_text_where_tasks_have_headings() -> None:
    output = "Here is one:\n\nInstruction: Sort the numbers.\nInput: 3 1 2\nOutput: 1 2 3"
    reply = f"Task 4\nInstruction: Show an example.\nInput: <noinput>\nOutput: {output}"
    shown, last = rules.read_tasks(f"{reply}\n\nTask 5\nInstruction: Go.", cut=False)
    assert (shown.task.output, last.task.instruction) == (output, "Go.")


@pytest.mark.parametrize("output", ["-5", "80.", "7)", "3", "12 - 4", "# A heading"])
def test_an_answer_that_looks_like_a_rule_stays(output: str) -> None:
    [found] = rules.read_tasks(
        f"Task 4\nInstruction: Do it.\nInput: x\nOutput: {output}\n\nTask 5\n", cut=False
    )
    assert found.task.output == output


def test_the_last_task_of_a_cut_reply_is_dropped() -> None:
    reply = "Instruction: A b c d.\nInput: x\nOutput: y\nInstruction: E f g h.\nInput: z\nOutput: half"
    assert [found.fault and found.fault.rule for found in rules.read_tasks(reply, cut=True)] == [None, "cut"]
    assert [found.fault for found in rules.read_tasks(reply, cut=False)] == [None, None]


@pytest.mark.parametrize(
    "reply", ["Instruction: A b c d.\nOutput: y", "Instruction: A b c d.\nInput: y", "Instruction: A b."]
)
def test_a_task_without_its_lines_left_the_format(reply: str) -> None:
    [found] = rules.read_tasks(reply, cut=False)
    assert found.fault is not None
    assert found.fault.rule == "format"


def test_prose_has_no_tasks() -> None:
    assert rules.read_tasks("Sure, what can I do for you? The output: see below.", cut=False) == []


@pytest.mark.parametrize("text", ["<noinput>", "None.", "n/a", "No input", "(no input required)", "-", ""])
def test_no_input(text: str) -> None:
    assert rules.input_of(text) == ""


@pytest.mark.parametrize("text", ["nonesuch", "No input came from the sensor.", "1 - 2", "empty hall"])
def test_an_input_that_only_resembles_it(text: str) -> None:
    assert rules.input_of(text) == text


LINES = st.lists(
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=9), min_size=1, max_size=3
)


@given(st.lists(st.tuples(LINES, LINES, LINES), min_size=1, max_size=4))
def test_what_is_written_as_asked_is_read_again(tasks: list[tuple[list[str], ...]]) -> None:
    texts = [tuple("\n".join(f"a{line}" for line in lines) for lines in task) for task in tasks]
    reply = "\n\n".join(
        f"Task {n}\nInstruction: {a}\nInput: {b}\nOutput: {c}" for n, (a, b, c) in enumerate(texts, 4)
    )
    read = [tuple(block[label] for label in rules.LABELS) for block in rules.read_blocks(reply, rules.LABELS)]
    assert read == texts


@given(st.text(st.sampled_from("Instruction:InputOutput \n#*4.Task<>no-"), max_size=120), st.booleans())
def test_any_reply_is_read_without_an_error(reply: str, cut: bool) -> None:
    for found in rules.read_tasks(reply, cut=cut):
        assert found.fault or (found.task.instruction is not None and found.task.output is not None)


def test_a_request_shows_its_examples_in_the_form_that_is_read() -> None:
    examples = [Task("Add the numbers.", "1 2", "3"), Task("Say something kind.", "", "Well done!")]
    text = ask_tasks(examples, Wanted("German", "bees"))
    assert [found.task for found in rules.read_tasks(text.partition("Now write")[0], cut=False)] == examples
    assert "tasks 3 to 20" in text
    for word in ("German", "bees", "4 to 150"):
        assert word in text
    assert AFTER_TASKS[0] == "\nTask 21"


@pytest.mark.parametrize("part", [" ", "-", "*", "_", "#", "1", "task 1 "])
def test_a_line_that_repeats_itself_costs_no_time(part: str) -> None:
    line = part * 20_000 + "x"
    begun = time.process_time()
    rules.read_tasks(f"Instruction: a\nInput: b\nOutput:\n{line}\n1{line}", cut=False)
    rules.read_instructions(f"1. a\n{line}", cut=False)
    assert time.process_time() - begun < 2
