from __future__ import annotations

import io
import re
from difflib import SequenceMatcher
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from redraft.chain import Chain, CheckResult, Feedback, Place, Prompt, Step, Usage
from redraft.cli.render import notes, outline, render_chain, verdict, word_diff
from redraft.cli.watch import Watch
from redraft.jobs.counting import printable
from redraft.revision.ops import DraftDone, Finished, Progress, StepDone, Text
from redraft.revision.words import STOPS, faults_of, verdict_of

CHAIN = Chain(
    id="q/1",
    prompt=Prompt(instruction="Describe rain."),
    steps=(
        Step(
            answer="Rain is water that falls and is cold.",
            feedback=Feedback(
                text="It is cold.",
                verdict="revise",
                by="checks",
                checks=(CheckResult(name="lacks:cold", passed=False, score=0, message="It has cold."),),
            ),
        ),
        Step(answer="Rain is water that falls.", feedback=Feedback(text="Fine.", verdict="accept")),
        Step(answer="Rain is wat", finish="max_tokens"),
    ),
    best=1,
    stop="budget",
    usage=Usage(completion_tokens=20, seconds=2),
)


def drawn(chain: Chain, *, terminal: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=80, force_terminal=terminal, color_system="truecolor" if terminal else None
    )
    console.print(render_chain(chain, console))
    return console.file.getvalue()  # type: ignore[attr-defined]


words = st.lists(
    st.sampled_from(["the", "a", "cat", "dog", "sat", "on", ",", ".", "\n", "é", "🦜"]), max_size=30
).map(" ".join)


@given(words, words)
def test_a_diff_holds_both_texts(before: str, after: str) -> None:
    marked = word_diff(before, after, colour=False).plain
    assert re.sub(r"\[-.*?-\]|\{\+|\+\}", "", marked, flags=re.S) == after
    if "[-" in marked:
        assert re.sub(r"\{\+.*?\+\}|\[-|-\]", "", marked, flags=re.S).split() == before.split()


def test_a_diff_marks_words_and_not_letters() -> None:
    marked = word_diff("The cat sat on the mat.", "The cat sat on the rug.", colour=False).plain
    assert marked == "The cat sat on the[- mat-]{+ rug+}."


def test_a_rewritten_text_is_shown_whole() -> None:
    assert word_diff("one two three four", "quite another text", colour=False).plain == "quite another text"


def test_what_takes_long_to_compare_is_shown_whole_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        SequenceMatcher, "get_matching_blocks", lambda _: pytest.fail("it would take a minute")
    )
    after = "on and off " * 600
    assert word_diff("on and on " * 600, after, colour=False).plain == after
    every = " ".join(f"w{number} a{number}" for number in range(2_000))
    assert word_diff(every, every.replace("a", "b"), colour=False).plain == every.replace("a", "b")


def test_a_model_cannot_steer_the_terminal() -> None:
    evil = "a\x1b[2J\x1b]0;owned\x07b\x9b31mc\rd\u202e\u2028"
    assert not re.search(r"[\x1b\x07\x9b\r\u202e\u2028]", printable(evil))
    chain = CHAIN.model_copy(update={"steps": (Step(answer=evil),), "best": 0, "id": evil})
    assert "\x1b[2J" not in drawn(chain, terminal=True)
    assert "\x1b" not in drawn(chain)


def test_markup_in_an_answer_stays_text() -> None:
    chain = CHAIN.model_copy(update={"steps": (Step(answer="[bold]x[/bold] [/]"),), "best": 0})
    assert "[bold]x[/bold] [/]" in drawn(chain)


def test_a_chain_shows_why_it_ended_and_which_answer_is_best() -> None:
    text = drawn(CHAIN)
    for part in (
        "q/1",
        "Describe rain.",
        "Revision 1 · best",
        "lacks:cold",
        "It has cold.",
        STOPS["budget"],
        "Cut:",
    ):
        assert part in text
    scored = {"eval": {"steps": [[each.model_dump() for each in CHAIN.steps[0].checks]]}}
    text = drawn(CHAIN.model_copy(update={"meta": scored}))
    assert ("Score · wrong" in text, text.count("It has cold.")) == (True, 1)
    assert max(map(len, text.splitlines())) <= 80


def test_the_verdict_of_checks_is_said_in_colour_and_words() -> None:
    results = [
        CheckResult(name=f"c{n}", passed=n > 1, score=1, message=f"The answer has {n}.") for n in range(3)
    ]
    assert "\x1b[1;31m✗ lacks:cold: It has cold." in drawn(CHAIN, terminal=True)
    assert (verdict_of(results[1:]), verdict_of(results)) == ("fails 1 of 2: 1.", "fails 2 of 3")
    assert [str(line).strip() for line in verdict(results)] == [
        "✗ fails 2 of 3",
        "✗ c0  The answer has 0.",
        "✗ c1  The answer has 1.",
    ]
    assert [str(line) for line in verdict(results[2:])] == ["✓ c2: 2."]


@pytest.mark.parametrize(
    ("about", "count", "score"),
    [({}, 1, "right"), ({"echo": True}, 1, "wrong"), ({"finish": "lost"}, 1, "wrong"), ({}, 0, "wrong")],
)
def test_an_answer_is_right_as_eval_has_it(about: dict[str, Any], count: int, score: str) -> None:
    step, meta = Step(answer="18", **about), {"eval": {"steps": [[{"name": "c", "passed": True}] * count]}}
    text = drawn(CHAIN.model_copy(update={"steps": (step,), "best": 0, "meta": meta}))
    assert f"Score · {score}\n" in text


def test_beside_the_verdict_of_checks_stands_that_an_answer_repeats_itself() -> None:
    results = (CheckResult(name="words<=30", passed=True, score=1, message="The answer has 9 words."),)
    step = Step(
        answer="Rain falls on roofs. " * 3, feedback=Feedback(text="", checks=results, verdict="accept")
    )
    assert [str(line) for line in outline(step, "Draft")] == [
        "Draft: The answer repeats itself.",
        "Draft: ✓ words<=30: 9 words.",
    ]
    assert not notes(step.model_copy(update={"answer": "Rain falls on roofs. " * 2}))


def test_feedback_that_was_cut_is_not_called_a_cut_answer() -> None:
    step = Step(answer="Rain.", finish="cancelled", feedback=Feedback(text="It", verdict="unknown"))
    chain = CHAIN.model_copy(update={"steps": (step,), "best": 0, "stop": "malformed"})
    assert [str(note) for note in notes(step)] == ["The feedback was cut."]
    assert not [*faults_of(chain, with_checks=False)]


def test_a_revision_that_changes_nothing_is_one_line() -> None:
    same = CHAIN.model_copy(update={"steps": (CHAIN.steps[1], CHAIN.steps[1]), "best": 0})
    shown = watched(same)
    for text in (drawn(same), shown):
        assert "Revision 1 · the same text again" in text
    assert drawn(same).count("Rain is water that falls.") == 1
    assert shown.count("Rain is water that falls.") == 2, "as the first answer, and alone at the end"
    assert "best     the first answer" in shown


def test_calls_of_tools_are_shown() -> None:
    calls = [{"function": {"name": "pay", "arguments": f'{{"amount": {n}}}'}} for n in (450, 45)]
    asked = Prompt(
        messages=({"role": "user", "content": "Pay."}, {"role": "assistant", "tool_calls": calls[1:]})
    )
    steps = [Step(answer="", tool_calls=(call,)) for call in (*calls, {"function": "odd"})]
    text = drawn(Chain(prompt=asked, steps=steps, best=1))
    assert 'assistant: pay({"amount": 45})' in text
    assert 'pay({"amount": 450})' in text
    assert "same text" not in text


def test_every_stop_reason_has_words() -> None:
    from typing import get_args

    from redraft.chain import Stop

    assert set(STOPS) == set(get_args(Stop))


def watched(chain: Chain, *, steps: bool = True) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with Watch(console, steps=steps) as watch:
        watch.wait("Loading the model")
        for index, step in enumerate(chain.steps):
            watch.show(Text("answer", index, step.answer))
            watch.show(Progress(chain))
            if step.feedback:
                watch.show(Text("feedback", index, step.feedback.text))
            watch.show(StepDone(index, step))
        watch.show(Finished(chain))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_watching_shows_each_step_once_and_the_best_alone_at_the_end() -> None:
    text = watched(CHAIN)
    assert text.count("Rain is water that falls and is cold.") == 1
    assert text.count("Rain is water that falls.\n") == 2
    assert text.endswith("\n\nRain is water that falls.\n")
    alone = watched(CHAIN.model_copy(update={"steps": CHAIN.steps[:1], "best": 0}))
    assert alone.count("Rain is water that falls and is cold.") == 1, "the only answer is not repeated"


def test_a_revision_that_nothing_judged_has_a_line_too() -> None:
    steps = (CHAIN.steps[0], Step(answer="Rain is wet."))
    text = watched(CHAIN.model_copy(update={"steps": steps}), steps=False)
    assert [line for line in text.splitlines() if ": written" in line] == ["Revision 1: written"]


def test_the_draft_that_is_gone_on_with_is_printed_once_and_named() -> None:
    drafts = [Step(answer="Rain is wet and cold."), Step(answer="Rain is wet.")]
    chain = CHAIN.model_copy(
        update={"steps": (drafts[1],), "drafts": (drafts[0],), "best": 0, "stop": "passed"}
    )
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with Watch(console) as watch:
        for index, step in enumerate(drafts):
            watch.show(Text("answer", 0, step.answer))
            watch.show(DraftDone(index, step))
        watch.show(StepDone(0, drafts[1]))
        watch.show(Finished(chain))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.partition("best     the best draft")[0].count("Rain is wet.") == 1
    assert "Draft 2 · best draft" in text
    assert "best     the best draft" in text
    assert "the first answer" not in text
    assert "the best draft" in drawn(chain)


def test_drafts_that_were_not_chosen_are_numbered_among_themselves() -> None:
    lost = (Step(answer="Rain."), Step(answer="Hail."))
    text = drawn(CHAIN.model_copy(update={"steps": CHAIN.steps[:1], "drafts": lost, "best": 0}))
    for title in ("Draft not chosen, 1 of 2", "Draft not chosen, 2 of 2", "Answer · best draft · best"):
        assert title in text


@pytest.mark.parametrize(
    ("answer", "places", "said"),
    [
        ("A\r\nmouse.", [(3, 8)], ["mouse"]),
        ('See: {"to": [7], "at": "x"}', ["/to/0", "/at", "/a", "/to/x", "to"], ["7", '"x"']),
        ("A mouse.", [(-4, 3), (2, 999), (5, 4), "/a", ""], []),
    ],
)
def test_what_is_wrong_is_underlined_where_the_answer_has_it(
    answer: str, places: list[Place], said: list[str]
) -> None:
    found = CheckResult(name="a", passed=False, score=0, message="No.", places=tuple(places))
    step = Step(answer=answer, patch=((0, 1),), feedback=Feedback(text="", verdict="revise", checks=(found,)))
    for steps in ((step,), (Step(answer="A mouse is here."), step)):
        meta = {"unchanged": [{"passage": "my x", "why": "the same came back"}]}
        text = drawn(CHAIN.model_copy(update={"steps": steps, "best": 0, "meta": meta}), terminal=True)
        assert re.findall("4;31m(.*?)\x1b", text) == said
        assert "Patched: 1 place, 0 new tokens." in text
        assert re.search("not changed.*'my x': the same came back", text)
        assert printable(answer) in re.sub(r"\x1b\[9;.*?\x1b\[0m|\x1b\[[\d;]*m", "", text)


def test_a_patch_moves_while_it_is_written_and_does_not_stay() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with Watch(console) as watch:
        for text in ("", "A dog", "", "A c", "at"):
            watch.show(Text("patch", 1, text))
        said, title = "".join(watch._moving.pieces), watch._moving.title
        watch.show(Text("answer", 1, "A cat."))
    assert (said, title) == ("A cat", "Revision 1")
    assert "A cat." in (shown := console.file.getvalue())  # type: ignore[attr-defined]
    assert "A dogA c" not in shown


def test_an_answer_is_printed_with_its_faults_when_its_checks_are_done() -> None:
    found = CheckResult(name="lacks:mouse", passed=False, score=0, message="No.", places=((2, 7),))
    step = Step(answer="A mouse.", feedback=Feedback(text="", verdict="revise", by="checks", checks=(found,)))
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor")
    with Watch(console) as watch:
        watch.show(Text("answer", 0, "A mouse."))
        watch.show(Progress(CHAIN))
        watch.show(StepDone(0, step))
    assert "A \x1b[4;31mmouse\x1b[0m." in console.file.getvalue()  # type: ignore[attr-defined]
