"""The cleaning rules one by one, and the faults of the released scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.chain.read.records import chain_of
from redraft.chain.texts import turns_of
from redraft.data.clean_rules import (
    ALPACA,
    FASTCHAT,
    NAMES,
    RULES,
    RuleSettings,
    ends_in_question,
    is_question,
)
from redraft.data.texts import answered_turns

BY_NAME = {rule.name: rule for rule in RULES}


def talk(*texts: str, first: str = "human") -> Chain:
    roles = ("human", "gpt") if first == "human" else ("gpt", "human")
    return said(*((roles[i % 2], text) for i, text in enumerate(texts)))


def said(*turns: tuple[str, str]) -> Chain:
    return chain_of({"conversations": [{"from": role, "value": text} for role, text in turns]})


def by(name: str, chain: Chain, settings: RuleSettings | None = None) -> Chain | str:
    return BY_NAME[name].apply(chain, answered_turns(chain), settings or RuleSettings())


def kept(name: str, chain: Chain, settings: RuleSettings | None = None) -> bool:
    return not isinstance(by(name, chain, settings), str)


def texts(outcome: Chain | str) -> list[str]:
    assert isinstance(outcome, Chain), outcome
    return [turn.text for turn in turns_of(outcome)]


def test_characters() -> None:
    chain = talk("a\x00b\r\nc\rd\te\x1b[31mf\x85g\x9b\ufeff\x0bh\x0ci", "x" * 20)
    assert texts(by("characters", chain))[0] == "ab\nc\nd\tef\ng\nh\ni"


def test_rules_change_all_texts_alike_and_keep_the_steps() -> None:
    feedback = Feedback(text="<p>Too \x00long.</p>\r\n", verdict="revise")
    steps = (Step(answer="<p>a &lt; b\x00</p>", feedback=feedback), Step(answer="<p><b>a</b></p>"))
    prompt = Prompt(instruction="Is a\r\nless?", input="\ufeffyes")
    chain = Chain(prompt=prompt, steps=steps, best=1, meta={"reference": "<p>a</p>", "source": {"x": "\x00"}})
    for name in ("characters", "html"):
        outcome = by(name, chain)
        assert isinstance(outcome, Chain)
        chain = outcome
    assert [step.answer for step in chain.steps] == ["a < b", "**a**"]
    assert chain.steps[0].feedback
    assert chain.steps[0].feedback.text == "Too long."
    assert (chain.prompt.instruction, chain.prompt.input) == ("Is a\nless?", "yes")
    assert (chain.meta, chain.best) == ({"reference": "a", "source": {"x": "\x00"}}, 1)


def test_texts_in_parts_are_changed_too() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "a\x00"},
        {"type": "image_url", "image_url": {"url": "\x00"}},
    ]
    chain = Chain(prompt=Prompt(messages=({"role": "user", "content": parts, "name": "x"},)))
    outcome = by("characters", chain)
    assert isinstance(outcome, Chain)
    assert outcome.prompt.messages == (
        {"role": "user", "content": [parts[0] | {"text": "a"}, parts[1]], "name": "x"},
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("blocked", "language")])
def test_a_chain_that_a_rule_has_nothing_to_do_on_is_the_same(name: str) -> None:
    chain = talk("What is a fox?", "It is an animal of the woods.")
    assert by(name, chain) is chain


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("```pythonCopy code\nx\n```", "```python\nx\n```"),
        ("```\npython\nCopy code\nx\n```", "```python\nx\n```"),
        ("```c++Copy codeint x;\n```", "```c++\nint x;\n```"),
        ("TextCopy12 chars / 3 words more", "Text more"),
        ("```sh\n# Copy code\ncp a b\n```", "```sh\n# Copy code\ncp a b\n```"),
        ("```\nCopy code from a to b\n```", "```\nCopy code from a to b\n```"),
    ],
)
def test_residue(text: str, clean: str) -> None:
    assert texts(by("residue", talk("q", text)))[1] == clean


def test_roles_cut_off_what_answers_nothing_and_what_nobody_answers() -> None:
    outcome = by("roles", talk("So.", "one?", "One.", "two?", first="gpt"))
    assert texts(outcome) == ["one?", "One."]
    assert isinstance(outcome, Chain)
    assert outcome.prompt.messages is None
    assert texts(by("roles", said(("gpt", "a"), ("gpt", "b"), *TWO, ("human", "x"), ("human", "y")))) == [
        "q",
        "a",
    ]


TWO = (("human", "q"), ("gpt", "a"))


def test_roles_keep_what_the_system_says() -> None:
    outcome = by("roles", said(("system", "s"), ("gpt", "hello"), *TWO, *TWO))
    assert [turn.role for turn in turns_of(outcome)] == ["system", *("user", "assistant") * 2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ((("human", "a"), ("human", "b"), ("gpt", "c")), "the user speaks where the assistant should: 'b'"),
        ((*TWO, ("gpt", "c")), "the assistant speaks where the user should: 'c'"),
        ((*TWO, ("system", "s"), *TWO), "the system speaks where the user should: 's'"),
        ((("gpt", "a"), ("gpt", "b")), "no answered question"),
        ((("human", "a"), ("human", "b")), "no answered question"),
    ],
)
def test_roles_that_do_not_alternate_are_dropped(turns: Sequence[tuple[str, str]], reason: str) -> None:
    assert by("roles", said(*turns)) == reason


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(instruction="q"),
        Prompt(messages=({"role": "user", "content": "q"},)),
        Prompt(messages=({"role": "system", "content": "s"}, {"role": "user", "content": "q"})),
    ],
)
def test_a_question_alone_is_no_matter_of_roles(prompt: Prompt) -> None:
    chain = Chain(prompt=prompt)
    assert by("roles", chain) is chain


def messages(*said: dict[str, Any], **meta: Any) -> Chain:
    return Chain(prompt=Prompt(messages=said), meta=meta)


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "s"}
CALL = assistant("", tool_calls=[{"id": "1", "function": {"name": "f", "arguments": "{}"}}])
TOOL = {"role": "tool", "tool_call_id": "1", "content": "5"}


@pytest.mark.parametrize(
    "said", [(SYSTEM, user("q")), (user("one?"), assistant("One."), user("q")), (user("q"), CALL, TOOL)]
)
def test_a_gold_answer_answers_the_last_question(said: tuple[dict[str, Any], ...]) -> None:
    chain = messages(*said, reference="gold", rationale="so")
    assert by("roles", chain) is chain


def test_a_gold_answer_goes_with_the_question_that_it_answers() -> None:
    chain = messages(user("one?"), assistant("One."), user("two?"), reference=" ", rationale="so", lang="en")
    outcome = by("roles", chain)
    assert texts(outcome) == ["one?", "One."]
    assert isinstance(outcome, Chain)
    assert outcome.meta == {"lang": "en"}


def test_what_is_cut_at_the_ends_leaves_the_rest_as_it_was() -> None:
    picture = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    asked = {"role": "user", "name": "Ann", "content": picture}
    outcome = by("roles", messages(assistant("Hello."), asked, assistant("A fox."), user("And?")))
    assert isinstance(outcome, Chain)
    assert (outcome.prompt.messages, outcome.answer) == ((asked,), "A fox.")


def test_tools_may_speak_between_turns_of_the_assistant() -> None:
    said = (SYSTEM, user("What is 2 + 3?"), CALL, TOOL, TOOL, assistant("It is 5."), user("And 2 + 4?"))
    for talk in (said, (*said, CALL, TOOL), (*said, CALL, TOOL, user("So?"))):
        outcome = by("roles", messages(*talk))
        assert isinstance(outcome, Chain)
        assert (outcome.prompt.messages, outcome.answer) == (said[:5], "It is 5.")
        for rule in ("empty", "first-pair"):
            assert by(rule, outcome) is outcome
    assert by("roles", messages(user("q"), TOOL, assistant("a"))) == (
        "the tool speaks where the assistant should: '5'"
    )
    assert by("roles", messages(user("q"), CALL, TOOL)) == "no answered question"


def test_the_first_pair_has_what_tools_said_for_it() -> None:
    outcome = by("first-pair", messages(user("q"), CALL, TOOL, assistant("a"), user("q2"), assistant("a2")))
    assert isinstance(outcome, Chain)
    assert (outcome.prompt.messages, outcome.answer) == ((user("q"), CALL, TOOL), "a")


@given(st.lists(st.sampled_from(["human", "gpt", "system"]), min_size=1, max_size=8))
def test_what_roles_keeps_alternates_and_is_a_run_of_what_was_said(roles: list[str]) -> None:
    chain = said(*((role, f"t{i}") for i, role in enumerate(roles)))
    outcome = by("roles", chain)
    if isinstance(outcome, str) or chain.prompt.messages is None:
        return
    talked = [turn for turn in turns_of(outcome) if turn.role != "system"]
    if outcome is chain and [turn.role for turn in talked] == ["user"]:
        return
    assert [turn.role for turn in talked] == ["user", "assistant"] * (len(talked) // 2)
    places = [int(turn.text[1:]) for turn in talked]
    assert places == list(range(places[0], places[0] + len(places)))


def test_first_pair() -> None:
    assert texts(by("first-pair", talk("a", "b", "c", "d"))) == ["a", "b"]
    assert texts(by("first-pair", said(("system", "s"), *TWO, *TWO))) == ["s", "q", "a"]
    assert (
        by("first-pair", said(("human", "a"), ("human", "b"), ("gpt", "c")))
        == "the first question is not answered"
    )


def test_the_first_pair_has_not_the_steps_and_gold_of_the_last() -> None:
    steps = (Step(answer="draft", feedback=Feedback(text="no", verdict="revise")), Step(answer="last"))
    asked = Prompt(messages=(user("a"), assistant("b"), user("c")))
    long = Chain(prompt=asked, steps=steps, best=1, stop="ended", meta={"reference": "gold"})
    outcome = by("first-pair", long)
    assert isinstance(outcome, Chain)
    assert (outcome.steps, outcome.best, outcome.stop) == ((Step(answer="b"),), 0, None)
    assert outcome.meta == {}
    single = long.model_copy(update={"prompt": Prompt(instruction="c")})
    assert by("first-pair", single) is single


ASKED, GOLD = Prompt(instruction="Why?"), {"reference": "So."}


@pytest.mark.parametrize(
    ("rule", "chain", "reason"),
    [
        ("answered", Chain(prompt=ASKED), "no answer"), ("answered", Chain(prompt=ASKED, meta=GOLD), None),
        ("answered", talk("q", "a"), None), ("empty", talk("q", " \n"), "turn 2 (assistant) is empty"),
        ("empty", talk("\u200b", "a"), "turn 1 (user) is empty"),
        ("empty", talk("q", "```python\n```"), "turn 2 (assistant) is empty"),
        ("empty", Chain(), "no question"), ("empty", Chain(steps=(Step(answer="a"),), best=0), "no question"),
        ("short", talk("Hi", " Hello\n "), "7 characters of text, fewer than 16"),
        ("short", talk("Hi", "Hello, my friend."), None), ("short", Chain(prompt=ASKED), None),
        ("short", Chain(prompt=ASKED, meta=GOLD), "7 characters of text, fewer than 16"),
    ],
)  # fmt: skip
def test_what_is_dropped_and_why(rule: str, chain: Chain, reason: str | None) -> None:
    assert by(rule, chain) == (reason or chain)


def test_blocked_words_of_fastchat_are_parts_of_words_anywhere() -> None:
    settings = RuleSettings(blocked=(FASTCHAT,))
    assert by("blocked", talk("q", "As ChatGPT, I"), settings) == (
        "a turn of the assistant contains 'chatgpt', which is in the list fastchat"
    )
    assert not kept("blocked", talk("Are you OpenAI's?", "a"), settings)
    assert kept("blocked", talk("open ai", "chat"), settings)


def test_blocked_words_of_alpaca_are_whole_and_in_the_instruction() -> None:
    settings = RuleSettings(blocked=(ALPACA,))
    assert kept("blocked", Chain(prompt=Prompt(instruction="Describe it.", input="a map")), settings)
    assert kept("blocked", talk("Which photograph?", "This map."), settings)
    assert not kept("blocked", talk("Draw it.", "a"), settings)
    assert not kept("blocked", talk("Go to town.", "a"), settings)
    assert kept("blocked", talk("A cargo to town.", "a"), settings)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("Two:\n\n1. a\n\ntext\n\n1. b\n", True),
        ("1. costs 25 dollars\n1. b", True),  # FastChat's expression overlooks it for the 2
        ("1. a\n   1. b\n   2. c\n2. d\n   1. e", False),
        ("# One\n1. a\n# Two\n1. b", False),
        ("First:\n1. a\n\nSecond:\n1. b", False),
        ("```\n1. a\n1. b", False),
        ("````\n1. a\n```\n1. b\n````\n1. c", False),
    ],
)
def test_wrong_format(text: str, broken: bool) -> None:
    assert kept("wrong-format", talk("q", text)) != broken


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("What is a fox", True), ("A fox?", True), ("“Is it?” ", True), ("ما هو الثعلب؟", True),
        ("hey, can you write a poem", True), ("What’s that", True), ("Do the following steps.", False),
        ("Describe a fox.", False), ("", False),
    ],
)  # fmt: skip
def test_questions(text: str, question: bool) -> None:
    assert is_question(text) == question
    assert kept("question", talk(text, "a")) == question


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Would you like more? 😊", True), ("**Shall we?**", True), ('She asked: "Why?"', True),
        ("Why? Because.", False), ("", False),
    ],
)  # fmt: skip
def test_answers_that_end_in_a_question(text: str, question: bool) -> None:
    assert ends_in_question(text) == question
    assert kept("answer-question", talk("q", text)) != question


ENGLISH = "The quick brown fox jumps over the lazy dog and runs into the woods."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und läuft in den Wald."


def test_language() -> None:
    english = RuleSettings(languages=frozenset({"en"}))
    assert kept("language", talk(ENGLISH, ENGLISH), english)
    assert by("language", talk(GERMAN, GERMAN), english) == "the language is de, not en"
    assert kept("language", talk(GERMAN, GERMAN), RuleSettings(languages=frozenset({"en", "de"})))
    for unknown in (("Was ist das?", "12345"), ("1 + 1", "2 " * 100), ("q", f"```\n{GERMAN * 3}\n```")):
        assert kept("language", talk(*unknown), english)


def alpaca(answer: str) -> Chain:
    return chain_of({"instruction": "Tell me of the sea and its tides, please.", "output": answer})


@pytest.mark.parametrize(
    ("rule", "answer", "settings"),
    [
        ("blocked", "OpenAI made me, I cannot say.", RuleSettings(blocked=(FASTCHAT,))),
        ("wrong-format", "1. Spring tide\n1. Neap tide", RuleSettings()),
        (
            "language",
            "Das Meer steigt und fällt zweimal am Tag, und der Mond zieht es jedes Mal zu sich heran. " * 2,
            RuleSettings(languages=frozenset(("en",))),
        ),
        ("empty", " \u200b\n", RuleSettings()),
        ("answered", " ", RuleSettings()),
        ("answer-question", "What do you know already?", RuleSettings()),
    ],
)
def test_a_gold_answer_is_judged_as_the_same_text_in_a_talk(
    rule: str, answer: str, settings: RuleSettings
) -> None:
    same = talk("Tell me of the sea and its tides, please.", answer)
    assert rule == "answered" or not kept(rule, same, settings)
    assert not kept(rule, alpaca(answer), settings)
    assert kept(rule, alpaca("The tide comes twice a day, and it follows the moon."), settings)


def test_a_gold_answer_is_judged_with_its_rationale() -> None:
    meta = {"reference": "4", "rationale": "ChatGPT says: I add."}
    chain = Chain(prompt=Prompt(instruction="What is 2 + 2?"), meta=meta)
    assert not kept("blocked", chain, RuleSettings(blocked=(FASTCHAT,)))
