from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, CheckResult, Feedback, Prompt, Step, is_blank
from redraft.chain.chat import ChatTemplate
from redraft.chain.encoder import answers_of
from redraft.chain.loss_mask import first_alone
from redraft.chain.selfee import parse, render
from redraft.chain.spans import TEMPLATES, spans_of
from redraft.chain.write import NO_ANSWER, to_alpaca, to_messages, to_selfee
from redraft.errors import RecordError, UsageError
from redraft.jobs.formats import Objective, TrainingFormat

REVISE, ACCEPT = "Wrong. Revision is needed.", "Right. Revision is not needed."


def judged(answer: str, feedback: str, **fields: Any) -> Step:
    verdict = "revise" if feedback == REVISE else "accept"
    return Step(answer=answer, feedback=Feedback(text=feedback, verdict=verdict), **fields)


def chain(*steps: Step, instruction: str = "Q", extra: str = "", **fields: Any) -> Chain:
    best = len(steps) - 1 if steps else None
    prompt = Prompt(instruction=instruction, input=extra)
    return Chain(**{"prompt": prompt, "steps": steps, "best": best, **fields})


def talk(*said: str, **fields: Any) -> Chain:
    system = [{"role": "system", "content": said[0][1:-1]}] if said[0].startswith("[") else []
    turns = [
        {"role": "assistant" if i % 2 else "user", "content": text}
        for i, text in enumerate(said[len(system) :])
    ]
    return Chain(prompt=Prompt(messages=(*system, *turns)), **fields)


REVISED = chain(judged("A0", REVISE), judged("A1", ACCEPT))


def written(
    made: Chain, chosen: TrainingFormat, objective: Objective, template: ChatTemplate | None = None
) -> str:
    return "".join(
        f"[{span.text or '■'}]" if span.trained else span.text or ("■" if span.stop else "")
        for span in spans_of(made, chosen, objective, template)
    ).replace("][", "")


PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\nQ\n\n"
)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("full", f"[A0{{f1}}{REVISE}{{r1}}A1{{f2}}{ACCEPT}■]"),
        ("answer", "[A1■]"),
        ("accepted", f"A0[{{f1}}{REVISE}{{r1}}A1{{f2}}{ACCEPT}■]"),
        ("revision", f"A0[{{f1}}{REVISE}{{r1}}A1{{f2}}{ACCEPT}■]"),
        ("critic", f"A0{{f1}}[{REVISE}{{r1}}]A1{{f2}}[{ACCEPT}■]"),
    ],
)
def test_selfee_by_objective(objective: Objective, expected: str) -> None:
    headings = {
        f"{kind[0].lower()}{k}": f"\n\n### {kind} {k}:\n" for kind in ("Feedback", "Revision") for k in (1, 2)
    }
    assert written(REVISED, "selfee", objective) == f"{PROMPT}### Answer:\n{expected.format(**headings)}"


PASSED = Feedback(text="", verdict="accept", by="checks")
PAIR = chain(Step(answer="bad"), Step(answer="good"), meta={"preference": True})


@pytest.mark.parametrize(
    ("made", "objective", "end"),
    [
        # A critic does not learn what follows no feedback.
        (
            chain(Step(answer="A0"), judged("A1", ACCEPT)),
            "critic",
            f"A0\n\n### Revision 1:\nA1\n\n### Feedback 2:\n[{ACCEPT}■]",
        ),
        # A rejected answer at the end is not learnt to be the end.
        (
            chain(judged("A0", REVISE), Step(answer="Wrong.", echo=True)),
            "accepted",
            "### Revision 1:\n]Wrong.■",
        ),
        (PAIR, "full", "### Answer:\n[good■]"),
        # Checks that accept without a word write no feedback.
        (chain(Step(answer="A", feedback=PASSED)), "full", "### Answer:\n[A■]"),
    ],
)
def test_how_selfees_text_ends(made: Chain, objective: Objective, end: str) -> None:
    assert written(made, "selfee", objective).endswith(end)


def test_accepted_trains_a_draft_that_was_accepted_and_none_that_failed_a_check() -> None:
    failed = CheckResult(name="words<=1", passed=False, score=0.5, message="2 words")
    by_checks = Step(answer="A0", feedback=Feedback(text="Too long.", verdict="accept", checks=(failed,)))
    assert "Answer:\nA0[" in written(chain(by_checks, judged("A1", ACCEPT)), "selfee", "accepted")
    assert "Answer:\n[A0" in written(chain(judged("A0", ACCEPT)), "selfee", "accepted")
    unknown = Step(answer="A0", feedback=Feedback(text="Hm.", verdict="unknown"))
    assert "Answer:\n[A0" in written(chain(unknown), "selfee", "accepted")


@pytest.mark.parametrize("chosen", [name for name in get_args(TrainingFormat) if name != "chat"])
def test_an_answer_without_a_question_is_not_trained_on(chosen: TrainingFormat) -> None:
    alone = chain(Step(answer="A"), instruction=" ")
    talked = Chain(
        prompt=Prompt(messages=({"role": "assistant", "content": "a"},)), steps=(Step(answer="A"),)
    )
    for made in (alone, talked):
        with pytest.raises(RecordError, match=r"^no question$"):
            spans_of(made, chosen, "answer")


@given(
    answers=st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=4),
    instruction=st.text(),
    extra=st.text(),
)
def test_selfee_is_the_text_that_selfee_renders(
    answers: list[tuple[str, str]], instruction: str, extra: str
) -> None:
    steps = [Step(answer=a, feedback=Feedback(text=f, verdict="unknown")) for a, f in answers]
    made = chain(*steps, instruction=instruction, extra=extra)
    if not is_blank(steps[-1].answer) and not is_blank(made.prompt.text):
        spans = spans_of(made, "selfee", "full")
        assert "".join(span.text for span in spans) == render(made)
        asked = [span.text for span in spans if span.given and not span.control]
        assert asked == ([instruction, extra] if extra else [instruction])


def test_lines_that_look_like_headings_are_escaped_where_text_is_read_back() -> None:
    quoting = Step(answer="See:\n### Feedback 1:\nx")
    spans = spans_of(chain(quoting), "selfee", "full")
    assert parse("".join(span.text for span in spans)).steps[0].answer == quoting.answer
    assert written(chain(quoting), "vicuna", "full").endswith("ASSISTANT:[ See:\n### Feedback 1:\nx■]")


@pytest.mark.parametrize("chosen", ["selfee", "vicuna", "stablevicuna"])
def test_what_was_cut_when_it_was_made_is_not_learnt_nor_to_stop_there(chosen: TrainingFormat) -> None:
    half = Step(answer="A1 is", finish="max_tokens")
    text = written(chain(judged("A0", REVISE), half), chosen, "full")
    assert text.endswith(f"\n\n### Feedback 1:\n{REVISE}]")
    half_feedback = judged("A1", ACCEPT, finish="context")
    assert written(chain(judged("A0", REVISE), half_feedback), chosen, "full").endswith("Revision 1:\nA1]")
    with pytest.raises(RecordError, match="cut"):
        spans_of(chain(half), chosen, "full")


ANSWERING: list[TrainingFormat] = ["selfee", "alpaca", "vicuna", "stablevicuna", "chat"]


def learnt(made: Chain, chosen: TrainingFormat, objective: Objective = "answer") -> str:
    spans = spans_of(made, chosen, objective, TEMPLATE)
    return "".join(span.text for span in spans if span.trained and span.answer).strip()


@pytest.mark.parametrize("chosen", ANSWERING)
@pytest.mark.parametrize(
    "made",
    [
        REVISED,
        REVISED.model_copy(update={"best": 0}),
        chain(judged("A0", REVISE), Step(answer="A1"), Step(answer="A2 is", finish="max_tokens"), best=1),
        chain(judged("A0", REVISE), judged("A1", ACCEPT), Step(answer="A2 is", finish="context")),
        chain(judged("A0", REVISE), judged("A1", ACCEPT), Step(answer=REVISE, echo=True)),
        chain(judged("A0", REVISE), judged("A1", ACCEPT), judged("A2", REVISE)),
        chain(judged(" \n", REVISE), judged("A1", ACCEPT), best=0),
        chain(judged("A0", ACCEPT), judged("A1", ACCEPT), judged("A2", ACCEPT), best=1),
        chain(judged("A0", REVISE), judged("A1", ACCEPT, finish="context")),
        chain(Step(answer=" "), meta={"reference": "A1"}),
    ],
)
def test_every_format_learns_the_accepted_answer(made: Chain, chosen: TrainingFormat) -> None:
    assert learnt(made, chosen) == "A1"


@pytest.mark.parametrize("chosen", ANSWERING)
@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (judged("A0", REVISE), "every answer was rejected"),
        (Step(answer="A0", finish="max_tokens"), "the answer was cut"),
        (Step(answer=REVISE, echo=True), "the answer is an echo, such as a copy of the feedback"),
        (Step(answer=" \n"), "no answer"),
    ],
)
def test_a_record_without_an_answer_says_why(chosen: TrainingFormat, step: Step, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        spans_of(chain(step), chosen, "answer", TEMPLATE)


@pytest.mark.parametrize("chosen", ["selfee", "vicuna", "chat"])
@pytest.mark.parametrize("objective", ["full", "accepted", "revision"])
def test_no_objective_learns_what_is_no_answer(chosen: TrainingFormat, objective: Objective) -> None:
    cut = Step(answer="A1 is", finish="max_tokens")
    made = chain(judged("A0", ACCEPT), Step(answer=REVISE, echo=True), cut, judged("A3", ACCEPT))
    assert learnt(made, chosen, objective) == ("A3" if objective == "revision" else "A0A3")


@pytest.mark.parametrize("chosen", ANSWERING)
def test_the_first_answer_is_learnt_where_it_is_asked_for(chosen: TrainingFormat) -> None:
    assert learnt(first_alone(REVISED), chosen) == "A0"
    assert learnt(first_alone(chain(judged("A0", REVISE, finish="context"))), chosen) == "A0"
    assert learnt(first_alone(chain(meta={"reference": "G"})), chosen) == "G"
    with pytest.raises(RecordError, match="cut"):
        spans_of(first_alone(chain(Step(answer="A0", finish="context"))), chosen, "answer", TEMPLATE)
    assert learnt(first_alone(PAIR), chosen) == "good"


def test_alpaca_goes_on_behind_the_colon_with_the_best_answer() -> None:
    assert written(REVISED, "alpaca", "full") == f"{PROMPT}### Response:[A1■]"
    assert learnt(chain(judged("A0", REVISE)), "alpaca", "full") == "A0"  # all that the model wrote


VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)


SEEN: dict[str, Any] = {"steps": (Step(answer="See you"),), "best": 0}
FIRST = Prompt(messages=({"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Hi"}))


@pytest.mark.parametrize(
    ("made", "chosen", "text"),
    [
        (
            talk("Hi", "Hello", "Bye", **SEEN),
            "vicuna",
            f"{VICUNA}USER: Hi ASSISTANT:[ Hello■]USER: Bye ASSISTANT:[ See you■]",
        ),
        (
            talk("[Be nice.]", "Hi", "Hello", "Bye", **SEEN),
            "stablevicuna",
            "Be nice.\n\n### Human: Hi\n### Assistant:[ Hello■]\n### Human: Bye\n### Assistant:[ See you■]",
        ),
        # A first word of the assistant's, and a question that nobody answers, are left out.
        (Chain(prompt=FIRST, **SEEN), "vicuna", f"{VICUNA}USER: Hi ASSISTANT:[ See you■]"),
        (talk("Hi", "Hello", "Bye"), "vicuna", f"{VICUNA}USER: Hi ASSISTANT:[ Hello■]"),
    ],
)
def test_every_turn_of_a_conversation_is_trained_with_its_stop_token(
    made: Chain, chosen: TrainingFormat, text: str
) -> None:
    assert written(made, chosen, "full") == written(made, chosen, "answer") == text


def test_steps_are_selfees_text_inside_the_last_turn() -> None:
    made = talk("[Sys.]", "Hi", "Hello", "Q", steps=REVISED.steps, best=1)
    assert written(made, "vicuna", "critic") == (
        "Sys. USER: Hi ASSISTANT: Hello■USER: Q ASSISTANT: A0\n\n### Feedback 1:\n"
        f"[{REVISE}\n\n### Revision 1:\n]A1\n\n### Feedback 2:\n[{ACCEPT}■]"
    )
    assert written(made, "vicuna", "answer").endswith("ASSISTANT:[ A1■]")


@pytest.mark.parametrize("chosen", ["vicuna", "stablevicuna"])
def test_talks_out_of_turn_are_refused(chosen: TrainingFormat) -> None:
    twice = ({"role": "user", "content": "Hi"}, {"role": "user", "content": "Hello?"})
    with pytest.raises(RecordError, match="take turns"):
        spans_of(Chain(prompt=Prompt(messages=twice), steps=(Step(answer="A"),), best=0), chosen, "full")


@pytest.mark.parametrize("chosen", get_args(TrainingFormat))
@pytest.mark.parametrize("objective", get_args(Objective))
def test_every_format_has_each_objective_or_says_why(chosen: TrainingFormat, objective: Objective) -> None:
    if chosen == "alpaca" and objective in ("revision", "critic"):
        with pytest.raises(UsageError, match="does not have"):
            spans_of(REVISED, chosen, objective)
    else:
        assert any(span.trained for span in spans_of(REVISED, chosen, objective, TEMPLATE))


@pytest.mark.parametrize("empty", [chain(), chain(Step(answer=" ")), chain(meta={"reference": ""})])
@pytest.mark.parametrize("chosen", get_args(TrainingFormat))
def test_no_answer(chosen: TrainingFormat, empty: Chain) -> None:
    with pytest.raises(RecordError, match="no answer"):
        spans_of(empty, chosen, "full", TEMPLATE)


# The model's own template. What real ones do is in tests/train/test_tokens.py.


class Plain:
    """A template as a function of each message, and the prefix of an answer.

    `reads` changes the messages first, `ends` the text at last.
    """

    def __init__(
        self,
        line: str = "<{role}>{content}</>\n",
        prompt: str = "<assistant>",
        reads: Callable[[list[dict[str, str]]], list[dict[str, str]]] = lambda messages: messages,
        ends: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.line, self.prompt, self.reads, self.ends = line, prompt, reads, ends

    def __call__(self, messages: list[dict[str, str]], *, answer_follows: bool = False, **_: Any) -> str:
        text = "".join(self.line.format(**message) for message in self.reads(messages))
        return text + self.prompt if answer_follows else self.ends(text)


CONTROLS = ("<user>", "<system>", "<assistant>", "</>")
TEMPLATE = ChatTemplate(Plain(), CONTROLS)


@pytest.mark.parametrize(
    ("made", "line", "text"),
    [
        (
            talk("[S]", "Hi", "Hello", "Bye", **SEEN),
            "<{role}>{content}</>\n",
            "<system>S</>\n<user>Hi</>\n<assistant>[Hello</>]\n<user>Bye</>\n<assistant>[See you</>]\n",
        ),
        # The first control token alone is learnt; a chain that was cut has none.
        (
            chain(Step(answer="A")),
            "<{role}>{content} </><user>\n",
            "<user>Q </><user>\n<assistant>[A </>]<user>\n",
        ),
        (
            chain(judged("A0", REVISE), Step(answer="A1 is", finish="max_tokens")),
            "<{role}>{content}</>\n",
            f"<user>Q</>\n<assistant>[A0\n\n### Feedback 1:\n{REVISE}]",
        ),
    ],
)
def test_chat_trains_what_the_assistant_says_until_the_first_control_token(
    made: Chain, line: str, text: str
) -> None:
    assert written(made, "chat", "full", ChatTemplate(Plain(line), CONTROLS)) == text


def test_chat_with_steps_inside_the_last_turn() -> None:
    made = talk("Hi", "Hello", "Q", steps=REVISED.steps, best=1)
    assert written(made, "chat", "accepted", TEMPLATE) == (
        "<user>Hi</>\n<assistant>[Hello</>]\n<user>Q</>\n<assistant>A0"
        f"[\n\n### Feedback 1:\n{REVISE}\n\n### Revision 1:\nA1\n\n### Feedback 2:\n{ACCEPT}</>]\n"
    )
    assert "Hello</>\n<user>Q</>\n<assistant>A0\n\n### Feedback" in written(made, "chat", "critic", TEMPLATE)


def test_control_tokens_that_a_user_writes_are_not_the_templates() -> None:
    made = talk("</>\n<assistant>", "Hi</>", "Q", steps=(Step(answer="<user>"),), best=0)
    spans = spans_of(made, "chat", "full", TEMPLATE)
    assert [span.text for span in spans if not span.control] == ["</>\n<assistant>", "Hi</>", "Q", "<user>"]


def test_a_template_that_trims_is_followed() -> None:
    def trimmed(messages: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**m, "content": m["content"].strip()} for m in messages]

    template = ChatTemplate(Plain("<{role}> {content} </>", reads=trimmed), CONTROLS)
    made = talk(" Hi\n", " Hello ", "Q", steps=(judged(" A ", ACCEPT),), best=0)
    assert written(made, "chat", "full", template) == (
        f"<user> Hi </><assistant>[ Hello </>]<user> Q </><assistant>[ A \n\n### Feedback 1:\n{ACCEPT} </>]"
    )


def test_what_a_template_writes_behind_the_last_answer_alone_is_not_learnt() -> None:
    """Phi-3's template ends every text with another control token."""
    template = ChatTemplate(Plain(ends="{}<eos>".format), (*CONTROLS, "<eos>"))
    assert written(talk("Hi", "Hello", "Bye", **SEEN), "chat", "full", template) == (
        "<user>Hi</>\n<assistant>[Hello</>]\n<user>Bye</>\n<assistant>[See you</>]\n<eos>"
    )


def test_a_turn_that_a_template_rewrites_is_read_and_not_learnt() -> None:
    """Like Qwen 3's template, which writes thoughts for the last answer alone."""

    def thinking(messages: list[dict[str, str]]) -> list[dict[str, str]]:
        *before, last = messages
        return [
            *before,
            {**last, "content": f"(hm){last['content']}"} if last["role"] == "assistant" else last,
        ]

    template = ChatTemplate(Plain(reads=thinking), CONTROLS)
    assert written(talk("Hi", "Hello", "Q", steps=(Step(answer="A"),), best=0), "chat", "full", template) == (
        "<user>Hi</>\n<assistant>Hello</>\n<user>Q</>\n<assistant>[(hm)A</>]\n"
    )


@pytest.mark.parametrize(
    ("line", "message"), [("<{role}></>", "leaves out"), ("{role}: {content}\n", "no control token")]
)
def test_a_template_that_marks_nothing_is_an_error(line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        spans_of(chain(Step(answer="A")), "chat", "full", ChatTemplate(Plain(line, ""), CONTROLS))


def test_a_template_that_changes_words_leaves_the_record_out() -> None:
    template = ChatTemplate(Plain(ends=lambda text: text.replace("bad", "good")), CONTROLS)
    assert "[fine" in written(chain(Step(answer="fine")), "chat", "full", template)
    with pytest.raises(RecordError, match="changes the messages"):
        spans_of(chain(Step(answer="bad")), "chat", "full", template)


@pytest.mark.parametrize("nothing", ["", " \n", "\u200b", "\ufeff\u2060", "```\n```"])
def test_a_text_that_shows_nothing_is_no_answer_anywhere(nothing: str) -> None:
    made = chain(Step(answer=nothing))
    for steps in ((), (judged("A0", REVISE),)):
        with pytest.raises(RecordError, match="no answer"):
            spans_of(chain(*steps, Step(answer=nothing)), "vicuna", "full")
    assert [to_selfee(made), to_alpaca(made), to_messages(made)] == [NO_ANSWER] * 3
    with pytest.raises(RecordError, match="an empty answer"):
        answers_of(chain(Step(answer=nothing), Step(answer="B")))


PLAIN: list[TrainingFormat] = ["vicuna", "stablevicuna", "selfee"]


@pytest.mark.parametrize("name", PLAIN)
@given(texts=st.lists(st.text("abc \n#:", min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_a_model_reads_what_it_was_trained_on(name: TrainingFormat, texts: list[str]) -> None:
    chain = talk(*texts[: len(texts) - (len(texts) + 1) % 2], steps=(Step(answer="Rain falls."),), best=0)
    trained = "".join("</s>" if span.stop else span.text for span in spans_of(chain, name, "full"))
    assert trained.removeprefix(TEMPLATES[name].text(chain.prompt, "</s>")).strip() == "Rain falls.</s>"
