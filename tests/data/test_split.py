"""Splitting conversations: nothing is lost, pieces fit, and a human speaks first."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, RoleUsage, Step, Usage
from redraft.chain.read.records import chain_of
from redraft.chain.spans import spans_of
from redraft.data.split import TURN_TOKENS, SplitPart, parts_of
from redraft.jobs.formats import TrainingFormat

Message = dict[str, Any]


def words(text: str) -> int:
    return len(text.split())


def talk(*sizes: int, system: str = "") -> Chain:
    turns = [{"from": ("human", "gpt")[i % 2], "value": f"t{i} " * size} for i, size in enumerate(sizes)]
    head = [{"from": "system", "value": system}] if system else []
    return chain_of({"conversations": head + turns}).model_copy(update={"id": "talk"})


def messages_of(chain: Chain) -> list[Message]:
    said = [dict(each) for each in chain.prompt.messages or ()]
    if chain.prompt.messages is None and chain.prompt.instruction:
        said = [{"role": "user", "content": chain.prompt.instruction}]
    if chain.steps:
        said.append(chain.meta.get("message", {"role": "assistant", "content": chain.answer}))
    return said


def joined(pieces: Sequence[SplitPart], system: Sequence[Message] = ()) -> list[Message]:
    def parts() -> Iterator[Message]:
        yield from system
        for piece in pieces:
            said = messages_of(piece.chain)
            assert said[: len(system)] == list(system)
            yield from said[len(system) :]

    return list(parts())


def test_a_short_conversation_is_left_as_it_is() -> None:
    chain = talk(5, 5, 5, 5)
    (piece,) = parts_of(chain, words, limit=20 + 4 * TURN_TOKENS)
    assert piece.chain is chain
    assert piece.tokens == 20 + 4 * TURN_TOKENS


def test_characters_that_a_tokenizer_takes_apart_are_counted() -> None:
    def count(text: str) -> int:
        return len(unicodedata.normalize("NFKC", text))

    pieces = parts_of(said(*["\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 10] * 4), count, limit=400)
    assert [piece.tokens for piece in pieces] == [2 * (180 + TURN_TOKENS) + 1] * 2


def said(*texts: str) -> Chain:
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
    return chain_of({"conversations": turns})


def test_as_many_exchanges_as_fit_make_a_piece() -> None:
    pieces = parts_of(talk(*[10] * 10), words, limit=4 * (10 + TURN_TOKENS))
    assert [piece.chain.id for piece in pieces] == ["talk#1", "talk#2", "talk#3"]
    assert [len(messages_of(piece.chain)) for piece in pieces] == [4, 4, 2]
    assert [piece.tokens for piece in pieces] == [64, 64, 32]


def test_a_last_pair_that_overflows_is_not_lost() -> None:
    chain = talk(10, 10, 10, 10)
    pieces = parts_of(chain, words, limit=2 * (10 + TURN_TOKENS))
    assert len(pieces) == 2
    assert (pieces[0].chain.prompt.messages, pieces[0].chain.prompt.instruction) == (None, "t0 " * 10)
    assert (pieces[1].chain.answer, joined(pieces)) == (chain.answer, messages_of(chain))


def test_the_system_message_is_in_each_piece_and_counts() -> None:
    chain = talk(10, 10, 10, 10, system="Be kind to me")
    pieces = parts_of(chain, words, limit=2 * (10 + TURN_TOKENS) + 4 + TURN_TOKENS)
    assert [piece.tokens for piece in pieces] == [42, 42]
    assert joined(pieces, [{"role": "system", "content": "Be kind to me"}]) == messages_of(chain)
    assert len(parts_of(chain, words, limit=4 * (10 + TURN_TOKENS))) == 2


def test_steps_cost_and_gold_answer_go_with_the_answer_they_belong_to() -> None:
    steps = (Step(answer="a " * 10, feedback=Feedback(text="no", verdict="revise")), Step(answer="b " * 10))
    chain = talk(10, 10, 10, 10).model_copy(
        update={
            "steps": steps, "best": 1, "stop": "ended", "usage": Usage(completion_tokens=9),
            "usage_by_role": {"writer": RoleUsage(completion_tokens=9)},
            "meta": {"reference": "gold", "origin": {"dataset": "x"}},
        }
    )  # fmt: skip
    first, last = (piece.chain for piece in parts_of(chain, words, limit=40))
    assert (last.steps, last.best, last.stop, last.meta) == (steps, 1, "ended", chain.meta)
    assert (first.usage.completion_tokens, last.usage.completion_tokens) == (0, 9)
    assert (first.usage_by_role, last.usage_by_role) == ({}, chain.usage_by_role)
    assert (first.steps, first.meta) == ((Step(answer="t1 " * 10),), {"origin": {"dataset": "x"}})
    assert first.stop is None


def test_drafts_and_feedback_count_as_they_are_trained_on() -> None:
    plain = talk(10, 10)
    drafts = (Step(answer="x " * 50, feedback=Feedback(text="y " * 50, verdict="revise")), plain.steps[0])
    chain = plain.model_copy(update={"steps": drafts, "best": 1})
    assert parts_of(chain, words)[0].tokens > parts_of(plain, words)[0].tokens + 100


def test_what_a_message_has_beside_its_text_stays() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    said: list[Message] = [
        {"role": "user", "content": [{"type": "text", "text": "x " * 20}, {"type": "image_url"}]},
        call,
        {"role": "user", "content": "x " * 20, "name": "Ann"},
        {"role": "assistant", "content": "fine"},
    ]
    pieces = parts_of(chain_of({"messages": said}), words, limit=30)
    assert (len(pieces), pieces[0].chain.meta["message"]) == (2, call)
    assert joined(pieces) == said


def test_a_conversation_without_turns_is_one_piece() -> None:
    for chain in (Chain(), Chain(prompt=Prompt(messages=())), Chain(steps=(Step(answer="a"),), best=0)):
        assert [piece.chain for piece in parts_of(chain, words, limit=0)] == [chain]


ROLES = st.sampled_from(["user", "assistant", "tool", "system"])
EMPTY = (("user", ""), ("assistant", "a"), ("user", ""), ("assistant", "a"))
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": st.text("a ", max_size=30)}, optional={"name": st.just("Ann")}
    ),
    min_size=1,
    max_size=12,
)


@given(MESSAGES, st.integers(0, 80), st.sampled_from(["chat", "vicuna", "selfee"]))
@example([{"role": role, "content": text} for role, text in EMPTY], 0, "chat")
def test_pieces_joined_are_the_conversation(said: list[Message], limit: int, form: TrainingFormat) -> None:
    chain = chain_of({"messages": said})
    pieces = parts_of(chain, words, limit, form)
    system = []
    for message in said:
        if message["role"] != "system":
            break
        system.append(message)
    if len(pieces) > 1:
        assert joined(pieces, system) == [*said[:-1], messages_of(chain)[-1]]
    for number, piece in enumerate(pieces):
        begins = messages_of(piece.chain)[len(system) :]
        if number:
            assert begins[0]["role"] == "user"
        humans = sum(
            message["role"] == "user" and (i == 0 or begins[i - 1]["role"] != "user")
            for i, message in enumerate(begins)
        )
        assert piece.tokens <= limit or humans <= 1


@pytest.mark.parametrize("form", ["selfee", "alpaca", "vicuna", "stablevicuna"])
def test_pieces_fit_as_training_texts(form: TrainingFormat) -> None:
    for limit in (90, 120, 150):
        pieces = parts_of(talk(*[4, 6] * 18, system="Be brief."), words, limit, form)
        assert len(pieces) > 1
        for piece in pieces:
            spans = spans_of(piece.chain, form, "full")
            text = "".join(span.text for span in spans)
            assert piece.tokens == 1 + words(text) + sum(span.stop for span in spans) <= limit
        longer = parts_of(talk(*[4, 6] * 18, system="Be brief."), words, pieces[0].tokens - 1, form)
        assert len(messages_of(longer[0].chain)) == len(messages_of(pieces[0].chain)) - 2


def test_what_a_format_cannot_write_counts_as_its_texts() -> None:
    (piece,) = parts_of(Chain(prompt=Prompt(instruction="q " * 50)), words, 30, "selfee")
    assert piece.tokens == 50 + TURN_TOKENS


def gold(question: int, rationale: int, answer: int) -> Chain:
    meta = {"reference": "g " * answer, "rationale": "r " * rationale}
    return Chain(id="gold", prompt=Prompt(instruction="q " * question), meta=meta)


def test_a_gold_answer_counts_with_its_rationale_as_export_writes_both() -> None:
    (piece,) = parts_of(gold(5, 40, 3), words, limit=20)
    assert piece.tokens == 48 + 2 * TURN_TOKENS


def test_a_gold_answer_goes_with_the_last_question() -> None:
    said = tuple({"role": ("user", "assistant")[i % 2], "content": "w " * 5} for i in range(3))
    chain = Chain(id="talk", prompt=Prompt(messages=said), meta={"reference": "g " * 30})
    first, last = parts_of(chain, words, limit=50)
    assert (first.tokens, last.tokens) == (10 + 2 * TURN_TOKENS, 35 + 2 * TURN_TOKENS)
    assert last.chain.meta["reference"] == "g " * 30


def test_what_is_of_the_whole_is_in_each_piece() -> None:
    whole = {"origin": {"dataset": "d"}, "source": {"task": "t"}, "lang": "en"}
    chain = talk(5, 5, 5, 5).model_copy(update={"meta": {**whole, "reference": "x", "tests": ["y"]}})
    first, last = parts_of(chain, words, limit=30)
    assert (first.chain.meta, last.chain.meta) == (whole, chain.meta)
